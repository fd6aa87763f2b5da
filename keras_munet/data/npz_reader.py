"""Arrays of an `.npz` file that is not trusted.

Invariant: nothing is unpickled, and no memory is taken for an array before
its header, its member's size and the bound on the whole file agree. Every
damage is a CheckpointError of one line.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import IO
from typing import Any
from typing import Literal

import numpy as np

from keras_munet import errors

# More than the largest published ViT (H/14, 2.5 GB) takes.
NUM_BYTES_MAX = 4 * 2**30
NUM_MEMBERS_MAX = 10_000
_SUFFIX = ".npy"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What reading damaged bytes can raise has no common base: zipfile, zlib and
# the npy header's own parser each have theirs.
_BROKEN = Exception


class Archive:
    """An open `.npz` file whose headers were checked; use it in `with`.

    Attributes:
      path: the file.
      shapes: array name -> shape.
      dtypes: array name -> dtype.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens `path` and reads every header.

        Raises:
          CheckpointError: it is no readable `.npz` file of plain arrays.
        """
        self.path = os.fspath(path)
        self._file = _opened(self.path)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except _BROKEN as error:
            self._file.close()
            what = f"is no whole .npz file ({_one(error)})"
            raise self._damaged(what) from error
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype] = {}
        self._orders: dict[str, Literal["C", "F"]] = {}
        try:
            self._read_headers()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *unused: object) -> None:
        self._zip.close()
        self._file.close()

    @property
    def num_bytes(self) -> int:
        """Returns the bytes of all arrays in memory together."""
        return sum(
            math.prod(shape) * self.dtypes[name].itemsize
            for name, shape in self.shapes.items()
        )

    def read(self, name: str) -> np.ndarray:
        """Returns one array.

        Raises:
          CheckpointError: the member's bytes are damaged.
        """
        shape, dtype = self.shapes[name], self.dtypes[name]
        num_bytes = math.prod(shape) * dtype.itemsize
        try:
            with self._zip.open(name + _SUFFIX) as stream:
                _header(stream)
                content = stream.read(num_bytes)
                # Reading past the end makes zipfile compare the checksum.
                excess = stream.read(1)
        except _BROKEN as error:
            raise self._damaged(f"{name}: {_one(error)}") from error
        if len(content) != num_bytes or excess:
            raise self._damaged(f"{name} has not the bytes its header says")
        flat = np.frombuffer(content, dtype)
        return np.array(flat.reshape(shape, order=self._orders[name]))

    def _read_headers(self) -> None:
        members = self._zip.infolist()
        if len(members) > NUM_MEMBERS_MAX:
            raise self._damaged(
                f"has {len(members)} members, more than {NUM_MEMBERS_MAX}"
            )
        total = sum(member.file_size for member in members)
        if total > NUM_BYTES_MAX:
            raise self._damaged(
                f"unpacks to {total} bytes, more than {NUM_BYTES_MAX}"
            )
        for member in members:
            self._read_header(member)

    def _read_header(self, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(_SUFFIX)
        if name == member.filename:
            raise self._damaged(f"holds {member.filename!r}, which is no .npy")
        if name in self.shapes:
            raise self._damaged(f"holds {name!r} twice")
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise self._damaged(f"{name} is packed in a way that is not read")
        try:
            with self._zip.open(member) as stream:
                shape, in_fortran_order, dtype = _header(stream)
                num_header_bytes = stream.tell()
        except _BROKEN as error:
            raise self._damaged(f"{name}: {_one(error)}") from error
        if dtype.hasobject or dtype.fields or dtype.subdtype:
            raise self._damaged(f"{name} holds {dtype}, not plain numbers")
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_header_bytes + num_bytes != member.file_size:
            raise self._damaged(
                f"{name} says {list(shape)} {dtype} but its member has "
                f"{member.file_size} bytes"
            )
        self.shapes[name] = shape
        self.dtypes[name] = dtype
        self._orders[name] = "F" if in_fortran_order else "C"

    def _damaged(self, what: str) -> errors.CheckpointError:
        return errors.CheckpointError(
            f"{self.path}: {what}; fetch the checkpoint anew"
        )


def _opened(path: str) -> Any:
    """Returns a file to read and seek in, local or of a bucket."""
    if "://" not in path:
        if not os.path.isfile(path):
            state = "a folder" if os.path.isdir(path) else "absent"
            raise errors.CheckpointError(
                f"{path} is {state}; give the path of an .npz file"
            )
        return open(path, "rb")
    import tensorflow as tf

    try:
        if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
            raise errors.CheckpointError(
                f"{path} is absent or a folder; give the path of an .npz file"
            )
        return tf.io.gfile.GFile(path, "rb")
    except tf.errors.OpError as error:
        raise errors.CheckpointError(
            f"{path} cannot be read ({_one(error)}); check the path, the "
            "network and the access rights"
        ) from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version} is not read")
    shape, _, _ = header
    if any(side < 0 for side in shape):
        raise ValueError(f"a shape of {list(shape)}")
    return header


def _one(error: BaseException) -> str:
    """Returns the first line of an error, shortened."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:120]
