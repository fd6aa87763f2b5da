"""Metrics against hand counts and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.overparam.experiments import metrics
from keras_munet.overparam.experiments import tasks

_SEGMENTATION = tasks.Task("s", tasks.SEGMENTATION, 3)
_DEPTH = tasks.Task("d", tasks.DEPTH, 1)
_NORMALS = tasks.Task("n", tasks.NORMALS, 3)
_EDGES = tasks.Task("e", tasks.EDGES, 1)
_PRESENCE = tasks.Task("p", tasks.PRESENCE, 2)


def _measured(task, *batches):
    meter = metrics.make_metric(task)
    for labels, outputs in batches:
        meter.update(np.asarray(labels), np.asarray(outputs, np.float32))
    return meter.result()


def _generator():
    return np.random.default_rng(0)


def test_miou_and_accuracy_by_hand_without_void():
    labels = [[[0, 0, 1, 1, -1]]]
    # Predicted 0 1 1 1 0; class 2 is nowhere and does not count.
    outputs = np.eye(3)[[[[0, 1, 1, 1, 0]]]]
    found = _measured(_SEGMENTATION, (labels, outputs))
    assert found["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["pixel_accuracy"] == pytest.approx(3 / 4)


def test_miou_counts_a_class_that_is_only_predicted():
    found = _measured(_SEGMENTATION, ([[[0, 0]]], np.eye(3)[[[[0, 2]]]]))
    assert found["miou"] == pytest.approx((1 / 2 + 0) / 2)


def test_segmentation_equals_scikit_learn_over_batches():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = _generator()
    labels = generator.integers(-1, 3, (4, 5, 6))
    outputs = generator.normal(size=(4, 5, 6, 3))
    found = _measured(
        _SEGMENTATION, (labels[:3], outputs[:3]), (labels[3:], outputs[3:])
    )
    there = labels >= 0
    given = outputs.argmax(-1)[there]
    assert found["miou"] == pytest.approx(
        sklearn.jaccard_score(labels[there], given, average="macro")
    )
    assert found["pixel_accuracy"] == pytest.approx(
        sklearn.accuracy_score(labels[there], given)
    )


def test_depth_errors_by_hand_without_nan_zero_or_infinity():
    labels = [[[1.0, 4.0, np.nan, 0.0, np.inf]]]
    outputs = np.array([[[1.5, 3.0, 9, 9, 9]]])[..., None]
    found = _measured(_DEPTH, (labels, outputs))
    assert found["abs_error"] == pytest.approx((0.5 + 1) / 2)
    assert found["rel_error"] == pytest.approx((0.5 + 0.25) / 2)


def test_depth_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    labels = _generator().uniform(0.5, 9, (2, 4, 4))
    outputs = _generator().normal(3, 1, (2, 4, 4)).astype(np.float32)
    found = _measured(_DEPTH, (labels, outputs[..., None]))
    flat = labels.ravel(), outputs.ravel()
    assert found["abs_error"] == pytest.approx(
        sklearn.mean_absolute_error(*flat)
    )
    assert found["rel_error"] == pytest.approx(
        sklearn.mean_absolute_percentage_error(*flat)
    )


def test_angles_by_hand():
    # 0, 20, 25 and 90 degrees; the fifth has no label.
    turns = np.radians([0, 20, 25, 90, 50])
    outputs = 7 * np.stack([np.sin(turns), 0 * turns, np.cos(turns)], -1)
    labels = np.tile([0.0, 0, 2], (1, 1, 5, 1))
    labels[0, 0, 4] = 0
    found = _measured(_NORMALS, (labels, outputs[None, None]))
    assert found["mean_angle"] == pytest.approx(135 / 4, abs=1e-4)
    assert found["median_angle"] == pytest.approx(22.5, abs=0.01)
    assert found["within_11.25"] == 0.25
    assert found["within_22.5"] == 0.5
    assert found["within_30"] == 0.75


def test_median_angle_is_that_of_all_batches():
    generator = _generator()
    labels = generator.normal(size=(3, 7, 5, 3))
    outputs = generator.normal(size=(3, 7, 5, 3))
    found = _measured(
        _NORMALS, *zip(labels[:, None], outputs[:, None], strict=True)
    )
    cosines = (labels * outputs).sum(-1)
    cosines /= np.linalg.norm(labels, axis=-1) * np.linalg.norm(
        outputs, axis=-1
    )
    angles = np.degrees(np.arccos(cosines))
    assert found["median_angle"] == pytest.approx(np.median(angles), abs=0.011)
    assert found["mean_angle"] == pytest.approx(angles.mean(), abs=1e-3)


def test_small_angles_are_not_rounded_to_none():
    turn = np.radians(0.02)
    outputs = np.array([[[[np.sin(turn), 0, np.cos(turn)]]]])
    found = _measured(_NORMALS, (np.array([[[[0.0, 0, 1]]]]), outputs))
    assert found["mean_angle"] == pytest.approx(0.02, rel=1e-3)


def test_a_prediction_without_direction_is_a_right_angle_off():
    found = _measured(_NORMALS, (np.ones((1, 1, 1, 3)), np.zeros((1, 1, 1, 3))))
    assert found["mean_angle"] == 90


def test_edges_equal_scikit_learn_with_equal_scores():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = _generator()
    labels = generator.integers(-1, 2, (2, 9, 9))
    scores = np.round(generator.normal(size=(2, 9, 9)), 1).astype(np.float32)
    found = _measured(_EDGES, (labels, scores[..., None]))
    there = labels >= 0
    assert found["average_precision"] == pytest.approx(
        sklearn.average_precision_score(labels[there], scores[there])
    )
    best = max(
        sklearn.f1_score(labels[there], scores[there] >= limit)
        for limit in np.unique(scores[there])
    )
    assert found["best_f1"] == pytest.approx(best)


def test_presence_is_the_mean_over_classes_that_are_there():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = _generator()
    labels = generator.integers(0, 2, (12, 3))
    labels[:, 1] = 0
    labels[0, 0] = tasks.VOID
    outputs = generator.normal(size=(12, 2, 2, 3)).astype(np.float32)
    found = _measured(tasks.Task("p", tasks.PRESENCE, 3), (labels, outputs))
    scores = outputs.mean((1, 2))
    expected = [
        sklearn.average_precision_score(labels[1:, 0], scores[1:, 0]),
        sklearn.average_precision_score(labels[:, 2], scores[:, 2]),
    ]
    assert found["mean_average_precision"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("task", "labels", "num_outputs"),
    [
        (_SEGMENTATION, np.full((1, 2, 2), -1), 3),
        (_DEPTH, np.full((1, 2, 2), np.nan), 1),
        (_NORMALS, np.zeros((1, 2, 2, 3)), 3),
        (_EDGES, np.zeros((1, 2, 2), int), 1),
        (_PRESENCE, np.full((1, 2), -1), 2),
    ],
)
def test_data_without_a_label_have_no_metric_and_say_so(
    task, labels, num_outputs
):
    with pytest.raises(errors.DataError, match=f"task '{task.name}' has no"):
        _measured(task, (labels, np.zeros((1, 2, 2, num_outputs))))


def test_relative_improvement_by_hand():
    measured = {
        "s": {"miou": 0.6, "pixel_accuracy": 0.9},
        "d": {"abs_error": 3},
    }
    single = {"s": {"miou": 0.5, "pixel_accuracy": 0.9}, "d": {"abs_error": 4}}
    # Segmentation: (+20% + 0%) / 2; depth: a quarter less error.
    assert metrics.relative_improvement(measured, single) == pytest.approx(
        (0.1 + 0.25) / 2
    )
    assert metrics.relative_improvement(
        measured, single, ["miou", "abs_error"]
    ) == pytest.approx((0.2 + 0.25) / 2)


def test_relative_improvement_needs_the_same_metrics():
    with pytest.raises(errors.UsageError, match="measure both alike"):
        metrics.relative_improvement({"s": {"miou": 0.5}}, {"s": {}})


@pytest.mark.parametrize(
    ("kind", "num", "word"),
    [("boxes", 1, "choose one of"), ("depth", 2, "give it 1")],
)
def test_tasks_that_cannot_be_are_refused(kind, num, word):
    with pytest.raises(errors.UsageError, match=word):
        tasks.Task("t", kind, num)
