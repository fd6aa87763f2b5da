"""Any number of labels an image: loss, scores and heads, by every engine."""

from __future__ import annotations

import json
import pathlib

import coordinator_samples
import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples
import two_devices
from sklearn import linear_model

from keras_munet.core import qualities
from keras_munet.core import target_types
from keras_munet.train import closed_form
from keras_munet.train import frozen_features
from keras_munet.train import losses
from keras_munet.train import trainer as trainer_lib

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "helpers"


def trained(
    engine="auto", strategy="one_device", quality="accuracy", **hparams
):
    """Two children after two cycles."""
    made = samples.trainer(strategy, engine=engine, quality=quality)
    return samples.train(
        samples.two_children(**hparams), made, task=samples.multi_label_data()
    )


def test_the_loss_is_keras_binary_cross_entropy_of_all_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (5, 4)).astype(np.float32)
    labels = rng.integers(0, 2, (5, 4)).astype(np.int32)
    for smoothing in (0.0, 0.2):
        peer = keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=smoothing, reduction=None
        )
        computed = losses.cross_entropy(
            tf.constant(logits), tf.constant(labels), smoothing
        )
        np.testing.assert_allclose(
            computed, 4 * np.asarray(peer(labels, logits)), rtol=1e-5
        )


def test_classes_that_do_not_exist_have_no_loss_and_no_gradient():
    logits = tf.constant([[2.0, -1.0, 70.0, -1e30]])
    labels = tf.constant([[1, 0, 0, 0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        padded = losses.cross_entropy(
            logits, labels, tf.constant(0.1), (), tf.constant(2)
        )
    whole = losses.cross_entropy(logits[:, :2], labels[:, :2], 0.1)
    np.testing.assert_allclose(padded, whole, rtol=1e-6)
    gradient = tape.gradient(padded, logits).numpy()
    assert gradient[0, :2].all() and not gradient[0, 2:].any()


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_the_loss_of_a_huge_logit_is_finite(logit):
    logits = tf.constant([[logit]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.cross_entropy(logits, tf.constant([[int(logit < 0)]]))
    assert loss.numpy() == pytest.approx([1e4])
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


@pytest.mark.parametrize(
    "hparams",
    [{}, {"opt_label_smoothing": 0.1, "opt_name": "adamw", "opt_lr": 0.001}],
)
def test_both_engines_train_the_same_children(hparams):
    for one, other in zip(
        trained("layerwise", **hparams),
        trained("program", **hparams),
        strict=True,
    ):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)
        assert one.scores == pytest.approx(other.scores, abs=2e-3)
        samples.assert_close(one, other, atol=2e-3)


def test_children_learn_which_labels_an_image_has():
    made = samples.trainer(num_cycles=12)
    job = samples.job(0, 1, hparams={"opt_name": "adamw", "opt_lr": 0.003})
    # A mirrored image would have other labels.
    whole = {"ds_crop": False, "ds_flip_left_right": False}
    (child,) = samples.train(
        [job], made, whole, task=samples.multi_label_data()
    )
    assert child.losses[-1] < 0.7 * child.losses[0]
    assert child.quality > 0.9


@pytest.mark.slow
def test_one_trainer_learns_both_types_of_tasks_alike():
    alone = trained("program")
    made = samples.trainer(engine="program")
    before = samples.train(samples.two_children(), made)
    after = samples.train(
        samples.two_children(), made, task=samples.multi_label_data()
    )
    assert [c.scores for c in after] == [c.scores for c in alone]
    again = samples.train(samples.two_children(), made)
    assert [c.scores for c in again] == [c.scores for c in before]


@pytest.mark.slow
def test_two_replicas_train_as_one_cpu_does(tmp_path):
    code = (
        two_devices.MAKE + "import json, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import test_multi_label as t\n"
        "scores = [c.scores for c in t.trained(strategy='mirrored')]\n"
        "open(sys.argv[1], 'w').write(json.dumps(scores))\n"
    )
    out = tmp_path / "scores.json"
    two_devices.run(_FOLDER, code, str(out), str(pathlib.Path(__file__).parent))
    expected = [child.scores for child in trained()]
    assert len({score for child in expected for score in child}) > 1
    for child, scores in zip(
        json.loads(out.read_text()), expected, strict=True
    ):
        assert child == pytest.approx(scores, abs=2e-3)


@pytest.mark.parametrize("engine", ["layerwise", "program"])
@pytest.mark.parametrize("quality", ["accuracy", "macro_f1"])
def test_a_path_is_measured_by_its_quality_on_every_split(engine, quality):
    made = samples.trainer(quality=quality, engine=engine)
    places = [part.spec.name for part in samples.job(0, 1).components]
    parts = samples.job(0, 1, tuple(places)).components
    data = samples.multi_label_data()
    path = frozen_features.FrozenPath(parts, 16, False)
    for split in ("validation", "test", trainer_lib.QUALITY):
        measured = made.evaluate(parts, data, split, 16)
        name = "test" if split == "test" else "validation"
        logits, labels = made.logits(path, data, name)
        expected = qualities.measure_quality(
            target_types.MULTI_LABEL.quality_of(quality, data.name),
            *(logits, labels),
        )
        assert 0 < measured == pytest.approx(expected, abs=1e-5)


def test_a_diverged_child_has_no_score():
    child = samples.job(0, 1, hparams={"opt_lr": float("nan")})
    for engine in ("layerwise", "program"):
        made = samples.trainer(engine=engine)
        (result,) = samples.train(
            [child], made, task=samples.multi_label_data()
        )
        assert result.quality is None and np.isnan(result.scores[-1])


def _features(num, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(3.0, [1.0, 5.0, 0.2, 1.0], (num, 4))
    directions = np.array([[2.0, 0, 0], [0, 0.4, 0], [0, 0, 8], [1, 0, 0]])
    noise = rng.normal(0, 1.0, (num, 3))
    logits = (values - 3.0) @ directions + noise - [0, 1, 1]
    return closed_form.Features(values, (logits > 0).astype(np.int32))


def test_a_solved_head_is_one_logistic_regression_for_each_class():
    train, validation = _features(300, 0), _features(200, 1)
    head = closed_form.solve_head(
        train, validation, train.labels.sum(0), quality="mean_average_precision"
    )
    (penalty,) = (
        p
        for p in closed_form.PENALTIES
        if head.method.endswith(f"penalty {p:g}")
    )
    x = (train.values - train.values.mean(0)) / train.values.std(0)
    for column in range(3):
        peer = linear_model.LogisticRegression(C=1 / penalty, tol=1e-8)
        peer.fit(x, train.labels[:, column])
        expected = peer.decision_function(x)
        computed = train.values @ head.kernel[:, column] + head.bias[column]
        np.testing.assert_allclose(computed, expected, atol=0.05)
    logits = validation.values @ head.kernel + head.bias
    assert head.quality == pytest.approx(
        qualities.measure_quality(
            "mean_average_precision", logits, validation.labels
        ),
        abs=1e-4,
    )
    assert head.accuracy == head.quality > 0.8


def test_a_class_that_no_training_image_has_can_be_solved():
    train, validation = _features(60, 0), _features(50, 1)
    train.labels[:, 1] = 0
    head = closed_form.solve_head(
        train, validation, train.labels.sum(0), quality="macro_f1"
    )
    logits = train.values @ head.kernel + head.bias
    assert np.isfinite(head.kernel).all() and (logits[:, 1] < 0).all()


def test_a_trainer_solves_heads_on_frozen_features():
    made = samples.trainer()
    places = [part.spec.name for part in samples.job(0, 1).components]
    parts = samples.job(0, 1, tuple(places)).components
    path = frozen_features.FrozenPath(parts, 16, False)
    (head,) = made.solve([path], samples.multi_label_data())
    assert "logistic regression" in head.method and head.quality > 0.6


def test_a_coordinator_s_workers_train_the_same_children():
    away = coordinator_samples.trainer()
    sent = samples.train(
        samples.two_children(), away, task=samples.multi_label_data()
    )
    for one, other in zip(trained(), sent, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)
        assert one.scores == pytest.approx(other.scores, abs=2e-3)
        samples.assert_close(one, other, atol=2e-3)
    # A task of the other type has a program of its own.
    samples.train(samples.two_children(), away)
