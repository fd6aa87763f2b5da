"""Every published task, and which examples train, validate and test it.

Invariant: the three splits of a task are disjoint, save where the published
experiment says otherwise, and a name means the same examples on every
machine. Section 3 of the method gives the rule and its exceptions; the tasks
of VTAB (arXiv 1910.04867) keep that benchmark's own splits and labels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from collections.abc import Mapping
from typing import NamedTuple

from keras_munet import errors
from keras_munet.data.tfds import catalogue_sources as sources

# Where a data set lacks `validation` or `test`, this share of train stands in.
HELD_OUT_PERCENT = 5
_PLAIN_LABEL = "label"
_SMALL = "/1k"
_NUM_SMALL_TRAIN = 800
_NUM_SMALL_VALIDATION = 200


# As configs name the benchmarks -> as the papers do.
BENCHMARKS = {
    "vit": "ViT",
    "vtab_full": "VTAB-full",
    "vdd": "VDD",
    "characters": "characters",
    "vtab_1k": "VTAB-1k",
}


class Plan(NamedTuple):
    """Split instructions of TFDS, e.g. `train[:5%]`.

    Attributes:
      train: of the task's data set.
      validation: of `validation_source`.
      test: of `test_source`.
      validation_source: another data set; empty for the task's own.
      test_source: another data set; empty for the task's own.
    """

    train: str
    validation: str
    test: str
    validation_source: str = ""
    test_source: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A published task.

    Attributes:
      name: as the published experiments write it.
      benchmark: `ViT`, `VTAB-full`, `VDD`, `characters` or `VTAB-1k`.
      source: a key of `catalogue_sources.SOURCES`.
      plan: which of its examples go where.
      num_classes: labels lie in [0, num_classes).
      label: the feature that is the label, or a key of `labels.FUNCTIONS`.
    """

    name: str
    benchmark: str
    source: str
    plan: Plan
    num_classes: int
    label: str = _PLAIN_LABEL


EXCEPTIONS: dict[str, Plan] = {
    "cifar10": Plan("train", "test", "test", validation_source="cifar10_1/v4"),
    "cifar100": Plan("train[:98%]", "train[98%:]", "test"),
    "cmaterdb/*": Plan("train[20%:]", "train[:20%]", "test"),
    "imagenet2012": Plan(
        "train",
        "test",
        "validation",
        validation_source="imagenet_v2/matched-frequency",
    ),
    "omniglot": Plan("train", "small1", "small2"),
    "visual_domain_decathlon/*": Plan(
        "train", "validation[:50%]", "validation[50%:]"
    ),
}


class _Vtab(NamedTuple):
    """A task of VTAB: its data set, how that is split, and its label.

    `train_percent` is the share of train that trains, 100 where the data set
    has a validation split; what follows it validates.
    """

    source: str
    train_percent: int
    num_classes: int
    label: str = _PLAIN_LABEL


