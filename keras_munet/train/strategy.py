"""Which devices train: a tf.distribute strategy by name."""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_munet import errors

NAMES = ("auto", "one_device", "mirrored")


def make(name: str = "auto") -> tf.distribute.Strategy:
    """Returns the strategy called `name`.

    Args:
      name: `one_device`, `mirrored` (every GPU, or every logical CPU), or
        `auto`: mirrored where there are several GPUs, else one device.

    Raises:
      UsageError: `name` is none of these.
    """
    if name not in NAMES:
        raise errors.UsageError(
            f"unknown strategy {name!r}; choose one of {', '.join(NAMES)}"
        )
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    # One for the whole process: each numbers its collective operations from
    # the start, and those of equal number meet, whichever graph they are in.
    return tf.distribute.MirroredStrategy(list(devices))
