"""Lists facts of the published data sets that no download needs.

Invariant: facts only, from the pages of TensorFlow Datasets (TFDS) and of the
data sets' publishers; what a prepared data set says of itself is compared
with them, never replaced by them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_munet.data import image_storage

# What no page of the publisher or of TFDS states.
NOT_STATED = "not stated"


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set of TFDS, with its config.

    Attributes:
      version: the one that its counts hold for.
      num_examples: by split.
      shape: height, width, channels; 0 where images differ.
      licence: of the images, as the publisher states it.
      manual_files: what TFDS cannot fetch and must be given; empty for most.
      side_max: images of many sizes are stored as squares of at most so many
        pixels, because they are no larger in the source.
      pixel_max: the value of a full pixel in the source.
    """

    version: str
    num_examples: Mapping[str, int]
    shape: tuple[int, int, int]
    licence: str = NOT_STATED
    manual_files: str = ""
    side_max: int = image_storage.SIDE_MAX
    pixel_max: int = 255


_ANY_COLOR = (0, 0, 3)
_RESEARCH = "non-commercial research"


def _splits(train: int = 0, validation: int = 0, test: int = 0, **more: int):
    named = {"train": train, "validation": validation, "test": test, **more}
    return {name: number for name, number in named.items() if number}


def _decathlon(train: int, validation: int, test: int) -> Source:
    """The decathlon's images have a shorter side of 72 pixels."""
    return Source(
        "1.2.0",
        _splits(train, validation, test),
        _ANY_COLOR,
        "of the ten sources",
        side_max=72,
    )


def _cmaterdb(train: int, test: int) -> Source:
    return Source(
        "1.0.0",
        _splits(train, test=test),
        (32, 32, 3),
        "Apache-2.0, images non-commercial",
    )


SOURCES: dict[str, Source] = {
    "caltech101": Source(
        "3.0.2", _splits(3_060, test=6_084), _ANY_COLOR, "CC BY 4.0"
    ),
    "cifar10": Source("3.0.2", _splits(50_000, test=10_000), (32, 32, 3)),
    "cifar100": Source("3.0.2", _splits(50_000, test=10_000), (32, 32, 3)),
    "cifar10_1/v4": Source("1.1.0", _splits(test=2_021), (32, 32, 3)),
    "clevr": Source(
        "3.1.0", _splits(70_000, 15_000, 15_000), _ANY_COLOR, "CC BY 4.0"
    ),
    "cmaterdb/bangla": _cmaterdb(5_000, 1_000),
    "cmaterdb/devanagari": _cmaterdb(2_500, 500),
    "cmaterdb/telugu": _cmaterdb(2_500, 500),
    "diabetic_retinopathy_detection/btgraham-300": Source(
        "3.0.0",
        _splits(35_126, 10_906, 42_670, sample=10),
        _ANY_COLOR,
        "Kaggle competition rules",
        manual_files=(
            "folders sample/, train/ and test/ of the Kaggle competition's "
            "images and its label files"
        ),
    ),
    "dmlab": Source("2.0.1", _splits(65_550, 22_628, 22_735), (360, 480, 3)),
    "dsprites": Source(
        "2.0.0", _splits(737_280), (64, 64, 1), "Apache-2.0", pixel_max=1
    ),
    "dtd": Source("3.0.1", _splits(1_880, 1_880, 1_880), _ANY_COLOR, _RESEARCH),
    "emnist/digits": Source(
        "3.1.0", _splits(240_000, test=40_000), (28, 28, 1)
    ),
    "emnist/letters": Source(
        "3.1.0", _splits(88_800, test=14_800), (28, 28, 1)
    ),
    "eurosat/rgb": Source("2.0.0", _splits(27_000), (64, 64, 3), "MIT"),
    "imagenet2012": Source(
        "5.1.0",
        _splits(1_281_167, 50_000, 100_000),
        _ANY_COLOR,
        _RESEARCH,
        manual_files=(
            "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and, where "
            "there is one, ILSVRC2012_img_test.tar"
        ),
    ),
    "imagenet_v2/matched-frequency": Source(
        "3.0.0", _splits(test=10_000), _ANY_COLOR, "MIT"
    ),
    "kitti": Source(
        "3.3.0", _splits(6_347, 423, 711), _ANY_COLOR, "CC BY-NC-SA 3.0"
    ),
    "kmnist": Source(
        "3.0.1", _splits(60_000, test=10_000), (28, 28, 1), "CC BY-SA 4.0"
    ),
    "mnist": Source("3.0.1", _splits(60_000, test=10_000), (28, 28, 1)),
    "omniglot": Source(
        "3.0.0",
        _splits(19_280, test=13_180, small1=2_720, small2=3_120),
        (105, 105, 3),
        "MIT",
    ),
    "oxford_flowers102": Source(
        "2.1.1", _splits(1_020, 1_020, 6_149), _ANY_COLOR
    ),
    "oxford_iiit_pet": Source(
        "4.0.0", _splits(3_680, test=3_669), _ANY_COLOR, "CC BY-SA 4.0"
    ),
    "patch_camelyon": Source(
        "2.0.0", _splits(262_144, 32_768, 32_768), (96, 96, 3), "CC0"
    ),
    "resisc45": Source(
        "3.0.0",
        _splits(31_500),
        (256, 256, 3),
        manual_files="the unpacked folder NWPU-RESISC45",
    ),
    "smallnorb": Source(
        "2.0.0", _splits(24_300, test=24_300), (96, 96, 1), _RESEARCH
    ),
    "sun397/tfds": Source("4.0.0", _splits(76_128, 10_875, 21_750), _ANY_COLOR),
    "svhn_cropped": Source(
        "3.1.0",
        _splits(73_257, test=26_032, extra=531_131),
        (32, 32, 3),
        _RESEARCH,
    ),
    "visual_domain_decathlon/aircraft": _decathlon(3_334, 3_333, 3_333),
    "visual_domain_decathlon/cifar100": _decathlon(40_000, 10_000, 10_000),
    "visual_domain_decathlon/daimlerpedcls": _decathlon(23_520, 5_880, 19_600),
    "visual_domain_decathlon/dtd": _decathlon(1_880, 1_880, 1_880),
    "visual_domain_decathlon/gtsrb": _decathlon(31_367, 7_842, 12_630),
    "visual_domain_decathlon/imagenet12": _decathlon(1_232_167, 49_000, 48_238),
    "visual_domain_decathlon/omniglot": _decathlon(17_853, 6_492, 8_115),
    "visual_domain_decathlon/svhn": _decathlon(47_217, 26_040, 26_032),
    "visual_domain_decathlon/ucf101": _decathlon(7_585, 1_952, 3_783),
    "visual_domain_decathlon/vgg-flowers": _decathlon(1_020, 1_020, 6_149),
}
