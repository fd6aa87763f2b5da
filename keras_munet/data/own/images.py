"""Turns a user's image files into pixels, or says why it cannot.

`picture_decoder` reads JPEG, PNG, GIF, BMP and WebP, here as in an export.
What it does not read (TIFF, animated WebP, HEIC, rare forms of the others)
Pillow reads; an export then refuses such a file.

Invariant: an image is either decoded as its author sees it (upright, with its
palette applied, transparent parts on white) or refused with a reason; none is
decoded in part, and no other program is started on it.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import UnidentifiedImageError

from keras_munet.data import image_storage

# Pillow hands EPS to another program, and other readers are seldom tested.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF"),
    "WEBP",
)
_HEIF = "HEIF"
NUM_PIXELS_MAX = image_storage.NUM_PIXELS_MAX
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112
# Of a TIFF that is a raw photograph.
_DNG_VERSION = 0xC612
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)
_GREY_MODES = ("1", "L")
# Where an ISO media file names its brand (ISO/IEC 14496-12, `ftyp`).
_FTYP = slice(4, 8)
_BRAND = slice(8, 12)
_HEIC_BRANDS = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"),
    *(b"mif1", b"msf1", b"mif2"),
)
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_AT = 24


# What phones, cameras and drawing programs write besides, by its first bytes.
_UNREAD = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG or other XML"),
    (b"\x00\x00\x01\x00", "an icon file"),
    (b"v/1\x01", "OpenEXR"),
    (b"FUJIFILM", "a raw photograph"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "a raw photograph"),
)


class UnusableImageError(Exception):
    """An image cannot be used; the message is the reason."""


class Picture(NamedTuple):
    """The pixels of a file, and what its owner should hear about it.

    Attributes:
      pixels: `[height, width, 1 or 3] uint8`.
      unserved: the format, where an export refuses the file unless it was
        made with `webp`; else empty.
      wide_bits: 8, 12 or 16, the bits that a 16-bit file uses; 0 of others.
    """

    pixels: np.ndarray
    unserved: str = ""
    wide_bits: int = 0


def size_of(content: bytes) -> tuple[int, int]:
    """Returns (height, width) of the upright image, from the head alone.

    What has a good head may still be damaged; only `decoded` knows.

    Raises:
      UnusableImageError: it is no image, or larger than `NUM_PIXELS_MAX`.
    """
    with _opened(content) as image:
        width, height = image.size
        try:
            is_turned = _orientation(image) in _QUARTER_TURNS
        # Pillow's readers raise nearly everything on damaged files.
        except Exception as e:
            raise UnusableImageError(f"damaged: {_one_line(e)}") from None
        return (width, height) if is_turned else (height, width)


def decoded(content: bytes) -> np.ndarray:
    """Returns `[height, width, 1 or 3] uint8`, as `picture` does.

    Raises:
      UnusableImageError: see `picture`.
    """
    return picture(content).pixels


def picture(content: bytes) -> Picture:
    """Decodes a file.

    Of a file with several pictures the first is taken; a picture with
    transparent parts is laid on white; a 16-bit file is scaled by the bits
    that its brightest pixel uses, 8, 12 or 16. A picture without colour has
    one channel.

    Args:
      content: of the file.

    Raises:
      UnusableImageError: it is empty, no image, damaged, too large, or has
        pixels that are not 8 or 16 bits.
    """
    with _opened(content) as image:
        pixels = _from_graph(content)
        if pixels is not None:
            brightest = _png_brightest(content)
            # Decoded by exports that were made with `webp` alone.
            unserved = image.format if image.format == "WEBP" else ""
        else:
            pixels, brightest = _from_pillow(image)
            unserved = image.format or ""
    wide_bits = 0
    if brightest is not None:
        wide_bits = (white_of(brightest) + 1).bit_length() - 1
    return Picture(_without_color(pixels), unserved, wide_bits)


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `[height, width, 1 or 3] uint8` of the whole image.

    As `picture_decoder.resized`: bilinear; where the image shrinks, over all
    pixels that become one.

    Args:
      pixels: `[any, any, 1 or 3] uint8`.
      height: of the result.
      width: of the result.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    return _graph_functions().resized(pixels, height, width).numpy()


def white_of(brightest: int) -> int:
    """Returns the white of a 16-bit file whose brightest value is given."""
    return next(
        white for white in image_storage.WIDE_WHITES if brightest <= white
    )


class _GraphFunctions(NamedTuple):
    decoded: Callable[..., Any]
    resized: Callable[..., Any]


@functools.cache
def _graph_functions() -> _GraphFunctions:
    """Returns `picture_decoder`'s functions, traced once."""
    # Listing and checking tasks starts no TensorFlow.
    import tensorflow as tf

    from keras_munet.data import picture_decoder

    data = tf.TensorSpec([], tf.string)
    image = tf.TensorSpec([None, None, None], tf.uint8)
    side = tf.TensorSpec([], tf.int32)

    def function(call: Callable[..., Any], *signature: Any) -> Any:
        return tf.function(call, autograph=False, input_signature=signature)

    return _GraphFunctions(
        function(picture_decoder.decoded, data),
        function(picture_decoder.resized, image, side, side),
    )


