"""Scores of an export may be those of logits at the fitted temperature."""

from __future__ import annotations

import types

import export_samples
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.export import calibration

# Of the samples.
_TEMPERATURE = 2.5


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system") / "system"
    return export_samples.system(folder, {"digits": 10, "greek": 24})


def _images():
    rng = np.random.default_rng(0)
    return tf.constant(rng.integers(0, 256, (3, 16, 16, 3)), tf.uint8)


def test_logits_are_divided_and_labels_stay(system, tmp_path):
    plain, divided = (
        tf.saved_model.load(
            system.export(tmp_path / str(calibrate), calibrate=calibrate)
        ).signatures
        for calibrate in (False, True)
    )
    for task in ("digits", "greek"):
        before, after = (
            served[f"predict_{task}"](images=_images())
            for served in (plain, divided)
        )
        np.testing.assert_allclose(
            after["logits"], before["logits"] / _TEMPERATURE, atol=1e-6
        )
        np.testing.assert_allclose(
            after["scores"],
            tf.nn.softmax(before["logits"] / _TEMPERATURE),
            atol=1e-6,
        )
    card = (tmp_path / "True" / "README.md").read_text()
    assert "the model applies." in card
    assert "does not apply" in (tmp_path / "False" / "README.md").read_text()


def _state(head, temperature):
    metrics = types.SimpleNamespace(temperature=temperature)
    ref = specs.ComponentRef("head", head, "", 1)
    path = types.SimpleNamespace(components=(ref,))
    return types.SimpleNamespace(published=path, test_metrics=metrics)


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ({"a": _state("x", None)}, "'a' has no recorded temperature"),
        (
            {"a": types.SimpleNamespace(test_metrics=None)},
            "'a' has no recorded temperature",
        ),
        ({"a": _state("x", 2.0), "b": _state("x", 3.0)}, "'b' shares its head"),
    ],
)
def test_what_has_no_one_temperature_is_refused(tasks, told):
    with pytest.raises(errors.UsageError, match=told):
        calibration.calibrated(tasks, lambda ref: None)


def test_a_head_that_is_not_linear_is_refused():
    spec = specs.ComponentSpec("head", "Cosine", {}, (("w", (1,)),))
    component = specs.Component(spec, {"w": np.ones(1, np.float32)})
    _, get = calibration.calibrated(
        {"a": _state("x", 2.0)}, lambda ref: component
    )
    with pytest.raises(errors.UsageError, match="not Cosine"):
        get(specs.ComponentRef("head", "x", "", 1))
