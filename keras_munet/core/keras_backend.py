"""Refuses Keras backends other than TensorFlow before Keras is imported.

Each package that imports Keras calls `require_tensorflow` first; reading
systems and reports needs no Keras and is not refused.
"""

from __future__ import annotations

import json
import os
import sys

from keras_munet import errors

_TENSORFLOW = "tensorflow"


def require_tensorflow() -> None:
    """Verifies that Keras runs, or would run, on TensorFlow.

    Raises:
      UsageError: another backend is chosen.
    """
    backend, chosen_by = _chosen()
    if backend != _TENSORFLOW:
        raise errors.UsageError(
            f"Keras's backend is {backend!a}, chosen by {chosen_by}; "
            "keras_munet needs tensorflow: set KERAS_BACKEND=tensorflow "
            "before Keras is imported"
        )


def _chosen() -> tuple[str, str]:
    """Returns the backend and what chose it, as Keras finds them."""
    config = getattr(sys.modules.get("keras"), "config", None)
    if config is not None:
        return config.backend(), "the program that imported Keras"
    backend = os.environ.get("KERAS_BACKEND")
    if backend:
        return backend, "KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    path = os.path.join(home, "keras.json")
    try:
        with open(path, encoding="utf-8") as file:
            backend = json.load(file).get("backend", _TENSORFLOW)
    except (OSError, ValueError, AttributeError):
        # Keras goes on without the file, too.
        return _TENSORFLOW, "default"
    return str(backend), path
