"""Reads what an export says of itself, and its signatures.

Invariant: `signatures.json` is data of limited size; a folder that cannot be
read is refused in one line.
"""

from __future__ import annotations

import pathlib
from typing import Any

import tensorflow as tf

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import plain_paths

SIGNATURES_FILE = "signatures.json"
_NUM_BYTES_MAX = 1 << 28


def described(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of an export's `signatures.json`.

    Raises:
      StoreError: it cannot be read.
    """
    try:
        data = guarded_file.read_file(
            folder / SIGNATURES_FILE, _NUM_BYTES_MAX, follow=True
        )
        return guarded_json.loads(data)
    except (OSError, ValueError) as error:
        raise errors.StoreError(
            f"{folder} is no export: its {SIGNATURES_FILE} cannot be read; "
            f"give the folder that {commands.command('export')} wrote"
        ) from error


def load_saved_model(folder: pathlib.Path) -> Any:
    """Returns an export; its `signatures` are its functions by name.

    The caller has `graph_guard.check` pass an untrusted export first.

    Raises:
      StoreError: the SavedModel cannot be loaded.
    """
    try:
        return tf.saved_model.load(plain_paths.without_patterns(str(folder)))
    # TensorFlow's reader raises errors of any type on damage.
    except Exception as error:
        raise errors.StoreError(
            f"{folder} cannot be loaded: {' '.join(str(error).split())[:200]}; "
            "export again"
        ) from error
