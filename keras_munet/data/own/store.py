"""Keeps a user's own task in a folder of prepared data.

Invariant: a kept task is whole and is read as it was written: its bytes are
checked, except those of array files, of which `verify` compares all. It is
replaced as a whole, and only where the caller says so.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import fingerprint
from keras_munet.core import names
from keras_munet.core import target_types
from keras_munet.data import folders
from keras_munet.data import types
from keras_munet.data.own import reading
from keras_munet.data.own import requests
from keras_munet.data.own import sources
from keras_munet.data.tfds import array_files

FAMILY = "own"
_SCHEMA = 1
# Of what is skipped; the index must stay small.
_NUM_SKIPPED_MAX = 10_000


class ExistsError(errors.DataError):
    """A folder of prepared data holds a task of that name already."""


class Origin(NamedTuple):
    """Holds what a task was prepared from; kept beside it.

    Attributes:
      skipped: what was left out, and why.
      request: the request; None for data that no source gave.
      originals: some of the picture files, for `reading.originals`.
    """

    skipped: Sequence[sources.Skipped] = ()
    request: requests.Request | None = None
    originals: Sequence[bytes] = ()


def exists(name: str, data_dir: str) -> bool:
    """Returns whether a folder of prepared data holds the task."""
    return (_folder(name, data_dir) / reading.INDEX).is_file()


def listed(data_dir: str) -> list[str]:
    """Returns the names of the tasks that a folder holds, sorted."""
    family = epath.Path(data_dir).expanduser() / FAMILY
    if not family.is_dir():
        return []
    # `names.file_name` turned the parts of a name into one.
    task_names = [
        f"{FAMILY}/{folder.name.replace('~', '/')}"
        for folder in family.iterdir()
        if (folder / reading.INDEX).is_file()
    ]
    return sorted(filter(names.is_task, task_names))


def save(
    data: types.TaskData,
    data_dir: str,
    skipped: Sequence[sources.Skipped] = (),
    *,
    origin: Origin | None = None,
    replace: bool = False,
) -> str:
    """Keeps a task in a folder of prepared data, whole or not at all.

    Args:
      data: named `own/...`.
      data_dir: local or gs://.
      skipped: kept beside it.
      origin: kept beside it, instead of `skipped`.
      replace: whether it takes the place of a task of that name.

    Returns:
      The task's own folder.

    Raises:
      UsageError: the name is not `own/...`.
      ExistsError: there is one of that name.
      DataError: it cannot be written.
    """
    origin = origin or Origin(skipped)
    splits = {s: getattr(data, s) for s in types.SPLIT_NAMES}
    largest = max(split.num_bytes for split in splits.values())
    if largest > reading.ARRAY_BYTES_MAX - 2**20:
        raise errors.DataError(
            f"task {data.name!r} has {largest / 2**30:.1f} GiB of images in "
            f"one split; at most {reading.ARRAY_BYTES_MAX >> 30} GiB are "
            "kept from memory; store smaller images, or prepare them from a "
            "folder: or table:"
        )
    with _written(data.name, data_dir, replace) as part:
        files = {}
        for split_name, split in splits.items():
            for array_name in reading.KINDS:
                file = f"{split_name}_{array_name}.npy"
                files[file] = _write(part / file, getattr(split, array_name))
        digests = {s: split.files_digest for s, split in splits.items()}
        _write_index(
            part,
            data.name,
            data.class_names,
            files,
            digests,
            data.notices,
            origin,
            data.target,
        )
    return str(_folder(data.name, data_dir))


def save_blocks(
    name: str,
    data_dir: str,
    *,
    class_names: Sequence[str],
    shape: tuple[int, int, int],
    labels: Mapping[str, np.ndarray],
    blocks: Mapping[str, Iterable[np.ndarray]],
    files_digests: Mapping[str, str],
    notices: Sequence[str] = (),
    origin: Origin | None = None,
    replace: bool = False,
) -> None:
    """Keeps a task that no memory need hold, whole or not at all.

    Args:
      name: `own/...`.
      data_dir: on a local disk.
      class_names: in the order of the labels.
      shape: of each image: height, width, channels.
      labels: of each split, as of `types.Split`.
      blocks: of each split, its images in the order of its labels, `[any,
        *shape] uint8` at a time.
      files_digests: of each split, as of `types.Split`.
      notices: what is odd about the data.
      origin: kept beside it.
      replace: as of `save`.

    Raises:
      UsageError: the name is not `own/...`.
      ExistsError: there is one of that name.
      DataError: it does not fit on the disk, or cannot be written.
    """
    if folders.is_remote(data_dir):
        raise errors.DataError(
            f"task {name!r} is larger than memory, and array files cannot lie "
            f"in {data_dir}; name a local folder"
        )
    num_images = sum(map(len, labels.values()))
    array_files.check_space(num_images * math.prod(shape), data_dir)
    with _written(name, data_dir, replace) as part:
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
        _write_index(
            part,
            name,
            class_names,
            files,
            files_digests,
            notices,
            origin or Origin(),
            target_types.of_labels(labels["train"]),
        )


def load_task(name: str, data_dirs: Sequence[str]) -> types.TaskData:
    """Returns a task that `save` kept.

    Args:
      name: `own/...`.
      data_dirs: looked in, in order.

    Raises:
      DataError: none holds it, or its files were changed.
    """
    for data_dir in data_dirs:
        if exists(name, data_dir):
            return reading.load_arrays(name, _folder(name, data_dir))
    raise errors.DataError(
        f"task {name!r} is not prepared in {','.join(data_dirs)}; run "
        f"{commands.command('tasks')} prepare folder:PATH --name={name} "
        f"--data_dir={data_dirs[0]}, or name its folder by --data_dir, in "
        "commands with --config by --config.data.data_dir"
    )


def verify(name: str, data_dir: str) -> None:
    """Compares the files of a kept task with their checksums.

    Raises:
      DataError: a byte was changed.
    """
    folder = _folder(name, data_dir)
    reading.load_arrays(name, folder)
    for split in types.SPLIT_NAMES:
        images = folder / f"{split}_images"
        if images.is_dir():
            array_files.verify(pathlib.Path(images))


def prepared_fingerprint(
    name: str, data_dirs: Sequence[str]
) -> tuple[tuple[str, ...], fingerprint.DataFingerprint] | None:
    """Returns class names and fingerprint of a kept task without its images.

    Args:
      name: `own/...`.
      data_dirs: looked in, in order.

    Returns:
      None if no folder holds the task.

    Raises:
      DataError: its files are damaged.
    """
    for data_dir in data_dirs:
        if exists(name, data_dir):
            return reading.fingerprint_of(name, _folder(name, data_dir))
    return None


def request_difference(
    name: str, data_dir: str, source: str, *, side: int, image_size: int
) -> str | None:
    """Returns in words how a request differs from that of a kept task.

    Args:
      name: of a task that `exists`.
      data_dir: the folder of prepared data.
      source: `folder:PATH` or `table:PATH`.
      side: as of `scan.examine`.
      image_size: as of `scan.examine`.

    Returns:
      An empty text where they are equal; None where an earlier version
      prepared the task and kept no request.

    Raises:
      UsageError: there is no such source.
      DataError: the source has no examples, or the task is damaged.
    """
    folder = _folder(name, data_dir)
    record = _index(name, folder).request
    if not record:
        return None
    return requests.compare(
        record, folder, source, side=side, image_size=image_size
    )


def image_size(name: str, data_dirs: Sequence[str]) -> int | None:
    """Returns the image size that a kept task was prepared for.

    Args:
      name: `own/...`.
      data_dirs: looked in, in order.

    Returns:
      None if no folder holds the task, or no request is known.

    Raises:
      DataError: the task is damaged.
    """
    for data_dir in data_dirs:
        if exists(name, data_dir):
            request = _index(name, _folder(name, data_dir)).request
            return request.get("image_size")
    return None


def originals(name: str, data_dirs: Sequence[str]) -> list[bytes]:
    """Returns the picture files that lie beside a kept task; none without.

    Args:
      name: `own/...`.
      data_dirs: looked in, in order.
    """
    for data_dir in data_dirs:
        if exists(name, data_dir):
            return reading.originals(_folder(name, data_dir))
    return []


def _index(name: str, folder: epath.Path) -> reading.Index:
    try:
        return reading.read_index(folder)
    except (OSError, ValueError) as e:
        raise reading.damaged(name, folder, e) from e


def _folder(name: str, data_dir: str) -> epath.Path:
    bare = names.bare_name(name)
    family, _, rest = bare.partition("/")
    if family != FAMILY or not rest:
        raise errors.UsageError(
            f"own images have names that begin with {FAMILY}/, not {name!r}; "
            f"give e.g. {FAMILY}/{rest or bare or 'cats'}"
        )
    return epath.Path(data_dir).expanduser() / FAMILY / names.file_name(rest)


@contextlib.contextmanager
def _written(name: str, data_dir: str, replace: bool) -> Iterator[epath.Path]:
    """Gives a folder to fill, which becomes the task's if nothing fails.

    Raises:
      ExistsError: there is one of that name, and it is not to be replaced.
      DataError: it cannot be written.
    """
    folder = _folder(name, data_dir)
    if exists(name, data_dir) and not replace:
        raise _exists(name, folder)
    part = folders.unfinished(folder.parent)
    try:
        part.mkdir(parents=True)
        yield part
        if replace and exists(name, data_dir):
            folders.exchange(part, folder)
        else:
            folders.rename(part, folder)
    except OSError as e:
        if e.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise _exists(name, folder) from None
        raise errors.DataError(
            f"cannot write {folder}: {e.strerror or e}; choose another data_dir"
        ) from e
    finally:
        if part.exists():
            part.rmtree()


def _exists(name: str, folder: epath.Path) -> ExistsError:
    return ExistsError(
        f"task {name!r} is kept in {folder} already; give the new one another "
        f"name, or replace it with {commands.command('tasks')} prepare "
        "--replace"
    )


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
    sha256: Mapping[str, str],
    files_digests: Mapping[str, str],
    notices: Sequence[str],
    origin: Origin,
    target: target_types.TargetType,
) -> None:
    num_left = len(origin.skipped) - _NUM_SKIPPED_MAX
    skipped = [list(s) for s in origin.skipped[:_NUM_SKIPPED_MAX]]
    if num_left > 0:
        skipped.append([f"{num_left:,} more", "not listed"])
    index = {
        "schema": _SCHEMA,
        "name": name,
        "class_names": list(class_names),
        "sha256": dict(sha256),
        "files": {split: text for split, text in files_digests.items() if text},
        "notices": list(notices),
        "skipped": skipped,
    }
    # Earlier versions know no other type.
    if target is not target_types.SINGLE_LABEL:
        index["target_type"] = target.name
    if origin.request is not None:
        index["request"] = origin.request.index_value()
        origin.request.write(folder)
    for i, content in enumerate(origin.originals):
        (folder / reading.original_file(i)).write_bytes(content)
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (folder / reading.INDEX).write_text(text)
