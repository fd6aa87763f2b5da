"""Labels computed from records made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet.data import labels
from keras_munet.data.tfds import catalogue


def _clevr(shapes=(0, 1, 2), depths=(9.0, 9.0, 9.0)):
    coordinates = np.zeros((len(depths), 3), np.float32)
    coordinates[:, 2] = depths
    return {
        "objects": {
            "size": np.zeros(len(shapes), np.int64),
            "shape": np.array(shapes, np.int64),
            "pixel_coords": coordinates,
        }
    }


def _kitti(types, ahead):
    location = np.full((len(types), 3), -50.0, np.float32)
    location[:, 2] = ahead
    return {
        "objects": {"type": np.array(types, np.int64), "location": location}
    }


@pytest.mark.parametrize(("num", "label"), [(3, 0), (7, 4), (10, 7)])
def test_clevr_counts_from_three_objects_on(num, label):
    assert labels.clevr_count_all(_clevr(shapes=[0] * num)) == label


def test_clevr_counts_cylinders_alone():
    assert labels.clevr_count_cylinders(_clevr([0, 1, 0])) == 0
    assert labels.clevr_count_cylinders(_clevr([2, 1, 2, 2, 0])) == 3


@pytest.mark.parametrize(
    ("nearest", "label"),
    [
        (6.5, 0),
        # A threshold belongs to the interval before it.
        (8.0, 0),
        (8.01, 1),
        (8.6, 2),
        (9.5, 3),
        (9.7, 4),
        (10.0, 4),
        (12.0, 5),
    ],
)
def test_clevr_bins_the_nearest_objects_depth(nearest, label):
    record = _clevr(depths=[14.0, nearest, 13.0])
    assert labels.clevr_closest_object_distance(record) == label


@pytest.mark.parametrize(
    ("types", "label"),
    [([3, 7], 0), ([0], 1), ([1, 2, 4], 2), ([0, 1, 2], 3), ([0] * 9, 3)],
)
def test_kitti_counts_cars_vans_and_trucks_up_to_three(types, label):
    record = _kitti(types, [10.0] * len(types))
    assert labels.kitti_count_vehicles(record) == label


@pytest.mark.parametrize(
    ("nearest", "label"),
    [(-2.0, 0), (5.6, 0), (5.7, 1), (8.5, 2), (13.5, 3), (23.4, 3), (60.0, 4)],
)
def test_kitti_bins_the_nearest_objects_distance(nearest, label):
    record = _kitti([5, 0], [nearest, 70.0])
    assert labels.kitti_closest_object_distance(record) == label


@pytest.mark.parametrize(
    ("types", "ahead", "label"),
    [
        ([0, 3], [7.0, 1.0], 0),
        ([0, 2], [30.0, 19.0], 1),
        ([1], [21.0], 2),
        ([3, 4, 7], [1.0, 2.0, 3.0], 3),
    ],
)
def test_kitti_bins_the_nearest_vehicle_and_knows_when_there_is_none(
    types, ahead, label
):
    record = _kitti(types, ahead)
    assert labels.kitti_closest_vehicle_distance(record) == label


def test_every_computed_label_has_as_many_names_as_published_classes():
    computed = [
        t for t in catalogue.tasks().values() if t.label in labels.FUNCTIONS
    ]
    assert {t.label for t in computed} == set(labels.FUNCTIONS)
    for task in computed:
        names = labels.FUNCTIONS[task.label].class_names
        assert len(set(names)) == len(names) == task.num_classes
