"""A config as plain JSON, which executes nothing: for files of others.

`--config=FILE.json` of any launcher is read by this file's `get_config`; a
`.py` config is the user's own program and runs as such. The keys are those of
`keras_munet.config.base`, in nested objects; what is left out has its default.
"""

from __future__ import annotations

from typing import Any

import ml_collections

from keras_munet import config as config_lib
from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import settings as settings_lib

SUFFIX = ".json"
NUM_BYTES_MAX = 1 << 20


def get_config(path: str) -> ml_collections.ConfigDict:
    """Returns the config that a JSON file describes.

    Raises:
      UsageError: there is no such file, it is no JSON object, too large, or
        a key or value is not allowed.
    """
    try:
        data = guarded_file.read_file(path, NUM_BYTES_MAX, follow=True)
    except OSError as error:
        raise errors.UsageError(
            f"--config={path} cannot be read: {error.strerror}; the "
            "experiments that come with the project are in configs/"
        ) from error
    except errors.StoreError as error:
        raise errors.UsageError(
            f"--config cannot be read: {error}; it may hold settings only"
        ) from error
    try:
        value = guarded_json.loads(data, object_pairs_hook=_without_repetition)
        if not isinstance(value, dict):
            raise ValueError(f"it holds {type(value).__name__}, not an object")
    except ValueError as error:
        raise errors.UsageError(
            f"--config={path} is no JSON object of settings: "
            f"{' '.join(str(error).split())}; correct it"
        ) from error
    try:
        checked = settings_lib.Settings.from_dict(value)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise errors.UsageError(
            f"--config={path} has a value of the wrong kind: "
            f"{' '.join(str(error).split())}; see keras_munet/config.py"
        ) from error
    config = config_lib.base()
    with config.unlocked(), config.ignore_type():
        config.update(checked.to_json())
        config.data.update(checked.data.__dict__)
    return config


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("an object has one key twice")
    return mapping
