"""Lists the examples of a user's own folder or table.

Invariant: every file of a folder and every row of a table is either listed as
an example or named among the skipped with a reason; the order is that of
names in a folder and of rows in a table, on every machine.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import math
import os
import stat
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from etils import epath

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.core import target_types
from keras_munet.data import folders
from keras_munet.data import types
from keras_munet.data.own import layout as layout_lib

FOLDER = "folder"
TABLE = "table"
_IMAGE_COLUMNS = ("path", "file", "file_name", "filename", "image", "bytes")
_LABEL_COLUMNS = ("label", "class", "class_name", "category")
# Of tables whose images may have any number of labels.
_LABEL_LIST_COLUMNS = ("labels", "classes", "class_names", "categories")
_SPLIT_COLUMN = "split"
_PARQUET = ".parquet"
_TABLES = (".csv", _PARQUET)
SEPARATOR = target_types.SEPARATOR
# Of a path or name in a message; longer ones are shortened.
_NUM_CHARS_MAX = 200


class Skipped(NamedTuple):
    """An unused file or row, and the reason.

    Attributes:
      where: a path in the folder, or a row of the table.
      reason: in words.
    """

    where: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Example:
    """One image before it is read.

    Attributes:
      where: for messages: a path in the folder, or a row of the table.
      class_name: its label; of several, those of `label_names`.
      path: of its file; None where `content` is given.
      content: the file itself.
      split: `train`, `validation` or `test` where the source says so.
    """

    where: str
    class_name: str
    path: epath.Path | None = None
    content: bytes = b""
    split: str = ""

    def read(self) -> bytes:
        """Returns the file.

        Raises:
          OSError: it cannot be read.
        """
        if self.path is None:
            return self.content
        try:
            remote = folders.is_remote(os.fspath(self.path))
            if not remote and not stat.S_ISREG(os.stat(self.path).st_mode):
                # To read a pipe would be to wait for ever.
                raise OSError(errno.EINVAL, "not a regular file")
            return self.path.read_bytes()
        except ValueError as e:
            # A path that no system takes, e.g. with a zero byte.
            raise OSError(errno.EINVAL, str(e)) from None


class Listing(NamedTuple):
    """Examples in order, and what was left out.

    Attributes:
      examples: in order.
      skipped: what is left out, and why.
      layout: how the source is read, in one line.
      notices: sentences about what is odd.
      target: whether an image has one label or any number of them.
    """

    examples: list[Example]
    skipped: list[Skipped]
    layout: str
    notices: list[str]
    target: target_types.TargetType = target_types.SINGLE_LABEL

    def label_names(self, example: Example) -> list[str]:
        """Returns the labels of an example."""
        if self.target is target_types.SINGLE_LABEL:
            return [example.class_name]
        return list(filter(None, example.class_name.split(SEPARATOR)))


def is_own(task: str) -> bool:
    """Returns whether `task` is `folder:PATH` or `table:PATH`."""
    return task.partition(":")[0] in (FOLDER, TABLE) and ":" in task


def listing(task: str) -> Listing:
    """Returns what `folder:PATH` or `table:PATH` holds.

    A folder holds a folder for each class, or `train`, `validation` and
    `test` folders which do. A table is a CSV file with a header, or a
    Parquet file: a column of paths (relative to the table) or of file
    contents, a column of labels and, if there is one, a column `split`. In a
    column `labels` an image has any number of them, with `|` between, or none
    where the cell is empty; in Parquet lists of texts, too.

    Raises:
      UsageError: there is no such folder or table.
      DataError: it has no examples, or cannot be read.
    """
    source_type, _, where = task.partition(":")
    path = epath.Path(where).expanduser()
    if source_type == FOLDER:
        if not path.is_dir():
            raise errors.UsageError(
                f"{task!r}: there is no folder {path}; name one that holds "
                "a folder of images for each class"
            )
        try:
            result = _folder(path)
        except OSError as e:
            raise errors.DataError(
                f"{task!r} cannot be read: {e.strerror or e}: {e.filename}"
            ) from e
    else:
        if not path.is_file():
            raise errors.UsageError(
                f"{task!r}: there is no file {path}; name a CSV or Parquet "
                "file of images and labels"
            )
        result = _table(path)
    if not result.examples:
        first = "; ".join(f"{s.where}: {s.reason}" for s in result.skipped[:3])
        needed = (
            f"lay the images out as {layout_lib.LAYOUTS}{_table_hint(path)}"
            if source_type == FOLDER
            else "a table needs rows with an image and a label"
        )
        raise errors.DataError(
            f"{task!r} has no examples"
            f"{f' (skipped: {first})' if first else ''}; {needed}"
        )
    return result


def _table_hint(root: epath.Path) -> str:
    """Returns how a table in a folder is named; empty without one."""
    tables = [f for f in root.iterdir() if f.suffix.lower() in _TABLES]
    if not tables:
        return ""
    return f"; or give {TABLE}:{printable.printable(str(min(tables)))}"


def _folder(root: epath.Path) -> Listing:
    layout = layout_lib.read_layout(root)
    examples = [
        Example(
            where=layout_lib.relative(file, root),
            class_name=folder.class_name,
            path=file,
            split=folder.split,
        )
        for folder in layout.class_folders
        for file in folder.files
    ]
    return Listing(
        examples,
        [Skipped(*parts) for parts in layout.skipped],
        layout.description,
        layout.notices,
    )


def _short(text: str) -> str:
    """Returns text for a message, which no table may flood."""
    if len(text) > _NUM_CHARS_MAX:
        text = text[:_NUM_CHARS_MAX] + "..."
    return printable.printable(text)


def _table(path: epath.Path) -> Listing:
    is_parquet = path.name.lower().endswith(_PARQUET)
    columns, rows, skipped = (_parquet if is_parquet else _csv)(path)
    image_column = _column(path, columns, _IMAGE_COLUMNS, "images")
    label_column = _column(
        path, columns, (*_LABEL_COLUMNS, *_LABEL_LIST_COLUMNS), "labels"
    )
    is_list = label_column in _LABEL_LIST_COLUMNS
    read_labels = _label_list if is_list else _label
    examples: list[Example] = []
    changed: dict[str, str] = {}
    for where, row in rows:
        image = row[image_column]
        if isinstance(image, str):
            image = image.strip()
        try:
            written, class_name = read_labels(row[label_column])
            split = _text(row.get(_SPLIT_COLUMN), "split").strip().lower()
        except TypeError as e:
            skipped.append(Skipped(where, str(e)))
            continue
        reason = ""
        if not class_name and not is_list:
            reason = "no label"
        elif image is None or image == "" or image == b"":
            reason = "no image"
        elif not isinstance(image, str | bytes):
            reason = f"image is {type(image).__name__}, no path and no file"
        elif split and split not in layout_lib.SPLIT_NAMES:
            reason = (
                f"split {_short(split)!r}, which is none of "
                f"{', '.join(types.SPLIT_NAMES)}"
            )
        if reason:
            skipped.append(Skipped(where, reason))
            continue
        if not is_list and class_name != written:
            changed[written] = class_name
        is_content = isinstance(image, bytes)
        examples.append(
            Example(
                where=where if is_content else f"{where}: {_short(image)}",
                class_name=class_name,
                # An absolute path is kept as it is.
                path=None if is_content else path.parent / _file_name(image),
                content=image if is_content else b"",
                split=layout_lib.SPLIT_NAMES[split] if split else "",
            )
        )
    if is_list and examples and not any(e.class_name for e in examples):
        raise errors.DataError(
            f"table {path} has no label in its column {label_column!r}; give "
            "at least one image a label"
        )
    columns = [
        c for c in (image_column, label_column, _SPLIT_COLUMN) if c in columns
    ]
    return Listing(
        examples,
        skipped,
        f"a table with the columns {', '.join(columns)}",
        [
            *(
                f"the label {old!a} is class {new!r} (composed, without spaces "
                "around it, printable)"
                for old, new in changed.items()
            ),
            *([] if is_list else _separator_notices(examples, label_column)),
        ],
        target_types.MULTI_LABEL if is_list else target_types.SINGLE_LABEL,
    )


def _separator_notices(
    examples: Sequence[Example], label_column: str
) -> list[str]:
    """Returns what is odd about labels that look like several."""
    several = [e for e in examples if SEPARATOR in e.class_name]
    if not several:
        return []
    return [
        f"{len(several):,} labels have {SEPARATOR!r} in them, as "
        f"{_short(several[0].class_name)!r}, and each is one class; if it "
        f"stands between labels, name the column {_LABEL_LIST_COLUMNS[0]!r} "
        f"instead of {label_column!r}"
    ]


def _label(value: Any) -> tuple[str, str]:
    """Returns a label as it is written, and the name of its class.

    Raises:
      TypeError: it is no name.
    """
    written = _text(value, "label")
    return written, layout_lib.label(written)


def _label_list(value: Any) -> tuple[str, str]:
    """Returns labels as they are written, and the names of their classes.

    Args:
      value: a text with `|` between labels, or a list of texts; empty for
        none.

    Raises:
      TypeError: it is neither.
    """
    if isinstance(value, list | tuple):
        parts = [_text(part, "label") for part in value]
        if any(SEPARATOR in part for part in parts):
            raise TypeError(f"a label has {SEPARATOR!r} in it")
    else:
        text = _text(value, "label")
        parts = text.split(SEPARATOR) if text.strip() else []
    class_names = [layout_lib.label(part) for part in parts]
    if not all(class_names):
        raise TypeError(
            f"a label of {_short(SEPARATOR.join(parts))!r} is empty"
        )
    # One order, so that it is the same request in any other.
    names = SEPARATOR.join(sorted(set(class_names)))
    return SEPARATOR.join(parts), names


def _file_name(path: str) -> str:
    """Returns a path such that the system takes it for UTF-8."""
    try:
        return os.fsdecode(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return path


def _text(value: Any, what: str) -> str:
    """Returns a label or the name of a split as text; empty for none.

    Raises:
      TypeError: it is a list or the like, which is no name.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str | int | float):
        raise TypeError(f"{what} is {type(value).__name__}, no name")
    return str(value)


