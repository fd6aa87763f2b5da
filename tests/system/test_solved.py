"""Children with a solved head, and parents that a closed-form probe ranks."""

from __future__ import annotations

import json

import pytest
import system_samples as samples

import keras_munet
from keras_munet import report
from keras_munet.report import events
from keras_munet.report import log
from keras_munet.report import page as report_page
from keras_munet.report import summary
from keras_munet.store import system_dir

# So little training that nothing but the floor is worth anything.
_POOR = {
    "num_task_iters": 1,
    "num_samples_per_task": 2,
    "children_per_generation": 1,
    "num_validations_per_path_training": 1,
    "num_train_examples_between_validations_max": 32,
    "hparams": {"opt_lr": 0.0001, "ds_crop": False},
    "ranges": {},
}
_SEARCH = {"probe_child": True, "rank_parents": "probe"}


def _settings(**changes):
    return samples.settings(**{**_POOR, "search": _SEARCH, **changes})


def _events(workdir, name):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if event["event"] == name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two tasks of which the second ranks the first one's path."""
    workdir = tmp_path_factory.mktemp("solved")
    system = keras_munet.System.create(
        workdir, _settings(task_names=["glyphs/digits", "digits"])
    )
    system.run(progress=keras_munet.Progress(workdir, quiet=True))
    return workdir


def test_no_task_is_below_a_linear_probe_on_validation(finished):
    system = keras_munet.System.open(finished)
    crew = system._runner.executor("auto")
    measured = system.evaluate()
    for name, state in system.tasks.items():
        (head,) = crew.heads([system.root], system.data(name))
        quality = state.published.metrics["quality"]
        # Not so by chance: what was trained has learned nothing.
        assert quality >= head.accuracy > 0.5
        assert measured[name]["validation_accuracy"] == quality
        children = [
            child
            for event in _events(finished, "generation")
            if (event["task"], event["number"]) == (name, 1)
            for child in event["children"]
        ]
        trained, solved = children
        assert solved["improved"] and not solved["trained"]
        assert trained["score"] < solved["score"] - 0.2
    assert system.check() == []


def test_a_solved_child_shares_all_but_a_head_of_its_own(tmp_path):
    system = keras_munet.System.create(
        tmp_path, _settings(task_names=["digits"], num_samples_per_task=1)
    )
    system.run()
    *below, head = system.tasks["digits"].published.components
    assert below == list(system.root.components[:-1])
    assert head.id != system.root.components[-1].id
    assert system._dir.objects.get(head).momentum is None


def test_what_a_solved_child_is_stands_in_history_log_and_report(finished):
    history = events.read_history(finished)
    assert history.notes == ()
    records = [g.records[-1] for g in history.generations if g.number == 1]
    assert [r.num_by_init["solved"] for r in records] == [1, 1]
    lines = [text for e in log.entries(finished) for text in log.lines(e)]
    assert any(line.endswith(", 1 solved") for line in lines)
    assert any("iteration 1 ranked: " in line for line in lines)
    assert "RANKED PARENTS\ndigits, iteration 1: " in report.text(finished)
    page = report_page.render_page(summary.read_summary(finished))
    assert "<li>digits, iteration 1: " in page


def test_the_ranking_is_an_event_and_chooses_the_parent(finished):
    (ranked,) = _events(finished, "ranked")
    assert (ranked["task"], ranked["iteration"]) == ("digits", 0)
    assert 0 < ranked["num_train_examples"] <= 2048
    assert {p["task"] for p in ranked["paths"]} == {
        "NOT_TRAINABLE",
        "glyphs/digits",
    }
    accuracies = [p["accuracy"] for p in ranked["paths"]]
    assert accuracies == sorted(accuracies, reverse=True)
    first, _ = (
        e["children"]
        for e in _events(finished, "generation")
        if e["task"] == "digits"
    )
    solved = first[-1]
    assert solved["parent"] == ranked["paths"][0]["path_id"]
    assert solved["score"] == pytest.approx(accuracies[0], abs=0.01)


@pytest.mark.parametrize("num_before", [1, 3])
def test_a_run_that_was_stopped_ends_the_same(finished, tmp_path, num_before):
    asked: list[int] = []
    progress = keras_munet.Progress(
        tmp_path,
        quiet=True,
        stop=lambda: asked.append(1) or len(asked) == num_before,
    )
    settings = _settings(task_names=["glyphs/digits", "digits"])
    with pytest.raises(KeyboardInterrupt):
        keras_munet.System.create(tmp_path, settings).run(progress=progress)
    keras_munet.System.open(tmp_path).run(
        progress=keras_munet.Progress(tmp_path, quiet=True)
    )
    assert samples.digests(tmp_path) == samples.digests(finished)
    assert len(_events(tmp_path, "ranked")) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"factorized": ["head"]},
        {"hparams": {"opt_name": "adamw", "ds_crop": False}},
        {"search": {"probe_child": True, "version": "munet"}},
        {"search": {"probe_child": True, "score_base": 0.5}},
    ],
)
def test_a_solved_head_goes_with_other_options(changes, tmp_path):
    settings = _settings(
        task_names=["digits"],
        **{"num_samples_per_task": 3, "search": _SEARCH, **changes},
    )
    system = keras_munet.System.create(tmp_path, settings)
    progress = keras_munet.Progress(tmp_path, quiet=True)
    system.run(progress=progress)
    path = system.tasks["digits"].published
    assert path.metrics["quality"] > 0.5
    assert system.check() == []
    solved = _events(tmp_path, "generation")[0]["children"][-1]
    assert path.score >= solved["score"]


def test_a_linear_probe_is_solved_and_trains_nothing(tmp_path):
    settings = _settings(
        task_names=["digits"],
        search={**_SEARCH, "policy": "linear_probe"},
    )
    system = keras_munet.System.create(tmp_path, settings)
    system.run(progress=keras_munet.Progress(tmp_path, quiet=True))
    ((child,),) = (e["children"] for e in _events(tmp_path, "generation"))
    assert child["trained"] == [] and len(child["scores"]) == 1
    crew = keras_munet.System.open(tmp_path)._runner.executor("auto")
    (head,) = crew.heads([system.root], system.data("digits"))
    assert child["score"] == pytest.approx(head.accuracy, abs=0.01)
    assert system_dir.SystemDir.open(tmp_path).check() == []
