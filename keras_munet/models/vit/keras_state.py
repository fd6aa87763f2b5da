"""Shields training and exporting from a program's own Keras settings.

A program may set another dtype policy, floatx or image data format for its
other models, or have them in `keras.json`. What a system computes does not
depend on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def default_keras_state() -> Iterator[None]:
    """Sets Keras's own defaults; restores the program's settings at the end.

    Also a decorator.

    Example:
      >>> import keras
      >>> keras.config.set_floatx("float16")
      >>> with default_keras_state():
      ...     keras.config.floatx()
      'float32'
      >>> keras.config.floatx()
      'float16'
      >>> keras.config.set_floatx("float32")
    """
    # Decorating a function imports nothing.
    import keras

    floatx = keras.config.floatx()
    data_format = keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(data_format)
        keras.config.set_dtype_policy(policy)