def _column(path, columns, allowed: tuple[str, ...], what: str) -> str:
    for name in allowed:
        if name in columns:
            return name
    raise errors.DataError(
        f"table {path} has no column of {what}: its columns are "
        f"{', '.join(map(repr, columns)) or 'none'}; name one of them "
        f"{' or '.join(allowed)}"
    )


def _csv(path: epath.Path):
    try:
        # With or without the mark that spreadsheets put in front.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise errors.DataError(
            f"table {path} is not UTF-8 at byte {e.start}; save it as a CSV "
            "file in UTF-8"
        ) from None
    lines = csv.reader(
        io.StringIO(text, newline=""), strict=True, skipinitialspace=True
    )
    rows: list[tuple[str, Mapping[str, Any]]] = []
    skipped: list[Skipped] = []
    try:
        columns = [c.strip() for c in next(lines, [])]
        for fields in lines:
            where = f"line {lines.line_num}"
            if not fields:
                continue
            if len(fields) != len(columns):
                skipped.append(
                    Skipped(
                        where,
                        f"{len(fields)} fields where the header has "
                        f"{len(columns)}",
                    )
                )
                continue
            rows.append((where, dict(zip(columns, fields, strict=True))))
    except csv.Error as e:
        raise errors.DataError(
            f"table {path} is no CSV at line {lines.line_num}: {e}; save it "
            "as a CSV file in UTF-8"
        ) from None
    if len(set(columns)) != len(columns):
        raise errors.DataError(
            f"table {path} has a column twice: {', '.join(columns)}; name "
            "each once"
        )
    return columns, rows, skipped


def _parquet(path: epath.Path):
    try:
        from pyarrow import parquet
    except ImportError as e:
        raise errors.DataError(
            f"table {path} is Parquet, which needs pyarrow; run pip install "
            "pyarrow"
        ) from e
    try:
        with path.open("rb") as file:
            table = parquet.read_table(file)
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise errors.DataError(
            f"table {path} cannot be read as Parquet: {text}; write it again"
        ) from None
    rows = [
        (f"row {i}", {name: _plain(value) for name, value in row.items()})
        for i, row in enumerate(table.to_pylist())
    ]
    return table.column_names, rows, []


def _plain(value: Any) -> Any:
    """Returns the image of a `{bytes, path}` record, which some tables hold."""
    if isinstance(value, Mapping):
        return value.get("bytes") or value.get("path")
    return value
