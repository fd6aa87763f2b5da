"""Objects from targets and back; average precision and quality by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.overparam.experiments import detection
from keras_munet.overparam.experiments import detection_metrics
from keras_munet.overparam.experiments import tasks

_TASK = tasks.Task("objects", tasks.DETECTION, 2 + 4, first_class=3)
_SIZE = (16, 24)


def _label() -> np.ndarray:
    """Two objects of class 3 side by side, one of class 4, void below."""
    label = np.zeros((*_SIZE, 2), np.int16)
    label[2:8, 2:8] = 3, 1
    label[2:8, 8:14] = 3, 2
    label[4:10, 16:22] = 4, 3
    label[14:, :, 0] = tasks.VOID
    return label


def _perfect(label: np.ndarray, task: tasks.Task = _TASK) -> np.ndarray:
    """What a network would have to say about a label."""
    target = detection.targets(task, label[None])[0]
    num_classes = task.num_outputs - tasks.NUM_BOX_CHANNELS
    outputs = target[..., :-1].copy()
    heat = outputs[..., :num_classes]
    outputs[..., :num_classes] = np.where(heat >= 1, 9, -9)
    return outputs


def _objects(classes, scores, boxes) -> detection.Objects:
    return detection.Objects(
        np.array(classes),
        np.array(scores, float),
        np.array(boxes, float).reshape(-1, 4),
        np.arange(1, len(classes) + 1),
    )


def test_targets_say_where_objects_are_in_shares_of_the_image():
    target = detection.targets(_TASK, _label()[None])[0]
    middles = np.argwhere(target[..., :2] == 1)
    np.testing.assert_array_equal(middles, [[5, 5, 0], [5, 11, 0], [7, 19, 1]])
    height, width = _SIZE
    # The pixel at row 2, column 3 of the first box, whose middle is (5, 5).
    np.testing.assert_allclose(
        target[2, 3, 2:],
        [3 / height, 3 / width, 2.5 / height, 1.5 / width, 1 / 36],
        rtol=1e-6,
    )
    assert (target[14:, :, :2] == tasks.VOID).all()
    # Each object weighs 1.
    assert target[..., -1].sum() == pytest.approx(3)


def test_objects_come_back_from_perfect_outputs():
    found = detection.objects(_TASK, _perfect(_label()))
    true = detection.labelled(_label())
    order = np.argsort(found.boxes[:, 1])
    np.testing.assert_array_equal(found.classes[order], true.classes)
    np.testing.assert_allclose(found.boxes[order], true.boxes, atol=0.51)


def test_two_peaks_of_one_object_are_one_object():
    outputs = _perfect(_label())
    # A lower peak beside the first object's middle, with the same box.
    outputs[5, 3, 0] = 3
    assert len(detection.objects(_TASK, outputs).classes) == 3
    # Of another class it is another object.
    outputs[5, 3, 1] = 3
    assert len(detection.objects(_TASK, outputs).classes) == 4


def test_ways_divide_what_touches_into_instances():
    label, outputs = _label(), _perfect(_label())
    found = detection.objects(_TASK, outputs)
    numbers = detection.instances(_TASK, outputs, label[..., 0], found)
    for number in (1, 2, 3):
        own = numbers[label[..., 1] == number]
        assert own.min() == own.max() > 0
    assert len(np.unique(numbers)) == 4
    assert not numbers[label[..., 1] == 0].any()


def _scenes(num, seed=0):
    """Returns labels of images with a few rectangles that do not touch."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((num, *_SIZE, 2), np.int16)
    for image in labels:
        number = 0
        for row in range(0, _SIZE[0] - 6, 8):
            for column in range(0, _SIZE[1] - 6, 8):
                if rng.random() < 0.6:
                    continue
                number += 1
                height, width = rng.integers(3, 7, 2)
                class_id = _TASK.first_class + int(rng.integers(2))
                image[row : row + height, column : column + width] = (
                    class_id,
                    number,
                )
    return labels


def test_perfect_outputs_reach_every_object():
    labels = _scenes(8)
    assert len(np.unique(labels[..., 1])) > 2
    meter = detection_metrics.Detection(_TASK)
    outputs = np.stack([_perfect(label) for label in labels])
    meter.update(labels, outputs, labels[..., 0])
    found = meter.result()
    assert found["box_ap50"] > 0.95
    assert found["mask_ap50"] > 0.95
    assert found["panoptic_quality"] > 0.95


