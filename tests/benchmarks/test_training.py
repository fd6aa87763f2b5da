"""The tables of the training benchmark say what was measured."""

from __future__ import annotations

import importlib
import json
import pathlib
import subprocess
import sys

import pytest

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    return importlib.import_module("training_tables")


def _rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "---" not in line
    ]


def test_a_longer_run_adds_the_pace_of_the_later_cycles(tables):
    run = {
        "num_children": 16,
        "num_generations": 2,
        "num_cycles": 5,
        "num_steps": 10,
        "num_published_steps": 100,
        "secs": 32.0,
        "later_step_secs": 0.2,
        "flax_child_step_secs": 0.08,
        "authors_beside_secs": 2.0,
    }
    short, published = tables.characters_rates(run)
    assert short == {"steps": 50, "ours": 2.0, "authors": 6.0}
    assert published["steps"] == 500
    assert published["ours"] == pytest.approx(2.0 + 450 * 2 * 0.2 / 16)
    assert published["authors"] == pytest.approx(42.0)


def test_steps_are_shown_as_images_a_second_and_as_shares_of_the_peak(tables):
    shape = {"num_layers": 3, "image_size": 32, "batch_size": 100}
    program = {"version": "1", "ready": 1.0, "num_params": 5}
    counts = {"model_macs": 10**9, "needed_macs": 8 * 10**8}
    step = {
        "shape": shape,
        "said": {
            "ours": {**program, **counts, "input_secs": 0.05},
            "flax": program,
            "matmul 2048": {"flop": 10**12},
        },
        "secs": {"ours": 0.5, "flax": 1.0, "matmul 2048": 1.25},
    }
    text = tables.text({"header": "a machine", "steps": [step]})
    rows = _rows(text)
    name = "3 layers, 32 px, batch 100"
    assert text.startswith("a machine\n")
    assert [name, "200", "100 (2.00)", "10%"] in rows
    # 2 * 10**9 * 100 in 0.5 s, of 8 * 10**11 a second.
    assert [name, "200.0", "800", "50%", "25%", "40%"] in rows


def test_ratios_of_generations_are_averaged_by_probability(tables):
    def timing(mu, number, ratio):
        return {
            "mu": mu,
            "number": number,
            "size": 2.0,
            "secs": 2.0 * ratio,
            "single_secs": 1.0,
            "ratio": ratio,
        }

    timings = [timing(0.1, 0, 1.0), timing(0.1, 0, 1.2), timing(0.2, 0, 1.4)]
    timings.append(timing(0.2, 3, 0.5))
    rows = _rows(tables.text({"header": "", "fused": timings}))
    ratios = {row[0]: row[4] for row in rows[1:]}
    assert ratios == {
        "mu 0.1, children of the root": "1.10",
        "mu 0.2, children of the root": "1.40",
        "mu 0.2, later generations": "0.50",
        "all children of the root": "1.20",
    }


@pytest.mark.slow
def test_the_command_measures_and_writes_table_and_plot(tmp_path):
    subprocess.run(
        [
            *(sys.executable, str(_FOLDER / "training.py"), "--tiny"),
            *("--parts=c,e", f"--out={tmp_path}"),
        ],
        check=True,
    )
    text = (tmp_path / "training.md").read_text()
    for title in ("Fused generations", "Growth"):
        assert f"## {title}" in text
    found = json.loads((tmp_path / "training.json").read_text())
    assert len(found["fused"]) == 4
    assert all(timing["ratio"] > 0 for timing in found["fused"])
    assert (tmp_path / "training.svg").read_text().count("<svg") == 1


def test_what_cannot_be_measured_is_refused_before_anything_is(tmp_path):
    for option in ("--parts=a,z", "--parts=ti3", "--peers=caffe"):
        done = subprocess.run(
            [
                *(sys.executable, str(_FOLDER / "training.py")),
                *(option, f"--out={tmp_path / 'out'}"),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert not (tmp_path / "out").exists()
