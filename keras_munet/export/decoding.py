"""JPEG and PNG bytes as the images of a task, inside the graph.

Invariant: bytes that are no such image, or one of too many pixels, end in an
`InvalidArgumentError` that says so, before memory for them is taken; a request
takes memory for one decoded image at a time.
"""

from __future__ import annotations

import tensorflow as tf

from keras_munet.data import preprocessing

# 8,192 x 8,192; decoded to float32 RGB that is 0.8 GB.
NUM_PIXELS_MAX = 2**26
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
# A PNG's width and height: big-endian, behind the magic and the length and
# name of the first chunk (PNG specification, section 11.2.2).
_PNG_SIZE_AT = 16
_PNG_SIZE_BYTES = 8


def decoded_images(encoded: tf.Tensor, image_size: int) -> tf.Tensor:
    """Returns `[n, image_size, image_size, 3] float32` in [-1, 1].

    Args:
      encoded: `[n] string`, each a whole JPEG or PNG of any size.
      image_size: side of the model's input, pixels.
    """

    def decode(data: tf.Tensor) -> tf.Tensor:
        image = _decoded(data)
        return preprocessing.evaluation_images(image[tf.newaxis], image_size)[0]

    return tf.map_fn(
        decode,
        encoded,
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3]),
        # One image in memory at a time, however many a request has: a file of
        # 0.2 MB may state NUM_PIXELS_MAX pixels.
        parallel_iterations=1,
    )


def _decoded(data: tf.Tensor) -> tf.Tensor:
    """Returns `[height, width, 3] uint8`."""
    is_png = _starts_with(data, _PNG_MAGIC)
    is_jpeg = _starts_with(data, _JPEG_MAGIC)
    known = tf.debugging.Assert(
        is_png | is_jpeg,
        ["bytes are neither a JPEG nor a PNG image; send one of these"],
    )
    with tf.control_dependencies([known]):
        side = tf.cond(
            is_png, lambda: _png_size(data), lambda: _jpeg_size(data)
        )
    num_pixels = tf.reduce_prod(side)
    fits = tf.debugging.Assert(
        (num_pixels > 0) & (num_pixels <= NUM_PIXELS_MAX),
        ["the image has", num_pixels, "pixels; send 1 to", NUM_PIXELS_MAX],
    )
    with tf.control_dependencies([fits]):
        data = tf.identity(data)
    return tf.cond(
        is_png,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: tf.io.decode_jpeg(data, channels=3),
    )


def _starts_with(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    # Not substr: it fails on strings that are shorter.
    padded = tf.strings.join([data, tf.constant(b" " * len(magic))])
    return tf.strings.substr(padded, 0, len(magic)) == magic


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Returns `[2] int64`, width and height as the header states them."""
    padding = tf.constant(b" " * (_PNG_SIZE_AT + _PNG_SIZE_BYTES))
    padded = tf.strings.join([data, padding])
    header = tf.strings.substr(padded, _PNG_SIZE_AT, _PNG_SIZE_BYTES)
    digits = tf.io.decode_raw(header, tf.uint8, fixed_length=_PNG_SIZE_BYTES)
    digits = tf.cast(tf.reshape(digits, [2, 4]), tf.int64)
    return tf.reduce_sum(digits * [1 << 24, 1 << 16, 1 << 8, 1], 1)


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """Returns `[2] int64`, height and width as the header states them."""
    return tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)
