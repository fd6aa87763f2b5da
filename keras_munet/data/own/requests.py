"""Compares a request to prepare with what a task was prepared from.

Invariant: two requests are equal only if the same files, with the same
contents, classes and splits, are to be stored in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from etils import epath

from keras_munet.core import printable
from keras_munet.core import target_types
from keras_munet.data import folders
from keras_munet.data import regular_files
from keras_munet.data.own import sources

# Beside the index of a prepared task.
SOURCE_FILE = "source.json"
_NUM_NAMES_MAX = 3


class SourceFile(NamedTuple):
    """One example of a source, before its image is decoded.

    Attributes:
      where: the example's place, for messages.
      class_name: its label.
      split: the split that the source names; empty for none.
      num_bytes: of its file; -1 where it cannot be read.
      changed_ns: when its file was changed, nanoseconds; 0 if unknown.
      sha256: of its file; empty where it cannot be read.
    """

    where: str
    class_name: str
    split: str
    num_bytes: int
    changed_ns: int
    sha256: str


class Request(NamedTuple):
    """Holds what a caller wants to be prepared.

    Attributes:
      options: `kind` and `place` of the source, `side`, `image_size`, and
        `target_type` where it is not that of one label an image.
      files: the examples of the source, in order.
    """

    options: Mapping[str, Any]
    files: Sequence[SourceFile]

    def index_value(self) -> dict[str, Any]:
        """Returns what the index of the prepared task keeps."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(json.dumps(_identity(file)).encode())
        return {**self.options, "content": total.hexdigest()}

    def write(self, folder: epath.Path) -> None:
        """Writes the list of files into the folder of a task."""
        (folder / SOURCE_FILE).write_text(
            "[\n" + ",\n".join(map(json.dumps, self.files)) + "\n]\n"
        )


def request_of(
    listing: sources.Listing,
    source: str,
    *,
    side: int,
    image_size: int,
    folder: epath.Path | None = None,
) -> Request:
    """Returns the request to prepare a source.

    Args:
      listing: of the source.
      source: `folder:PATH` or `table:PATH`.
      side: as of `scan.examine`.
      image_size: as of `scan.examine`.
      folder: of a task that was prepared from the same path. A file that has
        kept its name, size and time since then is not read again.
    """
    files_by_path = {}
    if folder is not None:
        files_by_path = {file.where: file for file in read_files(folder)}
    options = _options(source, side=side, image_size=image_size)
    if listing.target is not target_types.SINGLE_LABEL:
        options["target_type"] = listing.target.name
    return Request(
        options,
        [_file_of(e, files_by_path.get(e.where)) for e in listing.examples],
    )


def read_files(folder: epath.Path) -> list[SourceFile]:
    """Returns the files that a task was prepared from; none if unknown."""
    try:
        value = regular_files.read_json(folder / SOURCE_FILE)
        return [SourceFile(*parts) for parts in value]
    except (OSError, ValueError, TypeError):
        # They only make a message say more, and reading faster.
        return []


def compare(
    record: Mapping[str, Any],
    folder: epath.Path,
    source: str,
    *,
    side: int,
    image_size: int,
) -> str:
    """Returns in words how a source and options differ from those of a task.

    Args:
      record: what the index of the prepared task keeps of its request.
      folder: of the prepared task.
      source: `folder:PATH` or `table:PATH`.
      side: as of `scan.examine`.
      image_size: as of `scan.examine`.

    Returns:
      An empty text where they are equal.

    Raises:
      UsageError: there is no such source.
      DataError: the source has no examples.
    """
    listing = sources.listing(source)
    options = {"side": side, "image_size": image_size}
    is_same_place = record.get("place") == _options(source, **options)["place"]
    request = request_of(
        listing, source, **options, folder=folder if is_same_place else None
    )
    return difference(record, read_files(folder), request)


def difference(
    record: Mapping[str, Any], old_files: Sequence[SourceFile], request: Request
) -> str:
    """Returns in words how a request differs; empty where it is equal.

    Args:
      record: what the index of the prepared task keeps of its request.
      old_files: the files that the task was prepared from; none if unknown.
      request: the new one.
    """
    now = request.index_value()
    for key, text in (
        ("kind", "the source is a {}, it was a {}"),
        ("side", "--side={} is given, it was {}"),
        ("image_size", "--image_size={} is given, it was {}"),
    ):
        if record.get(key) != now[key]:
            return text.format(
                now[key], printable.printable(str(record.get(key)))
            )
    single = target_types.SINGLE_LABEL.name
    types = [r.get("target_type", single) for r in (record, now)]
    if types[0] != types[1]:
        old, new = (
            "one label" if t == single else "any number of labels"
            for t in types
        )
        return f"an image has {new} now, it had {old}"
    if record.get("content") == now["content"]:
        return ""
    before = {file.where: file for file in old_files}
    after = {file.where: file for file in request.files}
    changes = {
        "added": [where for where in after if where not in before],
        "removed": [where for where in before if where not in after],
        "changed": [
            where
            for where, file in after.items()
            if where in before and _identity(file) != _identity(before[where])
        ],
    }
    if not old_files or not any(changes.values()):
        return "the source differs"
    return "the source has " + ", ".join(
        f"{len(names):,} {_files(names)} {what} ({_joined(names)})"
        for what, names in changes.items()
        if names
    )


def _options(source: str, *, side: int, image_size: int) -> dict[str, Any]:
    source_type, _, path = source.partition(":")
    path_text = os.path.abspath(os.path.expanduser(path))
    return {
        "kind": source_type,
        "place": hashlib.sha256(os.fsencode(path_text)).hexdigest(),
        "side": side,
        "image_size": image_size,
    }


def _file_of(
    example: sources.Example, old_file: SourceFile | None
) -> SourceFile:
    num_bytes, changed_ns = _stamp(example)
    sha256 = ""
    if old_file and changed_ns and old_file[3:5] == (num_bytes, changed_ns):
        sha256 = old_file.sha256
    else:
        try:
            content = example.read()
        except OSError:
            num_bytes = -1
        else:
            num_bytes = len(content)
            sha256 = hashlib.sha256(content).hexdigest()
    return SourceFile(
        example.where,
        example.class_name,
        example.split,
        num_bytes,
        changed_ns,
        sha256,
    )


def _stamp(example: sources.Example) -> tuple[int, int]:
    """Returns the size and the time of change of a file; 0 if unknown."""
    if example.path is None or folders.is_remote(os.fspath(example.path)):
        return len(example.content), 0
    try:
        status = os.stat(example.path)
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _identity(file: SourceFile) -> tuple[str, str, str]:
    """Returns what makes two files the same example."""
    return file.class_name, file.split, file.sha256


def _files(names: Sequence[str]) -> str:
    return "file" if len(names) == 1 else "files"


def _joined(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NUM_NAMES_MAX else ""
    return ", ".join(map(printable.printable, names[:_NUM_NAMES_MAX])) + more
