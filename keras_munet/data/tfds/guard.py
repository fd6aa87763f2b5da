"""Keeps TFDS from running or waiting for what prepared data of others name.

Invariant: while a data set is opened, its metadata name only feature classes
that are loaded already; no module is imported because a file names it, wherever
that module lies.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any

from tensorflow_datasets.core.features import feature as feature_lib

from keras_munet import errors
from keras_munet.core import guarded_file

# Metadata are read whole; records are not.
_METADATA_NUM_BYTES_MAX = 64 << 20
_RECORDS = (".array_record", ".tfrecord", ".riegeli", ".parquet", ".bagz")
# DATASET/CONFIG/VERSION
_NUM_LEVELS_MAX = 3
_guarded = threading.local()


@contextlib.contextmanager
def no_imports() -> Iterator[None]:
    """Lets feature classes be named in this thread only if they are loaded."""
    before = getattr(_guarded, "is_on", False)
    _guarded.is_on = True
    try:
        yield
    finally:
        _guarded.is_on = before


def refuse_odd_files(folder: str | os.PathLike[str]) -> None:
    """Does nothing if a data set's folder has regular files alone.

    Args:
      folder: of the data set, on a disk; it need not exist.

    Raises:
      DataError: something else is there, or metadata that are too large.
    """
    start = os.fspath(folder)
    for above, folders, files in os.walk(start):
        if above[len(start) :].count(os.sep) >= _NUM_LEVELS_MAX:
            folders.clear()
        for name in files:
            path = os.path.join(above, name)
            try:
                status = os.stat(path)
            except OSError:
                # The opener reports a link that leads nowhere.
                continue
            if not stat.S_ISREG(status.st_mode):
                raise errors.DataError(
                    f"{guarded_file.show(path)} is no regular file; put a "
                    "file there, or prepare the data set again"
                )
            is_record = any(suffix in name for suffix in _RECORDS)
            if not is_record and status.st_size > _METADATA_NUM_BYTES_MAX:
                raise errors.DataError(
                    f"{guarded_file.show(path)} has {status.st_size} bytes; "
                    f"metadata may have at most {_METADATA_NUM_BYTES_MAX}: "
                    "prepare the data set again"
                )


_class_of = feature_lib.FeatureConnector.cls_from_name.__func__


def _known_class_of(cls: Any, python_class_name: str) -> Any:
    """Takes the place of TFDS's function that imports a class by its name."""
    if (
        getattr(_guarded, "is_on", False)
        and python_class_name not in cls._registered_features
    ):
        raise ValueError(
            f"its features name the class {python_class_name!a}, which is "
            "none of TFDS's own; import the module that has it before, if "
            "the data are your own"
        )
    return _class_of(cls, python_class_name)


feature_lib.FeatureConnector.cls_from_name = classmethod(_known_class_of)
