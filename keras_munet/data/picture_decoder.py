"""Decodes picture files into upright RGB pixels, inside a TensorFlow graph.

Preparing, predicting and serving all call `decoded` and `resized`, so a file
has the same pixels everywhere. JPEG, PNG, GIF (first frame), BMP and WebP
become what their author sees: turned by the orientation of their EXIF block,
transparent parts on white, palettes applied, 16 bits reduced to 8.

Invariant: bytes that are no such picture, or state too many pixels, end in an
`InvalidArgumentError` that says so before memory for pixels is taken. No
string constant of the graph has a byte above 0x7F, which converters of
SavedModels would read as UTF-8.

Sources of the layouts: PNG specification 1.2 (chunks), JFIF and Exif 2.3
(markers, TIFF block), GIF89a, the BITMAPINFOHEADER of BMP, and the WebP
container specification.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_munet.data import image_storage

NUM_PIXELS_MAX = image_storage.NUM_PIXELS_MAX
_ORIENTATION_TAG = 0x0112
# An EXIF block sorts its tags; the orientation is one of the first.
_NUM_TAGS_MAX = 64
_TAG_BYTES = 12
_TIFF_SHORT, _TIFF_LONG = 3, 4
_MAX_UINT8 = 255


def decoded(data: tf.Tensor, *, webp: bool = True) -> tf.Tensor:
    """Returns `[height, width, 3] uint8`, the pixels of a file.

    A 16-bit PNG is scaled by the bits that it uses: its brightest value
    decides whether 255, 4,095 or 65,535 is white.

    Args:
      data: `[] string`, a whole JPEG, PNG, GIF, BMP or WebP file.
      webp: whether WebP is decoded. TensorFlow before 2.20, and so
        TensorFlow Serving 2.19, cannot load a graph that does.

    Raises:
      InvalidArgumentError: it is none, damaged, animated WebP, or has more
        than `NUM_PIXELS_MAX` pixels.
    """
    head = _bytes(data, 0, 12)
    matches = tf.stack(
        [
            _equal(head[:3], b"\xff\xd8\xff"),
            _equal(head[:8], b"\x89PNG\r\n\x1a\n"),
            _equal(head[:4], b"GIF8"),
            _equal(head[:2], b"BM"),
            _equal(head[:4], b"RIFF") & _equal(head[8:12], b"WEBP"),
        ]
    )
    decoders = [_jpeg, _png, _gif, _bmp, *([_webp] if webp else [])]
    if webp:
        message = "bytes are no JPEG, PNG, GIF, BMP or WebP image"
    else:
        message = "bytes are no JPEG, PNG, GIF or BMP image"
    check = tf.debugging.Assert(
        tf.reduce_any(matches[: len(decoders)]),
        [f"{message}; send one of these"],
    )
    with tf.control_dependencies([check]):
        which = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)

    def branch(decode: Callable[[tf.Tensor], tf.Tensor]):
        return lambda: tf.ensure_shape(decode(data), [None, None, 3])

    image = tf.switch_case(which, [branch(decode) for decode in decoders])
    return tf.ensure_shape(image, [None, None, 3])


def resized(
    images: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor
) -> tf.Tensor:
    """Returns `[..., height, width, channels] uint8` of the whole images.

    Bilinear; where an image shrinks, a pixel is the weighted mean of all
    pixels that it covers. Values are rounded to the nearest whole number.

    Args:
      images: `[..., any, any, channels] uint8`, with or without a batch.
      height: of the result, pixels.
      width: of the result, pixels.
    """
    pixels = tf.image.resize(images, tf.stack([height, width]), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.uint8)


# Bytes and numbers.


def _bytes(data: tf.Tensor, start: int | tf.Tensor, count: int) -> tf.Tensor:
    """Returns `[count] int32`; zeros behind the end of `data`."""
    start = tf.clip_by_value(start, 0, tf.strings.length(data))
    piece = tf.strings.substr(data, start, count)
    raw = tf.io.decode_raw(piece, tf.uint8, fixed_length=count)
    return tf.cast(tf.reshape(raw, [count]), tf.int32)


def _little(values: tf.Tensor) -> tf.Tensor:
    """Returns the numbers of little-endian bytes on the last axis."""
    factors = [1 << 8 * i for i in range(values.shape[-1])]
    return tf.reduce_sum(values * tf.constant(factors, tf.int32), -1)


def _big(values: tf.Tensor) -> tf.Tensor:
    return _little(tf.reverse(values, [-1]))


def _equal(values: tf.Tensor, text: bytes) -> tf.Tensor:
    return tf.reduce_all(values == tf.constant(list(text), tf.int32))


def _bounded(data: tf.Tensor, width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Returns `data` once its stated size is known to be within bounds."""
    num_pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
    fits = tf.debugging.Assert(
        (width > 0) & (height > 0) & (num_pixels <= NUM_PIXELS_MAX),
        [
            "the image states",
            width,
            "x",
            height,
            "pixels; send 1 to",
            NUM_PIXELS_MAX,
        ],
    )
    with tf.control_dependencies([fits]):
        return tf.identity(data)


