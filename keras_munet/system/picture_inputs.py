"""Reads the pictures that a user names by paths, folders, patterns or arrays.

Invariant: a file is read and judged as preparing reads and judges it; a file
that cannot be read is a picture with a reason.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.data import folders
from keras_munet.data.own import images as own_images
from keras_munet.data.own import layout as own_layout
from keras_munet.data.own import sources as own_sources

PathLike: TypeAlias = str | os.PathLike[str]


class Picture(NamedTuple):
    """A picture before it is read: a file, pixels, or a reason for neither."""

    path: str | None
    pixels: np.ndarray | None = None
    reason: str = ""


def resolve(images_or_paths: Any) -> list[Picture]:
    """Returns the pictures that a caller names, each file once.

    Args:
      images_or_paths: as of `inference.predict`.

    Raises:
      UsageError: an array is of another kind.
    """
    if isinstance(images_or_paths, str | os.PathLike):
        return list(_files([images_or_paths]))
    if not hasattr(images_or_paths, "__iter__"):
        raise errors.UsageError(
            f"{type(images_or_paths).__name__} is given; give paths, an array "
            "[n, height, width, 1 or 3] uint8, or a list of arrays"
        )
    # Arrays of other libraries, e.g. tensors, become NumPy's.
    items = list(
        np.asarray(images_or_paths)
        if hasattr(images_or_paths, "__array__")
        else images_or_paths
    )
    if all(isinstance(item, str | os.PathLike) for item in items):
        return list(_files(items))
    return [
        Picture(None, _checked(index, image))
        for index, image in enumerate(items)
    ]


def read_contents(
    pictures: Sequence[Picture], *, decodable: bool = False
) -> tuple[list[bytes], list[str]]:
    """Returns the content of readable pictures, and a reason per picture.

    Args:
      pictures: from `resolve`.
      decodable: whether a file that only Pillow decodes becomes a PNG file;
        a damaged one is then not readable.
    """
    read = _decodable if decodable else _content
    contents, reasons = [], []
    for picture in pictures:
        reason = picture.reason
        if not reason:
            try:
                contents.append(read(picture))
            except own_images.UnusableImageError as error:
                reason = str(error)
            except OSError as error:
                reason = f"cannot be read: {error.strerror or error}"
        reasons.append(printable.printable(reason))
    return contents, reasons


def _content(picture: Picture) -> bytes:
    """Returns a picture as a file whose head states a picture.

    Raises:
      UnusableImageError: the head does not.
      OSError: the file cannot be read.
    """
    if picture.pixels is not None:
        return _png(picture.pixels)
    path = epath.Path(picture.path or "")
    content = own_sources.Example("", "", path).read()
    own_images.size_of(content)
    return content


def _decodable(picture: Picture) -> bytes:
    """Returns a picture as a file that every export decodes.

    Raises:
      UnusableImageError: it is damaged.
      OSError: it cannot be read.
    """
    content = _content(picture)
    decoded = own_images.picture(content)
    return _png(decoded.pixels) if decoded.unserved else content


def _png(pixels: np.ndarray) -> bytes:
    import tensorflow as tf

    # Speed counts here, not size.
    return tf.io.encode_png(pixels, compression=1).numpy()


def _checked(index: int, image: Any) -> np.ndarray:
    """Returns the pixels of one picture.

    Raises:
      UsageError: it is no array of pixels.
    """
    if not hasattr(image, "__array__"):
        raise _no_picture(index, type(image).__name__)
    pixels = np.asarray(image)
    shape: tuple[int, ...] = pixels.shape
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or shape[-1] not in (1, 3):
        raise _no_picture(index, f"{list(shape)} {pixels.dtype}")
    if not 0 < shape[0] * shape[1] <= own_images.NUM_PIXELS_MAX:
        raise _no_picture(
            index,
            f"{shape[0]} x {shape[1]} pixels, not 1 to "
            f"{own_images.NUM_PIXELS_MAX:,}",
        )
    return pixels


def _no_picture(index: int, what: str) -> errors.UsageError:
    return errors.UsageError(
        f"picture {index} is {what}; give paths alone, or arrays alone, each "
        "[height, width, 1 or 3] uint8"
    )


def _files(names: Iterable[PathLike]) -> Iterator[Picture]:
    """Yields each file that paths, folders and patterns name, once."""
    yielded = set()
    for name in names:
        for path, reason in _expanded(os.fsdecode(name)):
            key = path if folders.is_remote(path) else os.path.abspath(path)
            if key not in yielded:
                yielded.add(key)
                yield Picture(path, reason=reason)


def _is_dir(path: str) -> bool:
    if folders.is_remote(path):
        return epath.Path(path).is_dir()
    return os.path.isdir(path)


def _expanded(name: str) -> Iterator[tuple[str, str]]:
    """Yields (path, reason) of each file that one name stands for."""
    matches = [name]
    # A file whose own name has brackets is that file.
    if (
        not folders.is_remote(name)
        and not os.path.lexists(name)
        and glob.has_magic(name)
    ):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            yield name, "no file matches this pattern"
    for match in matches:
        if not _is_dir(match):
            yield match, ""
            continue
        below = list(own_layout.files_below(epath.Path(match)))
        for path, reason in below:
            yield os.fspath(path), reason
        if not below:
            yield match, "no file is in this folder"
