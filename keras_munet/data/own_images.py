"""Turns anybody's image files into pixels, or says why it cannot.

Invariant: an image is either decoded as its author sees it (upright, with its
palette applied, transparent parts on white) or refused with a reason; none is
decoded in part.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

# More would take a gibibyte of memory for one picture.
NUM_PIXELS_MAX = 100_000_000
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_WIDE_MAX = 65_535
# 65535 / 255: a full 16-bit pixel becomes a full 8-bit one.
_WIDE_STEP = 257
# EXIF's tag, and its values for images that lie on their side.
_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
_GREY_MODES = ("1", "L")


class UnusableImageError(Exception):
    """An image cannot be used; the message is the reason."""


def size_of(content: bytes) -> tuple[int, int]:
    """Returns (height, width) of the upright image, from the head alone.

    What has a good head may still be damaged; only `decoded` knows.

    Raises:
      UnusableImageError: it is no image, or larger than `NUM_PIXELS_MAX`.
    """
    with _opened(content) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        # Pillow's readers raise nearly everything on damaged files.
        except Exception as e:
            raise UnusableImageError(f"damaged: {_one_line(e)}") from None
        return (width, height) if turned else (height, width)


def decoded(content: bytes) -> np.ndarray:
    """Returns `[height, width, 1 or 3] uint8`.

    Of a file with several pictures the first is taken; 16-bit pixels keep
    their upper half; a picture with transparent parts is laid on white.

    Args:
      content: of the file: PNG, JPEG or what else Pillow reads.

    Raises:
      UnusableImageError: it is empty, no image, damaged, too large, or has
        pixels that are not 8 or 16 bits.
    """
    with _opened(content) as image:
        try:
            with warnings.catch_warnings():
                # Of damaged notes about the camera; pixels are not affected.
                warnings.simplefilter("ignore")
                image.load()
                upright = ImageOps.exif_transpose(image)
                return _pixels(upright)
        except UnusableImageError:
            raise
        # Pillow's readers raise nearly everything on damaged files.
        except Exception as e:
            raise UnusableImageError(f"damaged: {_one_line(e)}") from None


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `[height, width, 1 or 3] uint8` of the whole image.

    Bilinear; where the image shrinks, over all pixels that become one.

    Args:
      pixels: `[any, any, 1 or 3] uint8`.
      height: of the result.
      width: of the result.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    image = Image.fromarray(flat).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(image).reshape(height, width, pixels.shape[-1])


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise UnusableImageError("empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise UnusableImageError(
            f"more than {NUM_PIXELS_MAX:,} pixels"
        ) from None
    except UnidentifiedImageError:
        raise UnusableImageError("not an image") from None
    except Exception as e:
        raise UnusableImageError(f"damaged: {_one_line(e)}") from None
    width, height = image.size
    if width * height > NUM_PIXELS_MAX:
        raise UnusableImageError(
            f"{width} x {height} is more than {NUM_PIXELS_MAX:,} pixels"
        )
    if not width * height:
        raise UnusableImageError(f"no pixels: {width} x {height}")
    return image


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode in _WIDE_MODES:
        values = np.asarray(image).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > _WIDE_MAX:
            raise UnusableImageError(
                f"pixels from {low} to {high}; 8 or 16 bits are read"
            )
        return (values // _WIDE_STEP).astype(np.uint8)[..., None]
    if image.mode == "F":
        raise UnusableImageError("pixels are floats; 8 or 16 bits are read")
    if image.mode in _GREY_MODES and "transparency" not in image.info:
        return np.asarray(image.convert("L"))[..., None]
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", colors.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colors)
    return np.asarray(image.convert("RGB"))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return text or type(error).__name__