# Splits and labels: github.com/google-research/task_adaptation, folder data.
# Positions and orientations of dsprites are not grouped into 16 classes as
# VTAB does by default: mu2Net's experiments (muNet/mu2Net.ipynb) use all.
_VTAB: dict[str, _Vtab] = {
    "caltech101": _Vtab("caltech101", 90, 102),
    "dtd": _Vtab("dtd", 100, 47),
    "oxford_flowers102": _Vtab("oxford_flowers102", 100, 102),
    "oxford_iiit_pet": _Vtab("oxford_iiit_pet", 80, 37),
    "sun397": _Vtab("sun397/tfds", 100, 397),
    "svhn_cropped": _Vtab("svhn_cropped", 90, 10),
    "patch_camelyon": _Vtab("patch_camelyon", 100, 2),
    "eurosat": _Vtab("eurosat/rgb", 60, 10),
    "resisc45": _Vtab("resisc45", 60, 45),
    "diabetic_retinopathy_detection/btgraham-300": _Vtab(
        "diabetic_retinopathy_detection/btgraham-300", 100, 5
    ),
    "clevr/count_cylinders": _Vtab("clevr", 90, 11, "clevr/count_cylinders"),
    "clevr/count_all": _Vtab("clevr", 90, 8, "clevr/count_all"),
    "clevr/closest_object_distance": _Vtab(
        "clevr", 90, 6, "clevr/closest_object_distance"
    ),
    "dmlab": _Vtab("dmlab", 100, 6),
    "dsprites/label_x_position": _Vtab("dsprites", 80, 32, "label_x_position"),
    "dsprites/label_orientation": _Vtab(
        "dsprites", 80, 40, "label_orientation"
    ),
    "kitti/closest_object_distance": _Vtab(
        "kitti", 100, 5, "kitti/closest_object_distance"
    ),
    "kitti/count_vehicles": _Vtab("kitti", 100, 4, "kitti/count_vehicles"),
    "kitti/closest_vehicle_distance": _Vtab(
        "kitti", 100, 4, "kitti/closest_vehicle_distance"
    ),
    "smallnorb/label_category": _Vtab("smallnorb", 100, 5, "label_category"),
    "smallnorb/label_lighting": _Vtab("smallnorb", 100, 6, "label_lighting"),
    "smallnorb/label_azimuth": _Vtab("smallnorb", 100, 18, "label_azimuth"),
    "smallnorb/label_elevation": _Vtab("smallnorb", 100, 9, "label_elevation"),
}
# These two have splits of their own in the ViT benchmark; VTAB's serve /1k.
_CIFAR = {
    "cifar100": _Vtab("cifar100", 90, 100),
    "cifar10": _Vtab("cifar10", 90, 10),
}
# VTAB's test examples, where they are not the split `test`.
_VTAB_HELD_OUT: dict[str, tuple[str, str]] = {
    "clevr": ("", "validation"),
    "dsprites": ("train[80%:90%]", "train[90%:]"),
    "eurosat/rgb": ("train[60%:80%]", "train[80%:]"),
    "resisc45": ("train[60%:80%]", "train[80%:]"),
    "smallnorb": ("test[:50%]", "test[50%:]"),
}

_VIT = {"imagenet2012": 1_000, "cifar100": 100, "cifar10": 10}
_DECATHLON = {
    "imagenet12": 1_000,
    "svhn": 10,
    "cifar100": 100,
    "gtsrb": 43,
    "daimlerpedcls": 2,
    "omniglot": 1_623,
    "ucf101": 101,
    "aircraft": 100,
    "dtd": 47,
    "vgg-flowers": 102,
}
_CHARACTERS = {
    "emnist/digits": 10,
    "emnist/letters": 37,
    "kmnist": 10,
    "mnist": 10,
    "omniglot": 1_623,
    "cmaterdb/bangla": 10,
    "cmaterdb/devanagari": 10,
    "cmaterdb/telugu": 10,
}

# Other data sets of TFDS that classify images; they follow the general rule.
OTHERS: tuple[str, ...] = (
    "beans",
    "binary_alpha_digits",
    "caltech_birds2010",
    "caltech_birds2011",
    "cars196",
    "cassava",
    "cats_vs_dogs",
    "citrus_leaves",
    "colorectal_histology",
    "deep_weeds",
    "emnist/balanced",
    "emnist/byclass",
    "emnist/bymerge",
    "emnist/mnist",
    "fashion_mnist",
    "food101",
    "horses_or_humans",
    "imagenet_resized/16x16",
    "imagenet_resized/32x32",
    "imagenet_resized/64x64",
    "imagenet_resized/8x8",
    "imagenette/160px-v2",
    "imagenette/320px-v2",
    "imagenette/full-size-v2",
    "malaria",
    *(
        f"mnist_corrupted/{corruption}"
        for corruption in (
            "brightness",
            "canny_edges",
            "dotted_line",
            "fog",
            "glass_blur",
            "identity",
            "impulse_noise",
            "motion_blur",
            "rotate",
            "scale",
            "shear",
            "shot_noise",
            "spatter",
            "stripe",
            "translate",
            "zigzag",
        )
    ),
    "plant_village",
    "plantae_k",
    "quickdraw_bitmap",
    "rock_paper_scissors",
    "stanford_dogs",
    "stl10",
    "tf_flowers",
    "uc_merced",
)