# Orientation.


def _tiff_orientation(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns 1 to 8 from the TIFF block at `start`; 1 where none is."""
    head = _bytes(data, start, 8)
    is_little = head[0] == ord("I")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little, _little(values), _big(values))

    first = start + tf.clip_by_value(number(head[4:8]), 8, 1 << 24)
    count = number(_bytes(data, first, 2))
    tags = _bytes(data, first + 2, _TAG_BYTES * _NUM_TAGS_MAX)
    tags = tf.reshape(tags, [_NUM_TAGS_MAX, _TAG_BYTES])
    types = number(tags[:, 2:4])
    is_orientation = (
        (number(tags[:, 0:2]) == _ORIENTATION_TAG)
        & (tf.range(_NUM_TAGS_MAX) < count)
        & ((types == _TIFF_SHORT) | (types == _TIFF_LONG))
    )
    values = tf.where(
        types == _TIFF_SHORT, number(tags[:, 8:10]), number(tags[:, 8:12])
    )
    value = tf.reduce_max(tf.where(is_orientation, values, 0))
    is_tiff = (
        (start > 0) & (head[0] == head[1]) & (is_little | (head[0] == ord("M")))
    )
    return tf.where(is_tiff & (value >= 1) & (value <= 8), value, 1)


def _jpeg_exif_start(data: tf.Tensor) -> tf.Tensor:
    """Returns where a JPEG's TIFF block begins; 0 where there is none."""
    length = tf.strings.length(data)

    def body(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        segment = _bytes(data, at, 10)
        marker = segment[1]
        is_exif = (
            (segment[0] == 0xFF)
            & (marker == 0xE1)
            & _equal(segment[4:10], b"Exif\x00\x00")
        )
        has_no_length = (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        step = tf.where(has_no_length, 2, 2 + _big(segment[2:4]))
        # A marker may be preceded by any number of 0xFF.
        step = tf.where(marker == 0xFF, 1, step)
        is_end = (segment[0] != 0xFF) | (marker == 0xDA) | (marker == 0xD9)
        return (
            tf.where(is_end, length, at + step),
            tf.where(is_exif, at + 10, 0),
        )

    return tf.while_loop(
        lambda at, start: (at < length) & (start == 0),
        body,
        [2, 0],
        parallel_iterations=1,
    )[1]


def _chunks(
    data: tf.Tensor, at: int, exif_name: bytes, alpha_name: bytes
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the EXIF chunk begins, or 0, and whether alpha is there.

    Args:
      data: a PNG, or a WebP, whose numbers are little-endian.
      at: where its first chunk begins.
      exif_name: of the chunk with a TIFF block.
      alpha_name: of the chunk that makes pixels transparent.
    """
    length = tf.strings.length(data)
    is_png = exif_name == b"eXIf"

    def body(at: tf.Tensor, exif: tf.Tensor, alpha: tf.Tensor):
        head = _bytes(data, at, 8)
        size = _big(head[0:4]) if is_png else _little(head[4:8])
        size = tf.where(size < 0, length, size)
        name = head[4:8] if is_png else head[0:4]
        exif = tf.where(_equal(name, exif_name) & (exif == 0), at + 8, exif)
        alpha |= _equal(name, alpha_name)
        # A PNG chunk ends in a checksum; WebP's are padded to even sizes.
        step = size + 12 if is_png else size + 8 + size % 2
        return at + tf.clip_by_value(step, 8, length), exif, alpha

    _, exif, alpha = tf.while_loop(
        lambda at, *_: at < length,
        body,
        [at, 0, False],
        parallel_iterations=1,
    )
    # WebP's may begin with JPEG's name for it.
    is_named = _equal(_bytes(data, exif, 4), b"Exif")
    return tf.where(is_named & (exif > 0), exif + 6, exif), alpha


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns an image turned as EXIF's orientation 1 to 8 says."""
    o = orientation
    image = tf.cond(
        o >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image
    )
    mirrored = tf.cond(
        (o == 2) | (o == 3) | (o == 6) | (o == 7),
        lambda: tf.reverse(image, [1]),
        lambda: image,
    )
    return tf.cond(
        (o == 3) | (o == 4) | (o == 7) | (o == 8),
        lambda: tf.reverse(mirrored, [0]),
        lambda: mirrored,
    )


def _on_white(rgba: tf.Tensor) -> tf.Tensor:
    """Returns `[height, width, 3] uint8`, rounded to the nearest value."""
    alpha = tf.cast(rgba[..., 3:], tf.uint16)
    color = tf.cast(rgba[..., :3], tf.uint16)
    # (x + 128 + ((x + 128) >> 8)) >> 8 is x / 255, rounded.
    mixed = color * alpha + (_MAX_UINT8 - alpha) * _MAX_UINT8 + 128
    eight = tf.constant(8, tf.uint16)
    shifted = tf.bitwise.right_shift(mixed, eight)
    return tf.cast(tf.bitwise.right_shift(mixed + shifted, eight), tf.uint8)


# Kinds of files.


def _jpeg(data: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(data)
    data = _bounded(data, shape[1], shape[0])
    # The default is faster and differs by up to 6 levels.
    image = tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")
    return _upright(image, _tiff_orientation(data, _jpeg_exif_start(data)))


def _png(data: tf.Tensor) -> tf.Tensor:
    head = _bytes(data, 16, 10)
    data = _bounded(data, _big(head[0:4]), _big(head[4:8]))
    exif, has_alpha_chunk = _chunks(data, 8, b"eXIf", b"tRNS")
    depth, color_type = head[8], head[9]
    has_alpha = has_alpha_chunk | (color_type >= 4)

    def wide(num_channels: int) -> Callable[[], tf.Tensor]:
        return lambda: _narrowed(
            tf.io.decode_png(data, num_channels, tf.uint16)
        )

    image = tf.cond(
        depth == 16,
        lambda: tf.cond(has_alpha, lambda: _on_white(wide(4)()), wide(3)),
        lambda: tf.cond(
            has_alpha,
            lambda: _on_white(tf.io.decode_png(data, 4)),
            lambda: tf.io.decode_png(data, 3),
        ),
    )
    return _upright(image, _tiff_orientation(data, exif))


def _narrowed(wide: tf.Tensor) -> tf.Tensor:
    """Returns `uint8` of `[height, width, channels] uint16` pixels.

    The brightest colour tells which of `image_storage.WIDE_WHITES` is
    white; alpha has all 16 bits.
    """
    values = tf.cast(wide, tf.int32)
    colors, alpha = values[..., :3], values[..., 3:]
    brightest = tf.reduce_max(colors)
    eight, twelve, sixteen = image_storage.WIDE_WHITES
    white = tf.where(
        brightest <= eight,
        eight,
        tf.where(brightest <= twelve, twelve, sixteen),
    )
    colors = colors * _MAX_UINT8 // white
    alpha = alpha * _MAX_UINT8 // sixteen
    return tf.cast(tf.concat([colors, alpha], -1), tf.uint8)


def _gif(data: tf.Tensor) -> tf.Tensor:
    """Returns the first frame; its transparent colour becomes white."""
    length = tf.strings.length(data)
    head = _bytes(data, 6, 7)
    width, height = _little(head[0:2]), _little(head[2:4])

    def table_bytes(flags: tf.Tensor) -> tf.Tensor:
        size = 3 * tf.bitwise.left_shift(2, flags % 8)
        return tf.where(flags >= 128, size, 0)

    def behind_blocks(at: tf.Tensor) -> tf.Tensor:
        """Returns where the sub-blocks end that begin at `at`."""
        at, _ = tf.while_loop(
            lambda _, size: size > 0,
            lambda at, size: (
                at + size + 1,
                _bytes(data, at + size + 1, 1)[0],
            ),
            [at, _bytes(data, at, 1)[0]],
            parallel_iterations=1,
        )
        return at + 1

    def extension(at: tf.Tensor, clear: tf.Tensor):
        block = _bytes(data, at, 8)
        is_control = (block[1] == 0xF9) & (block[3] % 2 == 1)
        clear = tf.where(is_control, block[6], clear)
        return behind_blocks(at + 2), clear

    start = 13 + table_bytes(head[4])
    at, clear = tf.while_loop(
        lambda at, _: (_bytes(data, at, 1)[0] == ord("!")) & (at < length),
        extension,
        [start, -1],
        parallel_iterations=1,
    )
    frame = _bytes(data, at, 10)
    fills = tf.debugging.Assert(
        (frame[0] == ord(","))
        & (_little(frame[1:3]) == 0)
        & (_little(frame[3:5]) == 0)
        & (_little(frame[5:7]) == width)
        & (_little(frame[7:9]) == height),
        ["the GIF is damaged or its first picture does not fill it; send PNG"],
    )
    with tf.control_dependencies([fills]):
        data = _bounded(data, width, height)
    local_bytes = table_bytes(frame[9])
    end = behind_blocks(at + 10 + local_bytes + 1)
    first = tf.strings.substr(data, at, end - at)
    single = tf.strings.join([tf.strings.substr(data, 0, start), first, ";"])
    # Extensions were left out: a local table stands right behind `start`.
    color = tf.where(local_bytes > 0, start + 10, 13) + 3 * clear

    def whitened() -> tf.Tensor:
        # 255 three times, without a constant that is no UTF-8.
        white = tf.io.decode_base64("____")
        rest = tf.strings.length(single) - color - 3
        return tf.strings.join(
            [
                tf.strings.substr(single, 0, color),
                white,
                tf.strings.substr(single, color + 3, rest),
            ]
        )

    single = tf.cond(clear >= 0, whitened, lambda: single)
    frames = tf.io.decode_gif(single)
    return tf.ensure_shape(frames, [None, None, None, 3])[0]


def _bmp(data: tf.Tensor) -> tf.Tensor:
    head = _bytes(data, 0, 70)
    width, height = _little(head[18:22]), tf.abs(_little(head[22:26]))
    bits, packing = _little(head[28:30]), _little(head[30:34])
    # Packing 3 states where red, green, blue and alpha lie in 32 bits.
    has_masks = (bits == 32) & (packing == 3)
    has_alpha = has_masks & (head[69] == 0xFF) & (_little(head[14:18]) >= 56)
    usual = _equal(head[54:66], b"\0\0\xff\0\0\xff\0\0\xff\0\0\0")
    is_plain = (packing == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    check = tf.debugging.Assert(
        is_plain | (has_masks & usual),
        [
            "a BMP of",
            bits,
            "bits per pixel, packed as",
            packing,
            "is not read; send PNG",
        ],
    )
    with tf.control_dependencies([check]):
        data = _bounded(data, width, height)

    def paletted() -> tf.Tensor:
        stated = _little(head[46:50])
        count = tf.where(stated > 0, stated, 256)
        table = _bytes(data, 14 + _little(head[14:18]), 1024)
        colors = tf.reverse(tf.reshape(table, [256, 4])[:, :3], [1])
        colors = tf.where(tf.range(256)[:, None] < count, colors, 0)
        indices = tf.cast(tf.io.decode_bmp(data, 0)[..., 0], tf.int32)
        return tf.gather(tf.cast(colors, tf.uint8), indices)

    return tf.cond(
        bits == 8,
        paletted,
        lambda: tf.cond(
            bits == 24,
            lambda: tf.io.decode_bmp(data, 3),
            lambda: tf.cond(
                has_alpha,
                lambda: _on_white(tf.io.decode_bmp(data, 4)),
                lambda: tf.io.decode_bmp(data, 4)[..., :3],
            ),
        ),
    )


def _webp(data: tf.Tensor) -> tf.Tensor:
    head = _bytes(data, 12, 18)
    is_extended, is_lossless = (
        _equal(head[0:4], b"VP8X"),
        _equal(head[0:4], b"VP8L"),
    )
    # Each of the three forms states its size in its own way.
    packed = _little(head[9:13])
    fourteen_bits = 0x3FFF
    high = tf.bitwise.right_shift(packed, 14)
    width = tf.where(
        is_extended,
        1 + _little(head[12:15]),
        tf.where(
            is_lossless,
            1 + tf.bitwise.bitwise_and(packed, fourteen_bits),
            tf.bitwise.bitwise_and(_little(head[14:16]), fourteen_bits),
        ),
    )
    height = tf.where(
        is_extended,
        1 + _little(head[15:18]),
        tf.where(
            is_lossless,
            1 + tf.bitwise.bitwise_and(high, fourteen_bits),
            tf.bitwise.bitwise_and(_little(head[16:18]), fourteen_bits),
        ),
    )
    is_animated = is_extended & (tf.bitwise.bitwise_and(head[8], 2) > 0)
    still = tf.debugging.Assert(
        tf.logical_not(is_animated),
        ["an animated WebP is not read; send one picture"],
    )
    with tf.control_dependencies([still]):
        data = _bounded(data, width, height)
    exif, _ = _chunks(data, 12, b"EXIF", b"ALPH")
    # TensorFlow refuses another number of channels than the file has.
    frames = tf.io.decode_webp(data, 0)
    image = tf.ensure_shape(frames, [1, None, None, None])[0]
    image = tf.cond(
        tf.shape(image)[-1] == 4,
        lambda: _on_white(tf.ensure_shape(image, [None, None, 4])),
        lambda: tf.ensure_shape(image, [None, None, 3]),
    )
    return _upright(image, _tiff_orientation(data, exif))
