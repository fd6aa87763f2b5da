"""Labels that a task computes from a record: counts and binned distances.

Invariant: a function sees one decoded record as NumPy values and returns a
whole number; what lies outside its classes is refused later, never clipped
unless the task says so. The tasks are VTAB's (arXiv 1910.04867); thresholds
and caps are those of github.com/google-research/task_adaptation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

Record = Mapping[str, Any]

# CLEVR's scenes hold 3 to 10 objects.
_NUM_OBJECTS_MIN = 3
_CYLINDER = 2
# KITTI's object types in order: Car, Van, Truck come first.
_NUM_VEHICLE_TYPES = 3
_NUM_VEHICLES_CAP = 3
# Metres; stands for the distance of a vehicle where there is none.
_NO_VEHICLE = 1000.0

# In units of CLEVR's camera; classes are the intervals between.
_CLEVR_THRESHOLDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
# Metres. Below the first there is nothing; above the last is the last class.
_KITTI_THRESHOLDS = (-100.0, 5.6, 8.4, 13.4, 23.4)
_KITTI_VEHICLE_THRESHOLDS = (-100.0, 8.0, 20.0, 999.0)


class Label(NamedTuple):
    """A label function.

    Attributes:
      features: what it reads of a record, as `tfds.decode.PartialDecoding`
        takes it.
      function: from one record to a label.
      class_names: in the order of the labels.
    """

    features: Mapping[str, Any]
    function: Callable[[Record], int]
    class_names: tuple[str, ...]


def bin_of(value: float, thresholds: tuple[float, ...]) -> int:
    """Returns the index of the last threshold below a value; -1 for none.

    Compared in float32, as the published tasks do: the records hold float32,
    and a value that equals a threshold belongs to the interval before it.
    """
    edges = np.asarray(thresholds, np.float32)
    return int(np.searchsorted(edges, np.float32(value), side="left")) - 1


def clevr_count_all(record: Record) -> int:
    """Returns the number of objects, less the 3 that every scene has."""
    return len(record["objects"]["size"]) - _NUM_OBJECTS_MIN


def clevr_count_cylinders(record: Record) -> int:
    """Returns the number of cylinders, 0 to 10."""
    return int(np.sum(np.asarray(record["objects"]["shape"]) == _CYLINDER))


def clevr_closest_object_distance(record: Record) -> int:
    """Returns the interval of the least depth in `pixel_coords`."""
    coordinates = np.asarray(record["objects"]["pixel_coords"])
    return bin_of(coordinates[:, 2].min(), _CLEVR_THRESHOLDS)


def kitti_count_vehicles(record: Record) -> int:
    """Returns the number of cars, vans and trucks; 3 stands for more, too."""
    types = np.asarray(record["objects"]["type"])
    return min(int(np.sum(types < _NUM_VEHICLE_TYPES)), _NUM_VEHICLES_CAP)


def kitti_closest_object_distance(record: Record) -> int:
    """Returns the interval of the nearest object's distance ahead."""
    location = np.asarray(record["objects"]["location"])
    return bin_of(location[:, 2].min(), _KITTI_THRESHOLDS)


def kitti_closest_vehicle_distance(record: Record) -> int:
    """Returns the interval of the nearest vehicle's distance ahead.

    The last class means that there is no vehicle.
    """
    types = np.asarray(record["objects"]["type"])
    ahead = np.asarray(record["objects"]["location"])[:, 2]
    nearest = np.min(
        ahead, initial=_NO_VEHICLE, where=types < _NUM_VEHICLE_TYPES
    )
    return bin_of(nearest, _KITTI_VEHICLE_THRESHOLDS)


def _intervals(
    thresholds: tuple[float, ...], unit: str = ""
) -> tuple[str, ...]:
    """Names the classes between thresholds; the first and last are open."""
    inner = thresholds[1:]
    return (
        f"up to {inner[0]:g}{unit}",
        *(f"{a:g} to {b:g}{unit}" for a, b in itertools.pairwise(inner)),
        f"over {inner[-1]:g}{unit}",
    )


FUNCTIONS: dict[str, Label] = {
    "clevr/count_all": Label(
        {"objects": {"size"}},
        clevr_count_all,
        tuple(f"{n} objects" for n in range(_NUM_OBJECTS_MIN, 11)),
    ),
    "clevr/count_cylinders": Label(
        {"objects": {"shape"}},
        clevr_count_cylinders,
        tuple(f"{n} cylinders" for n in range(11)),
    ),
    "clevr/closest_object_distance": Label(
        {"objects": {"pixel_coords"}},
        clevr_closest_object_distance,
        # No scene reaches the last threshold, which only ends the last class.
        _intervals(_CLEVR_THRESHOLDS[:-1]),
    ),
    "kitti/count_vehicles": Label(
        {"objects": {"type"}},
        kitti_count_vehicles,
        ("no vehicle", "1 vehicle", "2 vehicles", "3 or more vehicles"),
    ),
    "kitti/closest_object_distance": Label(
        {"objects": {"location"}},
        kitti_closest_object_distance,
        _intervals(_KITTI_THRESHOLDS, " m"),
    ),
    "kitti/closest_vehicle_distance": Label(
        {"objects": {"type", "location"}},
        kitti_closest_vehicle_distance,
        (*_intervals(_KITTI_VEHICLE_THRESHOLDS[:-1], " m"), "no vehicle"),
    ),
}
