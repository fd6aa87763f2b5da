"""Arrays of a `.safetensors` file that is not trusted.

Invariant: no memory is taken for an array before its header, its place in the
file and the bound on the whole file agree. Every damage is a CheckpointError
of one line.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json

# More than the largest published ViT (H/14, 2.5 GB) takes.
NUM_BYTES_MAX = 4 * 2**30
_NUM_HEADER_BYTES_MAX = 16 * 2**20
_NUM_ARRAYS_MAX = 10_000
# Stored type -> its width, bytes; each is read as float32.
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class Archive:
    """A `.safetensors` file whose header was checked; arrays are float32.

    Attributes:
      path: the file.
      shapes: array name -> shape.
      dtypes: array name -> dtype.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Reads the header of `path`.

        Raises:
          CheckpointError: it is no readable file of such arrays.
        """
        self.path = os.fspath(path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype] = {}
        # Name -> stored type and its first byte.
        self._places: dict[str, tuple[str, int]] = {}
        try:
            with guarded_file.open_regular(self.path, follow=True) as handle:
                num_bytes = os.fstat(handle).st_size
                length = int.from_bytes(os.read(handle, 8), "little")
                if num_bytes > NUM_BYTES_MAX:
                    raise self._damaged(f"has {num_bytes} bytes")
                if not 2 <= length <= min(_NUM_HEADER_BYTES_MAX, num_bytes - 8):
                    raise self._damaged(f"states a header of {length} bytes")
                header = guarded_json.loads(
                    guarded_file.read_up_to(handle, length)
                )
        except OSError as error:
            raise errors.CheckpointError(
                f"{self.path} cannot be read: {error.strerror}; give a "
                ".safetensors file"
            ) from error
        except errors.StoreError as error:
            raise self._damaged("is no regular file") from error
        except ValueError as error:
            raise self._damaged("has no JSON header") from error
        if not isinstance(header, dict) or len(header) > _NUM_ARRAYS_MAX:
            raise self._damaged("has no header of named arrays")
        for name, entry in header.items():
            if name != "__metadata__":
                self._add(name, entry, 8 + length, num_bytes)

    def read(self, name: str) -> np.ndarray:
        """Returns one array, float32.

        Raises:
          CheckpointError: the file has changed.
        """
        dtype, start = self._places[name]
        shape = self.shapes[name]
        stored = np.dtype(
            {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}[dtype]
        )
        try:
            values = np.fromfile(
                self.path, stored, math.prod(shape), offset=start
            ).reshape(shape)
        except (OSError, ValueError) as error:
            raise self._damaged(f"has no whole array {name!r}") from error
        if dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)

    def _add(self, name: str, entry: Any, base: int, num_bytes: int) -> None:
        try:
            dtype = entry["dtype"]
            shape = tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            whole = [*shape, begin, end]
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"says nothing of {name!r}") from error
        if not isinstance(dtype, str) or dtype not in _WIDTHS:
            raise self._damaged(
                f"has {name!r} as {dtype!r:.20}, none of {', '.join(_WIDTHS)}"
            )
        if (
            any(type(n) is not int or n < 0 for n in whole)
            or end - begin != math.prod(shape) * _WIDTHS[dtype]
            or base + end > num_bytes
        ):
            raise self._damaged(f"has no whole array {name!r}")
        self.shapes[name] = shape
        self.dtypes[name] = np.dtype("<f4")
        self._places[name] = dtype, base + begin

    def _damaged(self, what: str) -> errors.CheckpointError:
        return errors.CheckpointError(
            f"{self.path} {what}; get the .safetensors file again"
        )
