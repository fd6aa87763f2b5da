"""A whole system: evolve, resume, keep, compose, export."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import system_samples as samples
import tensorflow as tf
from forked import run_code

import keras_munet
from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import system_dir

_HELPERS = pathlib.Path(__file__).resolve().parents[1] / "helpers"
_IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of an uninterrupted run; treat it as read-only."""
    workdir = tmp_path_factory.mktemp("finished")
    system = keras_munet.System.create(workdir, samples.settings())
    progress = keras_munet.Progress(workdir, quiet=True)
    assert system.run(progress=progress)
    return workdir


def test_a_finished_run_has_nothing_left_to_do(finished):
    before = samples.digests(finished)
    system = keras_munet.System.create_or_open(finished, samples.settings())
    assert not system.run()
    assert samples.digests(finished) == before


def test_every_task_has_a_path_that_beats_the_root_and_the_store_is_clean(
    finished,
):
    system = keras_munet.System.open(finished)
    assert sorted(system.tasks) == ["digits", "glyphs/digits"]
    for state in system.tasks.values():
        assert state.num_iterations_done == 2
        assert state.published.score > 1.5 / state.num_classes
    assert system.tasks["glyphs/digits"].private
    assert system_dir.SystemDir.open(finished).check() == []


def test_accounted_parameters_sum_to_the_unique_ones(finished):
    system = keras_munet.System.open(finished)
    population = system.population()
    paths = population.published
    total = sum(
        population.accounted_params(t, p.components) for t, p in paths.items()
    )
    unique = {c.id: c.num_params for p in paths.values() for c in p.components}
    assert total == pytest.approx(sum(unique.values()))


def test_a_private_path_is_no_ancestor_of_another_task(finished):
    population = keras_munet.System.open(finished).population()
    for task, path in population.published.items():
        for ancestor in population.ancestors(path):
            assert ancestor.task in (task, specs.NOT_TRAINABLE, "digits")


_RUN = (
    "import sys, os, signal\n"
    "sys.path.insert(0, sys.argv[1])\n"
    "import keras_munet, system_samples\n"
    "from keras_munet.store import files\n"
    "workdir, kill_at = sys.argv[2], int(sys.argv[3])\n"
    "count = 0\n"
    "write = files.LocalStorage.write_atomic\n"
    "def counted(self, name, data):\n"
    "    global count\n"
    "    count += 1\n"
    "    if count == kill_at:\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "    return write(self, name, data)\n"
    "files.LocalStorage.write_atomic = counted\n"
    "settings = system_samples.settings()\n"
    "system = keras_munet.System.create_or_open(workdir, settings)\n"
    "system.run(progress=keras_munet.Progress(workdir, quiet=True))\n"
)


def _run(workdir, kill_at: int) -> subprocess.CompletedProcess:
    return run_code(_RUN, _HELPERS, workdir, kill_at)


def test_a_run_killed_again_and_again_ends_in_the_same_population(
    finished, tmp_path
):
    workdir = tmp_path / "killed"
    # Every job dies at a later write than the last: while the root is made,
    # between objects, before a generation is saved, before a publication.
    kills = (2, 9, 14, 21, 8, 15)
    for kill_at in kills:
        killed = _run(workdir, kill_at)
        assert killed.returncode == -9, killed.stderr[-2000:]
    done = _run(workdir, 0)
    assert done.returncode == 0, done.stderr[-2000:]
    assert samples.digests(workdir) == samples.digests(finished)
    assert system_dir.SystemDir.open(workdir).check() == []


@pytest.mark.slow
def test_another_seed_ends_in_another_population(finished, tmp_path):
    settings = samples.settings(seed=6, num_task_iters=1)
    system = keras_munet.System.create(tmp_path / "other", settings)
    system.run()
    assert (
        system.tasks["digits"].published.id
        != keras_munet.System.open(finished).tasks["digits"].published.id
    )


