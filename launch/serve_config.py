"""Writes the files that TensorFlow Serving is started with.

    python launch/serve_config.py --models=NAME=FOLDER,... --out=DIR
        [--num_versions=2] [--batch_size_max=64] [--wait_micros_max=2000]

FOLDER holds the versions 1, 2, ... as the server sees them, e.g. in its
container. See docs/serving.md for the command that uses the files.
"""

from __future__ import annotations

import os

import launching
from absl import flags

from keras_munet import errors
from keras_munet.export import serving

_MODELS = flags.DEFINE_list(
    "models", None, "NAME=FOLDER of each model.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Where to write.", required=True)
_NUM_VERSIONS = flags.DEFINE_integer("num_versions", 2, "Versions served.")
_BATCH_SIZE_MAX = flags.DEFINE_integer(
    "batch_size_max", 64, "Images in a batch that joins requests."
)
_WAIT_MICROS_MAX = flags.DEFINE_integer(
    "wait_micros_max", 2000, "Microseconds to wait for other requests."
)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", os.cpu_count() or 1, "Batches computed at the same time."
)


def main() -> None:
    """Writes both files and says where."""
    base_paths = {}
    for text in _MODELS.value:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise errors.UsageError(
                f"--models={text}: write each as NAME=FOLDER"
            )
        if name in base_paths:
            raise errors.UsageError(
                f"--models names {name!r} twice; give each model a name of "
                "its own"
            )
        base_paths[name] = os.path.expanduser(folder)
    written = {
        serving.MODELS_FILE: serving.models_config(
            base_paths, _NUM_VERSIONS.value
        ),
        serving.BATCHING_FILE: serving.batching_config(
            _BATCH_SIZE_MAX.value, _WAIT_MICROS_MAX.value, _NUM_THREADS.value
        ),
    }
    try:
        os.makedirs(_OUT.value, exist_ok=True)
    except OSError as error:
        raise errors.StoreError(
            f"cannot make {_OUT.value}: {error.strerror}; choose another --out"
        ) from error
    for name, text in written.items():
        path = os.path.join(_OUT.value, name)
        launching.write_file(path, text)
        print(path)


if __name__ == "__main__":
    launching.run(main)
