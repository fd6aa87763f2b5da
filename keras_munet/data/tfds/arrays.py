"""Splits of TensorFlow Datasets (TFDS) as array files beside its records.

Invariant: what a file holds follows from its place: data set, version, shape
and absolute range of examples. So tasks that read the same examples share one
file of images, and each split of a task is a view.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from keras_munet import errors
from keras_munet.core import fingerprint
from keras_munet.data import folders
from keras_munet.data import types
from keras_munet.data.tfds import array_files
from keras_munet.data.tfds import offline
from keras_munet.data.tfds import reading

_FAMILY = "arrays"
_IMAGES = "images"


class Part(NamedTuple):
    """The examples of one split of a task.

    Attributes:
      builder: of the data set that they come from, prepared.
      split: of the data set.
      start: the first example.
      end: the one after the last.
      form: how they become images and labels.
    """

    builder: tfds.core.DatasetBuilder
    split: str
    start: int
    end: int
    form: reading.Form

    @property
    def folder(self) -> pathlib.PurePosixPath:
        """Returns the folder of its arrays, below prepared data."""
        return pathlib.PurePosixPath(
            _FAMILY,
            offline.layout(self.builder),
            str(self.builder.version),
            "x".join(map(str, self.form.shape)),
            f"{self.split}_{self.start}_{self.end}",
        )

    @property
    def label_name(self) -> str:
        """The name of its array of labels."""
        return "label_" + self.form.label.replace("/", "~")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all its images."""
        return (self.end - self.start, *self.form.shape)


def load_parts(part: Part, data_dir: str) -> types.Split | None:
    """Returns a split whose images are read from a file; None without one.

    Args:
      part: of a task.
      data_dir: folders with a comma between; arrays are looked for in those
        on local disks.

    Raises:
      DataError: the files are damaged.
    """
    for folder in _local(data_dir):
        path = folder / part.folder
        if array_files.exists(path / _IMAGES) and array_files.exists(
            path / part.label_name
        ):
            labels = np.array(array_files.opened(path / part.label_name))
            images = array_files.opened(path / _IMAGES)
            digest = array_files.file_digest(path / _IMAGES)
            return types.Split(
                images,
                labels,
                resident=False,
                images_digest=fingerprint.digest_text(digest),
            )
    return None


def num_bytes(parts: Mapping[str, Part]) -> int:
    """Returns what the images of all splits take."""
    return sum(math.prod(part.shape) for part in parts.values())


def prepare_parts(
    parts: Mapping[str, Part], data_dir: str, progress: bool
) -> list[str]:
    """Writes what arrays are missing; compares the others with their checksums.

    An interrupted call is continued by the next, where it stopped.

    Args:
      parts: by the name of the split; of one task.
      data_dir: folders with a comma between; the first is written to.
      progress: whether a bar is shown.

    Returns:
      What was written.

    Raises:
      DataError: the records cannot be read, or the arrays not written.
    """
    missing_parts = {}
    for part in parts.values():
        if load_parts(part, data_dir) is None:
            missing_parts[part.folder] = part
            continue
        for folder in _local(data_dir):
            for array_name in (_IMAGES, part.label_name):
                if array_files.exists(folder / part.folder / array_name):
                    array_files.verify(folder / part.folder / array_name)
    if missing_parts:
        first = folders.folders(data_dir)[0]
        if folders.is_remote(first):
            raise errors.DataError(
                f"array files are mapped into memory and cannot lie in "
                f"{first}; name a local folder first, as in "
                f"--data_dir=FOLDER,{first}"
            )
        root = pathlib.Path(first)
        num_written = sum(
            array_files.num_bytes_written(root / part_folder / _IMAGES)
            for part_folder in missing_parts
        )
        needed = sum(math.prod(part.shape) for part in missing_parts.values())
        array_files.check_space(needed - num_written, root)
        for part in missing_parts.values():
            _write(part, root, progress)
    return [str(part_folder) for part_folder in missing_parts]


def _write(part: Part, root: pathlib.Path, progress: bool) -> None:
    folder = root / part.folder
    num_rows = part.shape[0]

    def tell() -> None:
        tqdm.tqdm.write(
            f"another process prepares {folder}; waiting", file=sys.stderr
        )

    with array_files.locked(folder, tell):
        chunk = array_files.num_chunk_rows(part.shape)
        writers = {
            array_name: array_files.Writer(
                folder / array_name, shape, dtype, chunk
            )
            for array_name, shape, dtype in (
                (_IMAGES, part.shape, np.uint8),
                (part.label_name, (num_rows,), np.int32),
            )
            if not array_files.exists(folder / array_name)
        }
        num_done = min((w.num_done for w in writers.values()), default=num_rows)
        with contextlib.closing(
            tqdm.tqdm(
                total=num_rows,
                initial=num_done,
                desc=str(part.folder.relative_to(_FAMILY)),
                unit="image",
                disable=not progress,
            )
        ) as bar:
            for images, labels in _rows(part, num_done, _IMAGES in writers):
                for array_name, rows in (
                    (_IMAGES, images),
                    (part.label_name, labels),
                ):
                    if array_name in writers:
                        writers[array_name].append(num_done, rows)
                num_done += len(labels)
                bar.update(len(labels))
        if num_done != num_rows:
            raise errors.DataError(
                f"split {part.split!r} of {part.builder.data_dir} ends at "
                f"example {part.start + num_done} where its index says "
                f"{part.end}; delete that folder and prepare it again"
            )
        for writer in writers.values():
            writer.finish()


def _rows(part: Part, num_done: int, with_images: bool):
    """Yields (images, labels) of a part from its example `num_done` on."""
    if part.start + num_done == part.end:
        return
    instruction = tfds.core.ReadInstruction(
        part.split, from_=part.start + num_done, to=part.end, unit="abs"
    )
    yield from reading.batches(
        part.builder, instruction, part.form, with_images=with_images
    )


def _local(data_dir: str) -> list[pathlib.Path]:
    named = folders.folders(data_dir)
    return [
        pathlib.Path(folder)
        for folder in named
        if not folders.is_remote(folder)
    ]
