"""Runs a config that is a Python program; a failure becomes one line.

`--config=FILE.py[:ARGUMENT]` of any launcher is run by this file's
`get_config`. What the program returns may be a `ConfigDict` or a plain dict;
its lists become tuples, which flags can replace:
`--config.task_names="('digits',)"`.
"""

from __future__ import annotations

import os
import runpy
import traceback
from collections.abc import Mapping
from typing import Any

import ml_collections

from keras_munet import errors

# The end of a long message says the most.
_NUM_CHARS_MAX = 300
_RUN_NAME = "keras_munet_config"


def get_config(config: str) -> ml_collections.ConfigDict:
    """Returns what the program's own `get_config` does, with tuples.

    Args:
      config: the file, and behind a colon the argument of its `get_config`.

    Raises:
      UsageError: there is no such file, it fails, or it returns no config.
    """
    path, colon, argument = config.partition(":")
    if not os.path.isfile(path):
        raise errors.UsageError(
            f"--config={path}: there is no such file; the experiments that "
            "come with the project are in configs/"
        )
    try:
        program = runpy.run_path(path, run_name=_RUN_NAME)
        result = program["get_config"](*([argument] if colon else []))
    except errors.MunetError:
        # A config's own word about its argument.
        raise
    # The config is the user's program, and may fail in any way.
    except (Exception, SystemExit) as error:
        raise errors.UsageError(_failure(path, error)) from error
    if not isinstance(result, Mapping | ml_collections.ConfigDict):
        raise errors.UsageError(
            f"--config={path}: get_config returns {type(result).__name__}; it "
            "must return a ConfigDict or a dict"
        )
    return _with_tuples(result)


def _failure(path: str, error: BaseException) -> str:
    """Returns what failed and where, the end of a long message alone."""
    if isinstance(error, KeyError) and error.args == ("get_config",):
        return f"--config={path} has no function get_config; define one"
    # str() of a KeyError is the repr of its message.
    words = error.args[0] if isinstance(error, KeyError) else error
    text = " ".join(str(words).split())
    if len(text) > _NUM_CHARS_MAX:
        text = f"...{text[-_NUM_CHARS_MAX:]}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f"{path}, line {lines[-1]}" if lines else path
    return f"--config={where}: {type(error).__name__}: {text}; correct it"


def _with_tuples(mapping: Any) -> ml_collections.ConfigDict:
    """Returns a config of the same values, whose lists are tuples."""
    config = ml_collections.ConfigDict()
    for key, value in mapping.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            value = _with_tuples(value)
        elif isinstance(value, list):
            value = tuple(value)
        config[key] = value
    return config