def _from_graph(content: bytes) -> np.ndarray | None:
    """Returns `[height, width, 3] uint8`; None where the graph refuses."""
    functions = _graph_functions()
    import tensorflow as tf

    try:
        return functions.decoded(content).numpy()
    except tf.errors.OpError:
        return None


def _png_brightest(content: bytes) -> int | None:
    """Returns the largest value of a 16-bit PNG; None of another file."""
    is_wide = content[:8] == _PNG_MAGIC and (
        content[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 1] == b"\x10"
    )
    if not is_wide:
        return None
    import tensorflow as tf

    return int(tf.reduce_max(tf.io.decode_png(content, 3, tf.uint16)))


def _opened(content: bytes) -> Image.Image:
    """Returns the image, of which only the head was read."""
    if not content:
        raise UnusableImageError("empty: 0 bytes")
    formats: tuple[str, ...] = _FORMATS
    if content[_FTYP] == b"ftyp" and content[_BRAND] in _HEIC_BRANDS:
        _register_heif()
        formats = (_HEIF,)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError:
        raise UnusableImageError(
            f"more than {NUM_PIXELS_MAX:,} pixels"
        ) from None
    except UnidentifiedImageError:
        if _HEIF in formats:
            raise UnusableImageError("damaged: no HEIC picture") from None
        raise UnusableImageError(_unread(content)) from None
    except Exception as e:
        raise UnusableImageError(f"damaged: {_one_line(e)}") from None
    if _DNG_VERSION in getattr(image, "tag_v2", ()):
        # Pillow would read its thumbnail.
        raise UnusableImageError(
            "a raw photograph (DNG) is not read; convert it to JPEG or PNG"
        )
    width, height = image.size
    if width * height > NUM_PIXELS_MAX:
        raise UnusableImageError(
            f"{width} x {height} is more than {NUM_PIXELS_MAX:,} pixels"
        )
    if not width * height:
        raise UnusableImageError(f"no pixels: {width} x {height}")
    return image


def _unread(content: bytes) -> str:
    """Returns why a file is not read, by name where its kind is known."""
    for magic, name in _UNREAD:
        if content.startswith(magic):
            return f"{name} is not read; convert it to JPEG or PNG"
    if content[_FTYP] == b"ftyp":
        return "a video is not read; save a picture of it as JPEG or PNG"
    return "not an image"


def _register_heif() -> None:
    """Teaches Pillow to read HEIC.

    Raises:
      UnusableImageError: the package that does is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise UnusableImageError(
            "HEIC is not read without pillow-heif; install "
            "keras_munet[heic], or convert the picture to JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def _from_pillow(image: Image.Image) -> tuple[np.ndarray, int | None]:
    """Returns `[height, width, 1 or 3] uint8` and a 16-bit file's brightest."""
    try:
        with warnings.catch_warnings():
            # Of damaged notes about the camera; pixels are not affected.
            warnings.simplefilter("ignore")
            image.load()
            turn = _TRANSPOSE.get(_orientation(image))
            return _pixels(image if turn is None else image.transpose(turn))
    except UnusableImageError:
        raise
    # Pillow's readers raise nearly everything on damaged files.
    except Exception as e:
        raise UnusableImageError(f"damaged: {_one_line(e)}") from None


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation, 1 to 8; 1 where none is or Pillow turned.

    Pillow's own reading falls back on XMP, which other viewers do not heed.
    """
    if image.format in ("TIFF", _HEIF):
        return 1
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif.get(_ORIENTATION, 1)


def _pixels(image: Image.Image) -> tuple[np.ndarray, int | None]:
    if image.mode in _WIDE_MODES:
        values = np.asarray(image).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > image_storage.WIDE_WHITES[-1]:
            raise UnusableImageError(
                f"pixels from {low} to {high}; 8 or 16 bits are read"
            )
        narrow = values * 255 // white_of(high)
        return narrow.astype(np.uint8)[..., None], high
    if image.mode == "F":
        raise UnusableImageError("pixels are floats; 8 or 16 bits are read")
    if image.mode in _GREY_MODES and "transparency" not in image.info:
        return np.asarray(image.convert("L"))[..., None], None
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", colors.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colors)
    return np.asarray(image.convert("RGB")), None


def _without_color(pixels: np.ndarray) -> np.ndarray:
    """Returns one channel where all three are equal."""
    grey = pixels[..., :1]
    return grey if (pixels == grey).all() else pixels


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return text or type(error).__name__
