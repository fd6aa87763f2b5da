"""Runs of several methods: what runs, what is skipped, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import system_samples

import keras_munet
from keras_munet import errors
from keras_munet.compare import methods as methods_lib
from keras_munet.compare import runs
from keras_munet.models.vit import flops
from keras_munet.system import validation

_METHODS = ("mu2net", "linear_probe")
_SEEDS = (3, 4)
_NUM_EXAMPLES = 128


def _settings(**changes):
    """One task; one generation of two children with one cycle each."""
    values = {
        "task_names": ["digits"],
        "num_task_iters": 1,
        "num_samples_per_task": 2,
        "children_per_generation": 2,
        "num_validations_per_path_training": 1,
        "num_train_examples_between_validations_max": _NUM_EXAMPLES,
        "num_validation_examples_max": 64,
    }
    return system_samples.settings(**{**values, **changes})


def _comparison(workdir, methods=_METHODS, seeds=_SEEDS, **changes):
    parsed = methods_lib.parse(methods)
    return runs.Comparison(workdir, _settings(**changes), parsed, seeds)


def _json(workdir):
    return json.loads((workdir / "comparison.json").read_text())


def _keys(workdir):
    return [(r["method"], r["seed"]) for r in _json(workdir)["runs"]]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A comparison that was interrupted, was too late, and then went on.

    Returns the directory and, after each of these, the runs it reports.
    """
    workdir = tmp_path_factory.mktemp("comparison") / "work"
    asked, seen = [], []
    with pytest.raises(KeyboardInterrupt):
        _comparison(workdir).run(
            quiet=True, stop=lambda: asked.append(1) or len(asked) == 2
        )
    seen.append(_keys(workdir))
    late = _comparison(workdir).run(quiet=True, deadline_secs=0.0)
    seen.append(dict(late.missing_runs))
    assert _comparison(workdir).run(quiet=True).missing_runs == {}
    return workdir, seen


def test_an_interrupted_comparison_reports_what_is_finished(jobs):
    _, (after_interrupt, _) = jobs
    assert after_interrupt == [("mu2net", 3)]


def test_after_the_deadline_nothing_begins_and_the_missing_are_named(jobs):
    _, (_, missing) = jobs
    assert missing == {
        ("linear_probe", 3): runs.NOT_FINISHED,
        ("mu2net", 4): runs.NOT_STARTED,
        ("linear_probe", 4): runs.NOT_STARTED,
    }


def test_runs_go_seed_by_seed(jobs):
    workdir, _ = jobs
    assert _keys(workdir) == [(m, s) for s in _SEEDS for m in _METHODS]


def test_each_run_is_the_system_that_it_would_be_alone(jobs, tmp_path):
    workdir, _ = jobs
    # This one was interrupted, too.
    method = "linear_probe"
    settings = methods_lib.Method.parse(method).settings(_settings(), 3)
    keras_munet.System.create(tmp_path / "alone", settings).run()
    assert system_samples.digests(tmp_path / "alone") == (
        system_samples.digests(workdir / method / "seed_3")
    )


def test_the_record_is_what_the_system_holds(jobs):
    workdir, _ = jobs
    system = keras_munet.System.open(workdir / "mu2net" / "seed_4")
    path = system.tasks["digits"].published
    found = next(
        run
        for run in _json(workdir)["runs"]
        if (run["method"], run["seed"]) == ("mu2net", 4)
    )
    (task,) = found["tasks"]
    assert task["task"] == "digits"
    assert task["test"] == path.metrics["test_quality"]
    assert task["validation"] == path.metrics["quality"]
    assert task["num_params"] == path.num_params
    # One task alone shares with nobody.
    assert task["accounted_params"] == path.num_params
    assert task["train_secs"] > 0
    assert task["cpu_secs"] > 0


def test_training_is_counted_in_multiply_adds_of_all_examples(jobs):
    workdir, _ = jobs
    system = keras_munet.System.open(workdir / "linear_probe" / "seed_3")
    state = system.tasks["digits"]
    layout = system.family.layout(state.published.hparams, state.num_classes)
    costs = flops.forward_costs(layout)
    per_image = sum(costs.values())
    (task,) = next(
        run["tasks"]
        for run in _json(workdir)["runs"]
        if (run["method"], run["seed"]) == ("linear_probe", 3)
    )
    assert task["image_multiply_adds"] == per_image
    # A linear probe reads each training image once.
    num_examples = len(system.data("digits").train)
    assert task["train_multiply_adds"] == num_examples * per_image


def test_a_finished_comparison_needs_no_data(jobs, monkeypatch):
    workdir, _ = jobs
    before = _json(workdir)

    def refuse(*args):
        raise errors.DataError("no data today")

    monkeypatch.setattr(validation, "load_tasks", refuse)
    _comparison(workdir).run(quiet=True)
    assert _json(workdir) == before