def test_an_image_in_which_nothing_is_found_is_measured():
    outputs = np.full((1, *_SIZE, 6), -9.0)
    meter = detection_metrics.Detection(_TASK)
    meter.update(_label()[None], outputs)
    assert meter.result() == {"box_ap": 0, "box_ap50": 0}
    meter.update(_label()[None], outputs, np.zeros((1, *_SIZE), int))
    assert meter.result()["mask_ap"] == 0


def test_what_is_found_where_nothing_is_counts_as_wrong():
    label = _label()
    perfect = _perfect(label)
    meter = detection_metrics.Detection(_TASK)
    meter.update(label[None], perfect[None], label[None, ..., 0])
    assert meter.result()["box_ap50"] == 1
    # Found first of all.
    surer = np.where(perfect == 9, 10, perfect)
    empty = np.zeros_like(label)
    meter.update(empty[None], surer[None], empty[None, ..., 0])
    assert meter.result()["box_ap50"] == pytest.approx(0.5, abs=0.1)


def test_data_without_objects_are_refused():
    meter = detection_metrics.Detection(_TASK)
    meter.update(np.zeros((1, *_SIZE, 2), int), np.full((1, *_SIZE, 6), -9.0))
    with pytest.raises(errors.DataError, match="task 'objects' has no"):
        meter.result()


def test_overlaps_of_boxes_by_hand():
    boxes = np.array([[0, 0, 2, 2.0]]), np.array([[0, 1, 2, 3], [4, 4, 5, 5.0]])
    np.testing.assert_allclose(detection.box_overlaps(*boxes), [[2 / 6], [0]])


def test_average_precision_by_hand():
    precision = detection_metrics.AveragePrecision("bbox")
    true = _objects([3, 3], [1, 1], [[0, 0, 2, 2], [4, 4, 6, 6]])
    # Right, wrong (found already), right.
    found = _objects(
        [3, 3, 3],
        [0.9, 0.8, 0.7],
        [[0, 0, 2, 2], [0, 0, 2, 2], [4, 4, 6, 6]],
    )
    precision.add(true, found)
    # Precision 1 up to recall 0.5 (51 of 101 steps), then 2/3 (50).
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert precision.result() == pytest.approx((expected, expected))


def test_average_precision_ranks_over_images_and_means_over_classes():
    precision = detection_metrics.AveragePrecision("bbox")
    box = [[0, 0, 2, 2]]
    far = [[5, 5, 6, 6]]
    for boxes, score in ((box, 0.6), (far, 0.9)):
        true, found = _objects([3], [1], box), _objects([3], [score], boxes)
        precision.add(true, found)
    # The wrong one stands first: precision 1/2 up to recall 1/2, then none.
    assert precision.result()[1] == pytest.approx(51 * 0.5 / 101)
    precision.add(_objects([4], [1], box), _objects([], [], []))
    assert precision.result()[1] == pytest.approx(51 * 0.5 / 101 / 2)


def test_panoptic_quality_by_hand():
    label = np.zeros((1, 8, 2), int)
    label[0, 4:] = 3, 1
    prediction = label.copy()
    # One pixel of the thing is said to be floor: overlaps 4/5 and 3/4.
    prediction[0, 4] = 0, 0
    quality = detection_metrics.PanopticQuality()
    quality.add(label, prediction)
    assert quality.result() == pytest.approx((4 / 5 + 3 / 4) / 2)
    # A segment of class 5 that is not there is half a miss of its class.
    invented = label.copy()
    invented[0, 0] = 5, 1
    quality.add(label, invented)
    floor = (4 / 5 + 3 / 4) / 2
    assert quality.result() == pytest.approx((floor + (3 / 4 + 1) / 2 + 0) / 3)


def test_panoptic_quality_does_not_count_what_lies_on_void():
    label = np.zeros((1, 8, 2), int)
    label[0, 4:, 0] = tasks.VOID
    prediction = np.zeros((1, 8, 2), int)
    prediction[0, 4:] = 3, 1
    quality = detection_metrics.PanopticQuality()
    quality.add(label, prediction)
    assert quality.result() == 1
