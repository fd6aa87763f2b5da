"""Keeps a user's own task in a folder of prepared data.

Invariant: a kept task is whole, is never written again, and is read as it
was written: its bytes are checked, except those of array files, of which
`verify` compares all.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data import array_files
from keras_munet.data import own_sources
from keras_munet.data import places
from keras_munet.data import records

FAMILY = "own"
_INDEX = "task.json"
_SCHEMA = 1


def exists(name: str, data_dir: str) -> bool:
    """Whether a folder of prepared data holds the task."""
    return (_folder(name, data_dir) / _INDEX).is_file()


def listed(data_dir: str) -> list[str]:
    """Returns the names of the tasks that a folder holds, sorted."""
    family = epath.Path(data_dir).expanduser() / FAMILY
    if not family.is_dir():
        return []
    # `names.file_name` turned the parts of a name into one.
    return sorted(
        f"{FAMILY}/{folder.name.replace('~', '/')}"
        for folder in family.iterdir()
        if (folder / _INDEX).is_file()
    )


def save(
    data: records.TaskData,
    data_dir: str,
    skipped: Sequence[own_sources.Skipped] = (),
) -> str:
    """Keeps a task in a folder of prepared data, whole or not at all.

    Args:
      data: named `own/...`.
      data_dir: local or gs://.
      skipped: kept beside it.

    Returns:
      The task's own folder.

    Raises:
      UsageError: the name is not `own/...`.
      DataError: there is one of that name, or it cannot be written.
    """
    with _written(data.name, data_dir) as part:
        files = {}
        for split_name in records.SPLIT_NAMES:
            split = getattr(data, split_name)
            for kind in ("images", "labels"):
                file = f"{split_name}_{kind}.npy"
                files[file] = _write(part / file, getattr(split, kind))
        _write_index(part, data.name, data.class_names, files, skipped)
    return str(_folder(data.name, data_dir))


def save_blocks(
    name: str,
    data_dir: str,
    *,
    class_names: Sequence[str],
    shape: tuple[int, int, int],
    labels: Mapping[str, np.ndarray],
    blocks: Mapping[str, Iterable[np.ndarray]],
    skipped: Sequence[own_sources.Skipped] = (),
) -> None:
    """Keeps a task that no memory need hold, whole or not at all.

    Args:
      name: `own/...`.
      data_dir: on a local disk.
      class_names: in the order of the labels.
      shape: of each image: height, width, channels.
      labels: `[n] int32` of each split.
      blocks: of each split, its images in the order of its labels, `[any,
        *shape] uint8` at a time.
      skipped: kept beside it.

    Raises:
      UsageError: the name is not `own/...`.
      DataError: there is one of that name, it does not fit on the disk, or
        cannot be written.
    """
    if places.is_remote(data_dir):
        raise errors.DataError(
            f"task {name!r} is larger than memory, and array files cannot lie "
            f"in {data_dir}; name a local folder"
        )
    num_images = sum(map(len, labels.values()))
    array_files.check_space(num_images * math.prod(shape), data_dir)
    with _written(name, data_dir) as part:
        files = {}
        for split, rows in labels.items():
            file = f"{split}_labels.npy"
            files[file] = _write(part / file, rows)
            whole = (len(rows), *shape)
            writer = array_files.Writer(
                pathlib.Path(part) / f"{split}_images",
                whole,
                np.uint8,
                array_files.num_chunk_rows(whole),
            )
            start = 0
            for block in blocks[split]:
                writer.append(start, block)
                start += len(block)
            writer.finish()
        _write_index(part, name, class_names, files, skipped)


def load(name: str, data_dirs: Sequence[str]) -> records.TaskData:
    """Returns a task that `save` kept.

    Args:
      name: `own/...`.
      data_dirs: looked in, in order.

    Raises:
      DataError: none holds it, or its files were changed.
    """
    for data_dir in data_dirs:
        if exists(name, data_dir):
            return _load(name, _folder(name, data_dir))
    raise errors.DataError(
        f"task {name!r} is not prepared in {','.join(data_dirs)}; run python "
        f"launch/tasks.py prepare folder:PATH --name={name} "
        f"--data_dir={data_dirs[0]}, or name its folder in "
        "--config.data.data_dir"
    )


def verify(name: str, data_dir: str) -> None:
    """Compares the array files of a kept task with their checksums.

    Raises:
      DataError: a byte was changed.
    """
    folder = _folder(name, data_dir)
    for split in records.SPLIT_NAMES:
        images = folder / f"{split}_images"
        if images.is_dir():
            array_files.verify(pathlib.Path(images))


def _load(name: str, folder: epath.Path) -> records.TaskData:
    try:
        index = json.loads((folder / _INDEX).read_text())
        class_names = tuple(index["class_names"])
        arrays = {}
        for file, expected in index["sha256"].items():
            content = (folder / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"file {file} was changed")
            arrays[file] = np.load(io.BytesIO(content), allow_pickle=False)
        splits = {}
        for s in records.SPLIT_NAMES:
            labels, images = arrays[f"{s}_labels.npy"], f"{s}_images"
            # Images in memory are in the index, with their checksum; others
            # are folders with checksums of their own.
            if f"{images}.npy" in arrays:
                splits[s] = records.Split(arrays[f"{images}.npy"], labels)
            else:
                mapped = array_files.opened(pathlib.Path(folder) / images)
                splits[s] = records.Split(mapped, labels, resident=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        text = " ".join(str(e).split())[:200]
        raise errors.DataError(
            f"task {name!r} in {folder} is damaged: {type(e).__name__}: "
            f"{text}; remove that folder and prepare it again"
        ) from e
    return records.checked(
        records.TaskData(name, len(class_names), class_names, **splits)
    )


def _folder(name: str, data_dir: str) -> epath.Path:
    bare, _ = names.split_private(name)
    family, _, rest = bare.partition("/")
    if family != FAMILY or not rest:
        raise errors.UsageError(
            f"own images are kept under names such as {FAMILY}/cats, not "
            f"{name!r}"
        )
    return epath.Path(data_dir).expanduser() / FAMILY / names.file_name(rest)


@contextlib.contextmanager
def _written(name: str, data_dir: str) -> Iterator[epath.Path]:
    """Gives a folder to fill, which becomes the task's if nothing fails.

    Raises:
      DataError: there is one of that name, or it cannot be written.
    """
    folder = _folder(name, data_dir)
    if exists(name, data_dir):
        raise errors.DataError(
            f"task {name!r} is kept in {folder} already; remove that "
            "folder, or give the new one another name"
        )
    part = places.unfinished(folder.parent)
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(folder)
    except OSError as e:
        raise errors.DataError(
            f"cannot write {folder}: {e.strerror or e}; choose another data_dir"
        ) from e
    finally:
        if part.exists():
            part.rmtree()


def _write(path: epath.Path, array: np.ndarray) -> str:
    """Returns the checksum of the file that it writes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    content = buffer.getvalue()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _write_index(
    folder: epath.Path,
    name: str,
    class_names: Sequence[str],
    files: Mapping[str, str],
    skipped: Sequence[own_sources.Skipped],
) -> None:
    index = {
        "schema": _SCHEMA,
        "name": name,
        "class_names": list(class_names),
        "sha256": dict(files),
        "skipped": [list(s) for s in skipped],
    }
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (folder / _INDEX).write_text(text)