def test_what_only_the_events_tell_is_unknown_without_them(jobs, tmp_path):
    workdir = shutil.copytree(jobs[0], tmp_path / "work")
    (workdir / "mu2net" / "seed_3" / "metrics.jsonl").unlink()
    found = _comparison(workdir).run(quiet=True, deadline_secs=0.0)
    (task,) = found.run("mu2net", 3).tasks
    assert task.train_multiply_adds is None and task.train_secs is None
    assert task.test > 0


def test_a_report_that_is_damaged_or_gone_is_made_again(jobs):
    workdir, _ = jobs
    before = _json(workdir)
    for damage in ("{", "[]"):
        (workdir / "comparison.json").write_text(damage)
        _comparison(workdir).run(quiet=True)
        assert _json(workdir) == before


def test_more_methods_and_seeds_may_be_asked_for_later(jobs, tmp_path):
    workdir = shutil.copytree(jobs[0], tmp_path / "work")
    found = _comparison(workdir, ["munet", "mu2net"], [4, 5]).run(
        quiet=True, deadline_secs=0.0
    )
    assert [(run.method, run.seed) for run in found.runs] == [("mu2net", 4)]
    assert len(found.missing_runs) == 3


def test_a_directory_of_another_experiment_is_refused_unchanged(jobs):
    workdir, _ = jobs
    before = system_samples.digests(workdir)
    for changes in ({"batch_size": 32}, {"num_task_iters": 2}):
        with pytest.raises(errors.UsageError, match="another experiment"):
            _comparison(workdir, **changes)
    assert system_samples.digests(workdir) == before


def test_a_system_is_no_place_for_a_comparison(jobs):
    workdir, _ = jobs
    with pytest.raises(errors.UsageError, match="holds a system itself"):
        _comparison(workdir / "mu2net" / "seed_3")


def test_a_run_that_fails_is_reported_and_the_others_go_on(
    jobs, tmp_path, monkeypatch
):
    workdir = shutil.copytree(jobs[0], tmp_path / "work")

    def diverge(self, **kwargs):
        raise errors.ChildError("no child reached a finite score")

    monkeypatch.setattr(keras_munet.System, "run", diverge)
    methods = ["finetune_all", "adapters:8", "mu2net"]
    found = _comparison(workdir, methods, [3]).run(quiet=True)
    reason = "failed (no child reached a finite score)"
    assert found.missing_runs == {
        ("finetune_all", 3): reason,
        ("adapters:8", 3): reason,
    }
    assert _keys(workdir) == [("mu2net", 3)]


def test_a_version_evolves_and_a_baseline_keeps_the_rest():
    base = _settings(search={"policy": "adapters:8", "score_base": 0.9})
    evolved = methods_lib.Method.parse("munet").settings(base, 7)
    assert evolved.seed == 7
    assert evolved.search.version == "munet"
    assert evolved.search.policy == "evolve"
    assert evolved.search.score_base == 0.9
    ranked = dataclasses.replace(
        base,
        search=dataclasses.replace(
            base.search, rank_parents="probe", probe_child=True
        ),
    )
    for name, rank_parents in (("munet", "sampled"), ("mu2net", "probe")):
        search = methods_lib.Method.parse(name).settings(ranked, 7).search
        assert search.rank_parents == rank_parents
        assert search.probe_child == (name == "mu2net")
    baseline = methods_lib.Method.parse("linear_probe").settings(base, 7)
    assert baseline.search.policy == "linear_probe"
    assert baseline.search.version == base.search.version


def test_folders_are_plain_names():
    folders = [
        methods_lib.Method.parse(text).folder(2)
        for text in ("mu2net", "freeze_bottom_layers:0", "adapters:16")
    ]
    assert folders == [
        "mu2net/seed_2",
        "freeze_bottom_layers-0/seed_2",
        "adapters-16/seed_2",
    ]


@pytest.mark.parametrize(
    "text", ["evolve", "mu3net", "adapters", "adapters:0", "finetune_all:1", ""]
)
def test_an_unknown_method_is_refused_with_the_known_ones(text):
    with pytest.raises(errors.UsageError) as caught:
        methods_lib.parse(["mu2net", text])
    message = str(caught.value)
    assert repr(text) in message
    assert message.endswith(
        "there are: munet, mu2net, finetune_all, linear_probe, "
        "freeze_bottom_layers:N, adapters:N"
    )


def test_a_method_or_seed_that_is_named_twice_is_refused(tmp_path):
    for texts in (
        ["munet", "munet"],
        ["freeze_bottom_layers:1", "freeze_bottom_layers:01"],
    ):
        with pytest.raises(errors.UsageError, match="named twice"):
            methods_lib.parse(texts)
    with pytest.raises(errors.UsageError, match="seed 1 is named twice"):
        _comparison(tmp_path, seeds=[1, 0, 1])


def test_no_method_or_seed_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="no method"):
        methods_lib.parse([])
    with pytest.raises(errors.UsageError, match="no seed"):
        _comparison(tmp_path, seeds=[])