def plan(task_name: str, available: Collection[str]) -> Plan:
    """Returns the splits of a task by the general rule and its exceptions.

    Args:
      task_name: the bare name of a data set of TFDS.
      available: the splits that the data set has.

    Raises:
      DataError: it has no split to train on.
    """
    data_set = task_name.partition("/")[0]
    for key in (task_name, f"{data_set}/*"):
        if key in EXCEPTIONS:
            return EXCEPTIONS[key]
    if "train" not in available:
        raise errors.DataError(
            f"data set {task_name!r} has no train split: it has "
            f"{', '.join(sorted(available)) or 'none'}; choose another"
        )
    # The first share of train stands in for test, the next for validation.
    held_out = {}
    start = 0
    for name in ("test", "validation"):
        if name in available:
            held_out[name] = name
        else:
            end = start + HELD_OUT_PERCENT
            held_out[name] = (
                f"train[{start or ''}{'%' if start else ''}:{end}%]"
            )
            start = end
    return Plan(train=f"train[{start}%:]" if start else "train", **held_out)


@functools.cache
def tasks() -> Mapping[str, Task]:
    """Returns all 69 published tasks, in the order of their benchmarks."""
    entries = [
        _general(name, "ViT", num_classes) for name, num_classes in _VIT.items()
    ]
    entries += [
        Task(name, "VTAB-full", v.source, _vtab_plan(v), v.num_classes, v.label)
        for name, v in _VTAB.items()
    ]
    entries += [
        _general(f"visual_domain_decathlon/{name}", "VDD", num_classes)
        for name, num_classes in _DECATHLON.items()
    ]
    entries += [
        _general(name, "characters", num_classes)
        for name, num_classes in _CHARACTERS.items()
    ]
    entries += [
        Task(
            name + _SMALL,
            "VTAB-1k",
            v.source,
            _small_plan(v),
            v.num_classes,
            v.label,
        )
        for name, v in _in_order_of_1k()
    ]
    return {task.name: task for task in entries}


def benchmark(key: str) -> tuple[str, ...]:
    """Returns the names of a benchmark's tasks, in its order.

    Args:
      key: of `BENCHMARKS`.
    """
    name = BENCHMARKS[key]
    return tuple(t.name for t in tasks().values() if t.benchmark == name)


def find(task_name: str) -> Task | None:
    """Returns the published task of a bare name, or None."""
    return tasks().get(task_name)


def _in_order_of_1k() -> list[tuple[str, _Vtab]]:
    first, *rest = _VTAB.items()
    return [first, *_CIFAR.items(), *rest]


def _general(name: str, benchmark: str, num_classes: int) -> Task:
    splits = sources.SOURCES[name].num_examples
    return Task(name, benchmark, name, plan(name, splits), num_classes)


def _vtab_plan(task: _Vtab) -> Plan:
    validation, test = _VTAB_HELD_OUT.get(task.source, ("", "test"))
    if task.train_percent == 100:
        return Plan("train", validation or "validation", test)
    percent = task.train_percent
    return Plan(
        f"train[:{percent}%]", validation or f"train[{percent}%:]", test
    )


def _small_plan(task: _Vtab) -> Plan:
    """Returns VTAB's train800, val200 and test.

    The 200 are the first of VTAB's own validation examples.
    """
    whole = _vtab_plan(task)
    split = whole.validation.partition("[")[0]
    start = 0
    if split == "train":
        num_examples = sources.SOURCES[task.source].num_examples["train"]
        start = num_examples * task.train_percent // 100
    end = start + _NUM_SMALL_VALIDATION
    return Plan(
        f"train[:{_NUM_SMALL_TRAIN}]",
        f"{split}[{start or ''}:{end}]",
        whole.test,
    )
