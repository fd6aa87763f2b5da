"""Arrays of one shape in files of their own, larger than any memory.

Invariant: a folder with a manifest holds a whole array, and its bytes are
those that were checksummed when they were written. What is not finished lies
in a folder of another name, whose chunks up to the last line of its journal
are on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from typing import IO
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.data import regular_files

_ARRAY = "array.npy"
_MANIFEST = "manifest.json"
_JOURNAL = "chunks.txt"
_UNFINISHED = ".unfinished"
_LOCK = "lock"
_SCHEMA = 1
# What an interruption loses at most, and one checksum covers.
_CHUNK_BYTES = 64 * 2**20
_HEAD_BYTES_MAX = 65_536
# Besides the arrays themselves, for what else the disk is used for.
_SPARE_BYTES = 2**30


class Head(NamedTuple):
    """The head of an array's file.

    Attributes:
      shape: of the array.
      dtype: of its elements.
      offset: of the first element in the file.
      num_bytes: of the whole file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    num_bytes: int


def exists(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a whole array."""
    return (folder / _MANIFEST).is_file()


def opened(folder: pathlib.Path) -> np.ndarray:
    """Returns the array as a read-only view of its file.

    Its length is checked, its bytes are not; see `verify`.

    Raises:
      DataError: the files are missing or damaged.
    """
    return _opened(folder)[0]


def file_digest(folder: pathlib.Path) -> str:
    """Returns a SHA-256 of an array's shape and recorded checksums.

    Raises:
      DataError: the files are missing or damaged.
    """
    _, manifest = _opened(folder)
    keys = ("shape", "dtype", "rows_per_chunk", "sha256")
    text = canonical_json.dumps([manifest[key] for key in keys])
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: pathlib.Path) -> None:
    """Compares every byte of an array with its checksums.

    Raises:
      DataError: one was changed.
    """
    array, manifest = _opened(folder)
    num_rows, checksums = manifest["rows_per_chunk"], manifest["sha256"]
    starts = range(0, len(array), num_rows)
    if len(checksums) != len(starts):
        error = ValueError(f"{len(checksums)} checksums for {len(starts)}")
        raise _damaged(folder, error)
    row_bytes = array.nbytes // len(array)
    with regular_files.open_regular(folder / _ARRAY) as file:
        # Read, not mapped: what was looked at leaves memory at once.
        file.seek(-array.nbytes, os.SEEK_END)
        for start, expected in zip(starts, checksums, strict=True):
            end = min(start + num_rows, len(array))
            chunk = file.read((end - start) * row_bytes)
            if hashlib.sha256(chunk).hexdigest() != expected:
                error = ValueError(f"rows {start} to {end} were changed")
                raise _damaged(folder, error)


def read_head(file: IO[bytes]) -> Head:
    """Returns the head of an array's file.

    Raises:
      ValueError: it is none, or states another size than the file has.
    """
    # Files of a bucket do not return where they are.
    file.seek(0, os.SEEK_END)
    num_bytes = file.tell()
    file.seek(0)
    start = io.BytesIO(file.read(_HEAD_BYTES_MAX))
    version = np.lib.format.read_magic(start)
    if version != (1, 0):
        raise ValueError(f"array of version {version}, not of 1.0")
    try:
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(start)
    # NumPy parses the head as Python, which fails in many ways.
    except Exception as e:
        raise ValueError(f"no head of an array: {type(e).__name__}") from None
    needed = start.tell() + math.prod(shape) * dtype.itemsize
    if is_fortran or dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"array of {dtype} and shape {shape}")
    if needed != num_bytes:
        raise ValueError(
            f"array of {num_bytes:,} bytes whose head says {needed:,}"
        )
    return Head(shape, dtype, start.tell(), num_bytes)


def _opened(folder: pathlib.Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns an array as a view of its file, and its manifest.

    Raises:
      DataError: the files are missing or damaged.
    """
    try:
        regular_files.refuse_link(folder)
        manifest = regular_files.read_json(folder / _MANIFEST)
        stated = _described(manifest["shape"], manifest["dtype"])
        if manifest["schema"] != _SCHEMA:
            raise ValueError(f"schema {manifest['schema']!a} is not {_SCHEMA}")
        if type(manifest["rows_per_chunk"]) is not int or not (
            isinstance(manifest["sha256"], list)
            and manifest["rows_per_chunk"] > 0
        ):
            raise ValueError("its manifest has no checksums")
        with regular_files.open_regular(folder / _ARRAY) as file:
            head = read_head(file)
            array = np.memmap(
                file, head.dtype, "r", offset=head.offset, shape=head.shape
            )
        if _described(array.shape, array.dtype) != stated:
            raise ValueError(
                f"{_ARRAY} holds {_described(array.shape, array.dtype)}, its "
                f"manifest says {stated}"
            )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise _damaged(folder, e) from e
    return array, manifest


def check_space(num_bytes: int, folder: str | pathlib.Path) -> None:
    """Refuses what the disk of a folder has no space for.

    Args:
      num_bytes: that are to be written.
      folder: where; it need not exist.

    Raises:
      DataError: there is less.
    """
    path = pathlib.Path(folder).absolute()
    existing = next(p for p in (path, *path.parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    if num_bytes + _SPARE_BYTES > free:
        raise errors.DataError(
            f"array files of {num_bytes / 2**30:.1f} GiB do not fit on the "
            f"disk of {folder}, which has {free / 2**30:.1f} GiB free; name "
            "another data_dir, or a smaller image size"
        )


@contextlib.contextmanager
def locked(
    folder: pathlib.Path, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Keeps other processes from writing arrays below `folder`.

    A process that comes second waits, as the first one may write what it
    needs. The system frees the lock of a process that is killed.

    Args:
      folder: of the arrays.
      on_wait: is called before waiting.

    Raises:
      DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / _LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as e:
        raise errors.DataError(
            f"cannot write {folder}: {e.strerror or e}; choose another "
            "data_dir, on a local disk"
        ) from e


def num_bytes_written(folder: pathlib.Path) -> int:
    """Returns what an array takes on the disk, whole or not."""
    for path in (folder, _part(folder)):
        if (path / _ARRAY).is_file():
            return (path / _ARRAY).stat().st_size
    return 0


def num_chunk_rows(shape: tuple[int, ...]) -> int:
    """Returns how many rows of a uint8 array one checksum covers."""
    return max(1, _CHUNK_BYTES // int(np.prod(shape[1:])))


class Writer:
    """Writes one array row by row, and goes on where it was interrupted.

    Attributes:
      num_done: rows that are on the disk.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        shape: tuple[int, ...],
        dtype: Any,
        num_chunk_rows: int,
    ):
        """Opens what an interrupted writer left, or begins.

        Args:
          folder: of the array; its process has the lock, see `locked`.
          shape: of the whole array.
          dtype: of its elements.
          num_chunk_rows: rows that are written together.
        """
        self._folder = folder
        self._part = _part(folder)
        self._shape, self._dtype = tuple(shape), np.dtype(dtype)
        self._num_chunk_rows = num_chunk_rows
        row_bytes = self._dtype.itemsize * math.prod(self._shape[1:])
        head = header(self._shape, self._dtype)
        self._checksums = self._journal(len(head), row_bytes)
        self.num_done = self._num_rows_of(len(self._checksums))
        (self._part / _ARRAY).touch()
        with open(self._part / _ARRAY, "r+b") as file:
            file.write(head)
            file.truncate(len(head) + self.num_done * row_bytes)
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    def append(self, start: int, rows: np.ndarray) -> None:
        """Adds rows; those that it has are left as they are.

        Args:
          start: the index of the first; there is no gap before it.
          rows: `[any, *shape[1:]]` of the array's dtype.
        """
        num_known = self.num_done + self._num_pending
        assert start <= num_known, (start, num_known)
        rows = rows[num_known - start :]
        while len(rows):
            room = self._num_chunk_rows - self._num_pending
            # A copy, as the caller may use its buffer again.
            self._pending.append(rows[:room].astype(self._dtype))
            self._num_pending += len(self._pending[-1])
            rows = rows[room:]
            if self._num_pending == self._num_chunk_rows:
                self._flush()

    def finish(self) -> None:
        """Puts the whole array in its place.

        Raises:
          ValueError: rows are missing or too many.
        """
        if self._num_pending:
            self._flush()
        if self.num_done != self._shape[0]:
            raise ValueError(
                f"{self.num_done} rows were written of {self._shape[0]}"
            )
        manifest = {
            "schema": _SCHEMA,
            "shape": list(self._shape),
            "dtype": self._dtype.str,
            "rows_per_chunk": self._num_chunk_rows,
            "sha256": self._checksums,
        }
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        (self._part / _MANIFEST).write_text(text)
        (self._part / _JOURNAL).unlink()
        self._part.rename(self._folder)

    def _flush(self) -> None:
        chunk = np.concatenate(self._pending)
        with open(self._part / _ARRAY, "ab") as file:
            file.write(chunk.data)
            file.flush()
            os.fsync(file.fileno())
        # Only now, so that the journal never tells of what is not there.
        self._checksums.append(hashlib.sha256(chunk.data).hexdigest())
        with open(self._part / _JOURNAL, "a") as journal:
            journal.write(f"{self._num_chunk_rows} {self._checksums[-1]}\n")
        self.num_done += self._num_pending
        self._pending, self._num_pending = [], 0

    def _num_rows_of(self, num_chunks: int) -> int:
        return min(num_chunks * self._num_chunk_rows, self._shape[0])

    def _journal(self, num_header_bytes: int, row_bytes: int) -> list[str]:
        """Returns the checksums of the chunks that are on the disk."""
        self._part.mkdir(parents=True, exist_ok=True)
        path, array = self._part / _JOURNAL, self._part / _ARRAY
        path.touch()
        content = path.read_text()
        # A last line without its end was being written.
        whole = content[: content.rfind("\n") + 1]
        os.truncate(path, len(whole))
        chunks = [line.split() for line in whole.splitlines()]
        num_bytes = array.stat().st_size if array.exists() else 0
        expected = num_header_bytes + row_bytes * self._num_rows_of(len(chunks))
        same = all(words[0] == str(self._num_chunk_rows) for words in chunks)
        if chunks and (num_bytes < expected or not same):
            # Another program's, or a disk that forgot: from the start.
            os.truncate(path, 0)
            return []
        return [words[1] for words in chunks]


def _part(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(folder.name + _UNFINISHED)


def header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Returns the first bytes of the `.npy` file of an array."""
    buffer = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _described(shape: Any, dtype: Any) -> str:
    return f"{np.dtype(dtype).name} of shape {tuple(shape)}"


def _damaged(folder: pathlib.Path, error: Exception) -> errors.DataError:
    text = " ".join(str(error).split())[:200]
    return errors.DataError(
        f"array in {folder} is damaged: {type(error).__name__}: {text}; "
        "remove that folder and prepare it again"
    )
