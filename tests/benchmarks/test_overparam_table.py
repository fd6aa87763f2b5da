"""The table of ways to train compact networks, from lines made by hand."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib

import overparam_samples as samples
import pytest

from keras_munet.overparam import contraction
from keras_munet.overparam.experiments import run
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import sources
from keras_munet.train.devices import strategy

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
_OUTPUTS = {
    "camvid": {"segmentation": 11, "line": 1, "presence": 11},
    "mnist_kmnist": {"first": 10, "second": 10},
}


@pytest.fixture
def table_lib(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    return importlib.import_module("overparam_table")


def _flags(table_lib, **changes):
    flags = {
        "data": "camvid",
        "data_dir": "folder",
        "norm": "yes",
        "seeds": "0,1",
        "decays": "0,0.1",
        "rates": "0.01",
        "times": 1,
        "ways": list(table_lib.WAYS),
    }
    return argparse.Namespace(**{**flags, **changes})


def _line(way, decay, seed, validation, test, epochs=10, rate=0.01):
    def of(value):
        return {
            "edges": {"average_precision": value, "best_f1": 0.9},
            "segmentation": {"miou": value, "pixel_accuracy": 0.9},
        }

    return {
        "way": way,
        "metrics": of(test),
        "validation": of(validation),
        "cost": {
            "num_steps": 1000,
            "trained_params": 20,
            "deployed_params": 10,
            "multiply_adds": 3e6,
        },
        "settings": {
            "data": "camvid",
            "norm": True,
            "num_epochs": epochs,
            "seed": seed,
            "weight_decay": decay,
            "learning_rate": rate,
        },
    }


def _rows(table_lib, tmp_path, lines):
    """Returns heading -> rows of cells, by the first of each."""
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tables = {}
    for part in table_lib.table(path).split("### ")[1:]:
        title, *rows = filter(None, part.splitlines())
        cells = [[c.strip() for c in row.split("|")[1:-1]] for row in rows]
        head, _, *rows = cells
        tables[title] = {
            row[0]: dict(zip(head, row, strict=True)) for row in rows
        }
    return tables


def test_the_decay_is_chosen_on_validation_and_differences_are_paired(
    table_lib, tmp_path
):
    lines = [
        _line("plain", 0.0, 0, 0.5, 0.40),
        _line("plain", 0.0, 1, 0.5, 0.50),
        # Better on test data alone: not chosen.
        _line("plain", 0.1, 0, 0.4, 0.90),
        _line("plain", 0.1, 1, 0.4, 0.90),
        # Best on validation data, of one seed alone: not chosen.
        _line("plain", 0.2, 0, 0.9, 0.90),
        _line("task factors", 0.0, 0, 0.1, 0.10),
        _line("task factors", 0.0, 1, 0.1, 0.10),
        _line("task factors", 0.1, 0, 0.2, 0.42, rate=0.003),
        _line("task factors", 0.1, 1, 0.2, 0.54, rate=0.003),
    ]
    (rows,) = _rows(table_lib, tmp_path, lines).values()
    plain, own = rows["plain"], rows["task factors"]
    assert plain["weight decay"] == "0 of 0, 0.1, 0.2"
    assert plain["mean of tasks"] == "45.0" and plain["minus plain"] == ""
    assert own["weight decay"] == "0.1 of 0, 0.1"
    assert own["rate"] == "0.003 of 0.003, 0.01"
    assert own["segmentation, miou"] == "48.0"
    # 2 and 4 points: 3, and 12.71 times the standard error 1.
    assert own["minus plain"] == "+3.0 ± 12.7"
    assert own["batches"] == "1,000" and own["multiply-adds"] == "3.0 M"


def test_more_batches_stand_with_the_budget_that_they_are_compared_to(
    table_lib, tmp_path
):
    lines = [
        _line("plain", 0.0, 0, 0.5, 0.4),
        _line("plain", 0.0, 0, 0.5, 0.6, epochs=30),
        _line("task factors", 0.0, 0, 0.5, 0.7, epochs=30),
        _line("task factors, equal shared steps", 0.0, 0, 0.5, 0.5, epochs=30),
    ]
    tables = _rows(table_lib, tmp_path, lines)
    assert {title: set(rows) for title, rows in tables.items()} == {
        "camvid, with batch norms, 10 epochs": {
            *("plain", "task factors, equal shared steps"),
        },
        "camvid, with batch norms, 30 epochs": {"plain", "task factors"},
    }


@pytest.mark.parametrize("data", ["camvid", "mnist_kmnist"])
def test_ways_differ_in_what_they_name_alone(table_lib, data):
    runs = table_lib.settings_of(_flags(table_lib, data=data))
    assert len(runs) == 2 * 2 * len(table_lib.WAYS)
    by_way = dict(reversed(runs))
    plain = by_way["plain"].to_json()
    differing = {
        way: {k for k, v in settings.to_json().items() if v != plain[k]}
        for way, settings in by_way.items()
    }
    assert differing == {
        "plain": set(),
        "common factor": {"method"},
        "common factors, depth 3": {"method", "depth"},
        "task factors": {"method"},
        "task factors, depth 3": {"method", "depth"},
        "task factors, equal shared steps": {"method", "num_epochs"},
        "single-task networks": {"method", "width"},
    }
    longer = by_way["task factors, equal shared steps"].num_epochs
    assert longer == (len(_OUTPUTS[data]) + 1) * plain["num_epochs"]


@pytest.mark.parametrize("data", ["camvid", "mnist_kmnist"])
def test_single_task_networks_have_about_the_size_of_one_for_all(
    table_lib, data
):
    by_way = dict(table_lib.settings_of(_flags(table_lib, data=data)))
    tasks = list(_OUTPUTS[data].items())

    def num_params(way, outputs):
        tasks = [
            tasks_lib.Task(t, tasks_lib.SEGMENTATION, n) for t, n in outputs
        ]
        return contraction.num_params(run.make_network(by_way[way], tasks))

    whole = num_params("plain", tasks)
    apart = sum(num_params("single-task networks", [task]) for task in tasks)
    assert 0.8 < apart / whole < 1.25


def test_runs_that_are_finished_are_not_repeated(table_lib, tmp_path):
    flags = _flags(table_lib, ways=["plain"])
    runs = table_lib.settings_of(flags)
    path = tmp_path / "lines.jsonl"
    path.write_text(
        "".join(
            json.dumps({"way": way, "settings": settings.to_json()}) + "\n"
            for way, settings in runs
        )
    )
    before = path.read_text()
    # With one to do, it would look for data in a folder that is not there.
    table_lib.run(path, runs)
    assert path.read_text() == before


@pytest.mark.slow
def test_a_network_that_comes_back_trains_as_a_new_one(
    table_lib, tmp_path, monkeypatch
):
    settings = samples.settings(method="overparam", num_epochs=2)
    data = sources.load_source(settings)
    one_device = strategy.make_strategy("one_device")

    def measured(seed, folder):
        seeded = dataclasses.replace(settings, seed=seed)
        result = run.run(
            seeded, str(tmp_path / folder), one_device, data=data, say=str
        )
        return result["metrics"], result["validation"]

    new = measured(1, "new")
    made = []
    reusing = table_lib._reusing(run.make_network)
    monkeypatch.setattr(
        run,
        "make_network",
        lambda *args: made.append(reusing(*args)) or made[-1],
    )
    assert measured(0, "other") != new
    assert measured(1, "again") == new
    assert made[0] is made[1]
