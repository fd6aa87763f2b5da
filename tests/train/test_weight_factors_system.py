"""Systems whose adapters and heads are factorised, on a contracted network."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import placed_run
import pytest
import system_samples as samples
import tensorflow as tf
import tpu_traces

import keras_munet
from keras_munet.aot import tracing
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.overparam import contraction
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import segnet
from keras_munet.store import system_dir

_HELPERS = pathlib.Path(__file__).resolve().parents[1] / "helpers"
_FACTORS = {"factorized": ["adapter", "head"], "factor_depth": 2}
_SECS_MAX = 300


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One task, two generations, on the root that a network was made into."""
    network = model_transform.overparameterize(
        segnet.segnet(
            {"depth": 1, "segmentation": 3}, (16, 16), width=4, num_stages=2
        )
    )
    path = tmp_path_factory.mktemp("network") / "deployed.keras"
    contraction.contract(network).save(path)
    return samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=4,
        children_per_generation=2,
        num_validations_per_path_training=1,
        root={
            "source": "keras",
            "path": str(path),
            "features": "encoder1_pool",
            "num_layers": 2,
            "image_size": 16,
        },
        ranges={"num_layers": [1, 2]},
        search={"mutate_adapters": True},
        hparams={"opt_lr": 0.1, "ds_crop": False, "mu": 0.3},
        **_FACTORS,
    )


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("finished")
    progress = keras_munet.Progress(workdir, quiet=True)
    keras_munet.System.create(workdir, settings).run(progress=progress)
    return workdir


def _components(workdir) -> list[specs.Component]:
    directory = system_dir.SystemDir.open(workdir)
    path = directory.tasks()["digits"].published
    return [directory.objects.get(ref) for ref in path.components]


def test_a_contracted_network_grows_adapters_and_heads_trained_as_factors(
    finished, settings
):
    system = keras_munet.System.open(finished)
    assert system.settings.factorized == ("adapter", "head")
    assert system.check() == []
    places = [ref.name for ref in system.root.components]
    assert places[0].startswith("encoder0")
    children = [
        child
        for line in (finished / "metrics.jsonl").read_text().splitlines()
        for child in json.loads(line).get("children", [])
    ]
    trained = {name for child in children for name in child["trained"]}
    assert "head" in trained
    assert any(name.startswith("residual_adapter_") for name in trained)
    # The store has ordinary components, with a momentum of their own shape.
    for component in _components(finished):
        shapes = {n: v.shape for n, v in component.weights.items()}
        assert shapes == dict(component.spec.weights)
        if component.momentum is not None:
            found = {n: v.shape for n, v in component.momentum.items()}
            assert found == shapes
    *_, head = _components(finished)
    assert np.any(head.momentum["kernel"])


def test_the_published_kernels_answer_as_they_were_measured(finished):
    system = keras_munet.System.open(finished)
    test = system.data("digits").test
    images, labels = test.batch(np.arange(len(test.labels)))
    resized = preprocessing.evaluation_images(tf.constant(images), 16, True)
    logits = np.asarray(system.model("digits")(resized))
    published = system.tasks["digits"].published
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(
        published.metrics["test_quality"]
    )


def test_a_run_that_is_stopped_after_a_generation_ends_in_the_same_bytes(
    finished, settings, tmp_path
):
    progress = keras_munet.Progress(tmp_path, quiet=True, stop=lambda: True)
    with pytest.raises(KeyboardInterrupt):
        keras_munet.System.create(tmp_path, settings).run(progress=progress)
    assert "digits" not in keras_munet.System.open(tmp_path).tasks
    progress = keras_munet.Progress(tmp_path, quiet=True)
    keras_munet.System.open(tmp_path).run(progress=progress)
    assert samples.digests(tmp_path) == samples.digests(finished)


def test_a_generation_with_factors_is_traced_for_a_tpu():
    settings = dataclasses.replace(
        tpu_traces.settings_of("quickstart", ()),
        factorized=("adapter", "head"),
    )
    bucket = tracing.bucket_of(settings, 8)
    assert bucket.above[-1].factor_depth == settings.factor_depth
    tpu_traces.check(settings, "v3-8")


@pytest.mark.slow
def test_engines_end_in_the_population_of_one_device(tmp_path):
    code = (
        "import sys, placed_run\n"
        "made = placed_run.samples.settings\n"
        f"factors = {_FACTORS!r}\n"
        "search = {'mutate_adapters': True}\n"
        "placed_run.samples.settings = lambda **changes: made(\n"
        "    **{**changes, **factors, 'search': search})\n"
        "placed_run.main(*sys.argv[1:])\n"
    )
    asked = {
        "alone": ("1", "one_device", "auto"),
        "program": ("1", "one_device", "program"),
        "mirrored": ("2", "mirrored", "auto"),
    }
    for name, options in asked.items():
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name), *options],
            cwd=_HELPERS,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECS_MAX,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    for name in ("program", "mirrored"):
        placed_run.assert_same(tmp_path / "alone", tmp_path / name)
