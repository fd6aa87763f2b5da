"""Keeps a user's own task in a folder of prepared data.

Invariant: a kept task is whole, is never written again, and is read as it
was written: its bytes are checked.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import names
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
    folder = _folder(data.name, data_dir)
    if exists(data.name, data_dir):
        raise errors.DataError(
            f"task {data.name!r} is kept in {folder} already; remove that "
            "folder, or give the new one another name"
        )
    part = places.unfinished(folder.parent)
    try:
        part.mkdir(parents=True)
        files = {}
        for split_name in records.SPLIT_NAMES:
            split = getattr(data, split_name)
            for kind in ("images", "labels"):
                content = _npy(getattr(split, kind))
                file = f"{split_name}_{kind}.npy"
                (part / file).write_bytes(content)
                files[file] = hashlib.sha256(content).hexdigest()
        index = {
            "schema": _SCHEMA,
            "name": data.name,
            "class_names": list(data.class_names),
            "sha256": files,
            "skipped": [list(s) for s in skipped],
        }
        text = json.dumps(index, indent=1, sort_keys=True) + "\n"
        (part / _INDEX).write_text(text)
        part.rename(folder)
    except OSError as e:
        raise errors.DataError(
            f"cannot write {folder}: {e.strerror or e}; choose another data_dir"
        ) from e
    finally:
        if part.exists():
            part.rmtree()
    return str(folder)


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
        splits = {
            s: records.Split(
                arrays[f"{s}_images.npy"], arrays[f"{s}_labels.npy"]
            )
            for s in records.SPLIT_NAMES
        }
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


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
