"""The files that TensorFlow Serving is started with.

Invariant: they are text protocol buffers of TensorFlow Serving's own
messages: `ModelServerConfig` and `BatchingParameters`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from keras_munet import errors

MODELS_FILE = "models.config"
BATCHING_FILE = "batching.config"
# TensorFlow Serving refuses a relative path.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def models_config(base_paths: Mapping[str, str], num_versions: int = 2) -> str:
    """Returns a `ModelServerConfig`.

    Args:
      base_paths: model name -> the folder of its versions, as the server
        sees it.
      num_versions: the newest so many versions are served; with 2, the one
        before stays up while clients move.

    Raises:
      UsageError: a name or number cannot be.
    """
    if num_versions < 1:
        raise errors.UsageError(
            f"num_versions={num_versions}: serve at least 1 version"
        )
    entries = []
    for name, base_path in base_paths.items():
        check_name(name)
        if not (base_path.startswith("/") or _SCHEME.match(base_path)):
            raise errors.UsageError(
                f"{base_path!r} is no place of {name}'s versions that a server "
                "would take; give a path from / on, as the server sees it, or "
                "one as gs://BUCKET/FOLDER"
            )
        entries.append(
            "  config {\n"
            f"    name: {_quoted(name)}\n"
            f"    base_path: {_quoted(base_path)}\n"
            '    model_platform: "tensorflow"\n'
            "    model_version_policy {\n"
            f"      latest {{ num_versions: {num_versions} }}\n"
            "    }\n"
            "  }\n"
        )
    return "model_config_list {\n" + "".join(entries) + "}\n"


def check_name(model_name: str) -> None:
    """Refuses what cannot name a served model.

    Raises:
      UsageError: it has other characters than a request's address may have.
    """
    if not _MODEL_NAME.fullmatch(model_name):
        raise errors.UsageError(
            f"{model_name!r} cannot name a served model; use letters, digits "
            "and . _ -"
        )


def batching_config(
    batch_size_max: int = 64, wait_micros_max: int = 2000, num_threads: int = 2
) -> str:
    """Returns `BatchingParameters`.

    Requests are joined along the first axis, so those of `images` only where
    their images have one size; those of `predict_bytes` always.

    Args:
      batch_size_max: images in a joined batch.
      wait_micros_max: microseconds that the first request waits for others.
      num_threads: batches computed at the same time; the number of cores.

    Raises:
      UsageError: a number cannot be.
    """
    values = {
        "max_batch_size": batch_size_max,
        "batch_timeout_micros": wait_micros_max,
        "num_batch_threads": num_threads,
        # A full queue answers "unavailable" instead of growing.
        "max_enqueued_batches": 100,
    }
    for key, value in values.items():
        if value < (0 if key == "batch_timeout_micros" else 1):
            raise errors.UsageError(f"{key}={value}: give a positive number")
    return "".join(f"{k} {{ value: {v} }}\n" for k, v in values.items())


def _quoted(text: str) -> str:
    # JSON's escapes are among those of text protocol buffers.
    return json.dumps(text, ensure_ascii=False)
