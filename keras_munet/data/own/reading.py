"""Reads a prepared task of own images, which a stranger may have sent.

Invariant: only files that `store` writes are read, each a regular file in
the task's own folder; an array takes no more memory than its file has bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import fingerprint
from keras_munet.core import printable
from keras_munet.core import target_types
from keras_munet.data import regular_files
from keras_munet.data import types
from keras_munet.data.tfds import array_files

INDEX = "task.json"
KINDS = ("images", "labels")
# Of one array in memory.
ARRAY_BYTES_MAX = 16 * 2**30
_BLOCK_BYTES = 2**20
# Picture files that are kept as they are, for exports to be verified with.
NUM_ORIGINALS = 4
ORIGINAL_BYTES_MAX = 2**20


@dataclasses.dataclass(frozen=True)
class Index:
    """Holds what a prepared task says of itself.

    Attributes:
      class_names: in the order of the labels, printable.
      sha256: of each array that is read into memory, by its file's name.
      files: SHA-256 of the original files of each split; empty where the
        images did not come from files, or an earlier version prepared them.
      notices: what preparing said about the data.
      request: the request; empty where that is unknown.
      target: the type of its labels.
    """

    class_names: tuple[str, ...]
    sha256: Mapping[str, str]
    files: Mapping[str, str]
    notices: tuple[str, ...]
    request: Mapping[str, Any]
    target: target_types.TargetType


def read_index(folder: epath.Path) -> Index:
    """Returns the index of a prepared task.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not one.
    """
    regular_files.refuse_link(folder)
    value = regular_files.read_json(folder / INDEX)
    if not isinstance(value, dict):
        raise ValueError(f"{INDEX} holds no object")
    class_names = value.get("class_names")
    sha256 = value.get("sha256")
    if not isinstance(class_names, list) or not class_names:
        raise ValueError("its class_names must be a list of texts")
    if not all(isinstance(name, str) for name in class_names):
        raise ValueError("its class_names must be texts")
    if not isinstance(sha256, dict):
        raise ValueError("its sha256 must be an object")
    unknown = sorted(set(sha256) - set(array_names()))
    if unknown:
        raise ValueError(
            f"it names the file {unknown[0]!a:.100}, which is none"
        )
    files = value.get("files", {})
    notices = value.get("notices", [])
    request = value.get("request", {})
    if not (
        isinstance(files, dict)
        and isinstance(notices, list)
        and isinstance(request, dict)
        and all(isinstance(notice, str) for notice in notices)
        and all(isinstance(digest, str) for digest in files.values())
    ):
        raise ValueError("its files, notices or request are malformed")
    target = target_types.named(value)
    return Index(
        class_names=tuple(map(printable.printable, class_names)),
        sha256=sha256,
        files=files,
        notices=tuple(map(printable.printable, notices)),
        request=request,
        target=target,
    )


def load_arrays(name: str, folder: epath.Path) -> types.TaskData:
    """Returns the task in a folder; every byte in memory is checked.

    Raises:
      DataError: its files are missing, damaged or not those of a task.
    """
    try:
        index = read_index(folder)
        splits = {}
        for s in types.SPLIT_NAMES:
            labels = _array(folder, f"{s}_labels.npy", index)
            if target_types.of_labels(labels) is not index.target:
                raise ValueError(
                    f"labels of shape {labels.shape} are not of the type "
                    f"{index.target.name}"
                )
            files_digest = index.files.get(s, "")
            # Images in memory are in the index, with their checksum; others
            # are folders with checksums of their own.
            if f"{s}_images.npy" in index.sha256:
                images = _array(folder, f"{s}_images.npy", index)
                digest = index.sha256[f"{s}_images.npy"]
            else:
                path = pathlib.Path(folder) / f"{s}_images"
                images = array_files.opened(path)
                digest = array_files.file_digest(path)
            splits[s] = types.Split(
                images,
                labels,
                resident=f"{s}_images.npy" in index.sha256,
                images_digest=fingerprint.digest_text(digest),
                files_digest=files_digest
                and fingerprint.digest_text(files_digest),
            )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise damaged(name, folder, e) from e
    return types.checked(
        types.TaskData(
            name,
            len(index.class_names),
            index.class_names,
            **splits,
            notices=index.notices,
        )
    )


def fingerprint_of(
    name: str, folder: epath.Path
) -> tuple[tuple[str, ...], fingerprint.DataFingerprint]:
    """Returns class names and fingerprint of the task in a folder.

    No image is read: checksums stand for them.

    Raises:
      DataError: as of `load_arrays`.
    """
    try:
        index = read_index(folder)
        shape: tuple[int, ...] = ()
        splits = {}
        for s in types.SPLIT_NAMES:
            labels = f"{s}_labels.npy"
            images = f"{s}_images.npy"
            if images in index.sha256:
                with regular_files.open_regular(folder / images) as file:
                    shape = array_files.read_head(file).shape
                digest = index.sha256[images]
            else:
                path = pathlib.Path(folder) / f"{s}_images"
                shape = array_files.opened(path).shape
                digest = array_files.file_digest(path)
            files_digest = index.files.get(s, "")
            splits[s] = fingerprint.SplitFingerprint(
                num_examples=shape[0],
                labels=fingerprint.digest_text(index.sha256[labels]),
                images=fingerprint.digest_text(digest),
                files=files_digest and fingerprint.digest_text(files_digest),
            )
        height, width, num_channels = shape[1:]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
        raise damaged(name, folder, e) from e
    return index.class_names, fingerprint.DataFingerprint(
        (height, width, num_channels),
        splits,
        fingerprint.bounded_notices(index.notices),
    )


def original_file(number: int) -> str:
    """Returns the name of a picture file that is kept as it is."""
    return f"original_{number}"


def originals(folder: epath.Path) -> list[bytes]:
    """Returns the picture files that are kept; no link is followed."""
    contents = []
    for number in range(NUM_ORIGINALS):
        try:
            with regular_files.open_regular(
                folder / original_file(number)
            ) as file:
                content = file.read(ORIGINAL_BYTES_MAX + 1)
        except OSError:
            # Earlier versions kept none.
            continue
        if len(content) <= ORIGINAL_BYTES_MAX:
            contents.append(content)
    return contents


def array_names() -> list[str]:
    """Returns the names of the files that hold arrays in memory."""
    return [
        f"{s}_{array_name}.npy"
        for s in types.SPLIT_NAMES
        for array_name in KINDS
    ]


def damaged(
    name: str, folder: epath.Path, error: Exception
) -> errors.DataError:
    """Returns how a task that cannot be read is reported."""
    text = printable.printable(" ".join(str(error).split()))[:200]
    return errors.DataError(
        f"task {name!r} in {folder} is damaged: {type(error).__name__}: "
        f"{text}; remove that folder and prepare it again"
    )


def _array(folder: epath.Path, name: str, index: Index) -> np.ndarray:
    """Returns an array, whose size was held against its file first.

    Raises:
      OSError: it cannot be read.
      ValueError: it was changed, or is no array of such an index.
    """
    with regular_files.open_regular(folder / name) as file:
        head = array_files.read_head(file)
        if head.dtype not in (np.dtype(np.uint8), np.dtype(np.int32)):
            raise ValueError(f"{name} holds {head.dtype}, not uint8 or int32")
        if head.num_bytes > ARRAY_BYTES_MAX:
            raise ValueError(
                f"{name} has {head.num_bytes:,} bytes; at most "
                f"{ARRAY_BYTES_MAX:,} are read into memory"
            )
        file.seek(0)
        content = bytearray(head.num_bytes)
        end = 0
        while block := file.read(min(_BLOCK_BYTES, head.num_bytes - end)):
            content[end : end + len(block)] = block
            end += len(block)
    if hashlib.sha256(content).hexdigest() != index.sha256[name]:
        raise ValueError(f"file {name} was changed")
    array = np.frombuffer(content, head.dtype, offset=head.offset)
    return array.reshape(head.shape)