def test_training_a_task_changes_no_bit_of_another(finished, tmp_path):
    workdir = tmp_path / "system"
    shutil.copytree(finished, workdir)
    system = keras_munet.System.open(workdir)
    images = np.random.default_rng(1).uniform(-1, 1, (4, 16, 16, 3))
    images = images.astype(np.float32)

    def results(export):
        model = system.model("digits")
        served = tf.saved_model.load(system.export(tmp_path / export))
        return (
            model(images).numpy(),
            served.signatures["predict_digits"](tf.constant(_IMAGES)),
            served.signatures["all_tasks"](tf.constant(_IMAGES)),
        )

    before = samples.digests(workdir)
    model, alone, together = results("before")
    system.evolve("glyphs/greek")
    assert "glyphs/greek" in system.tasks
    model_after, alone_after, together_after = results("after")
    np.testing.assert_array_equal(model, model_after)
    for key, value in alone.items():
        np.testing.assert_array_equal(value, alone_after[key])
    for key, value in together.items():
        np.testing.assert_array_equal(value, together_after[key])
    after = samples.digests(workdir)
    assert {k: after[k] for k in before} == before


def test_evaluation_repeats_what_was_published(finished):
    system = keras_munet.System.open(finished)
    measured = system.evaluate()
    for name, state in system.tasks.items():
        metrics = state.published.metrics
        assert measured[name]["test_accuracy"] == metrics["test_quality"]
        assert measured[name]["validation_accuracy"] == metrics["quality"]
        found = measured[name]["test_metrics"]
        published = state.test_metrics
        assert found == published.summary(state.class_names)
        right = published.num_correct / published.num_examples
        assert right == pytest.approx(metrics["test_quality"], abs=1e-9)
        assert len(found["per_class"]) == state.num_classes
        low, high = found["accuracy_interval"]
        assert low < right < high
        assert 0 < found["auc"] <= 1
        assert 0.01 <= found["temperature"] <= 100
    assert measured == system.evaluate()


def test_an_unknown_task_is_refused_with_those_there_are(finished):
    with pytest.raises(
        errors.UsageError, match="it has: digits, glyphs/digits"
    ):
        keras_munet.System.open(finished).model("mnist")


def test_a_task_that_another_job_works_on_is_refused(finished):
    directory = system_dir.SystemDir.open(finished)
    with (
        directory.lease("digits"),
        pytest.raises(errors.UsageError, match="another job"),
    ):
        keras_munet.System.open(finished).evolve("digits")


def test_a_private_task_stays_private_however_it_is_named(finished, tmp_path):
    workdir = tmp_path / "system"
    shutil.copytree(finished, workdir)
    system = keras_munet.System.open(workdir)
    system.evolve("glyphs/digits")
    assert system.tasks["glyphs/digits"].private


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hparams": {"mu": 0.25}}, "hparams.mu"),
        ({"hparams": {"opt_lr": float("nan")}}, "hparams.opt_lr"),
        ({"hparams": {"opt_lr_schedule": "linear"}}, "opt_lr_schedule"),
        ({"hparams": {"ds_area_range_min": 0.0}}, "ds_area_range_min"),
        ({"ranges": {"num_layers": [-1, 0]}}, "ranges.num_layers"),
        ({"ranges": {"num_layers": 3}}, "ranges.num_layers"),
        ({"ranges": {"num_layers": ["a"]}}, "ranges.num_layers"),
        ({"ranges": {"ds_image_size": [15, 16]}}, "15"),
        ({"root": {"variant": "mu", "num_layers": 1, "image_size": 20}}, "20"),
        ({"task_names": ["digits", "digits"]}, "digits"),
        ({"search": {"score_base": 0.0}}, "score_base"),
    ],
)
def test_settings_that_cannot_hold_leave_nothing(changes, named, tmp_path):
    with pytest.raises(errors.UsageError) as caught:
        keras_munet.System.create(
            tmp_path / "system", samples.settings(**changes)
        )
    assert named in str(caught.value)
    assert not (tmp_path / "system").exists()


def test_another_experiment_in_the_workdir_is_refused(finished):
    with pytest.raises(errors.UsageError, match="batch_size"):
        keras_munet.System.create_or_open(
            finished, samples.settings(batch_size=32)
        )
