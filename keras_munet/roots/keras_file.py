"""A root from a `.keras` file that is not trusted.

Invariant: nothing in the file is run, and no memory is taken for weights
before the file's size and the shapes that its config tells of agree.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from concurrent import futures
from typing import Any

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import npz_reader
from keras_munet.roots import keras_source
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib

_SUFFIX = ".keras"
_CONFIG = "config.json"
_NUM_CONFIG_BYTES_MAX = 64 * 2**20


def from_file(path: str | os.PathLike[str], **options: Any) -> root_lib.Root:
    """Returns the root of a `.keras` file.

    Args:
      path: the file. Lambda layers and other formats, which Keras would run
        code for, are refused.
      **options: as of `keras_source.from_keras`; `pixel_range` of [-1, 1]
        here stands for none.

    Raises:
      CheckpointError: it is no readable `.keras` file.
      UsageError: as `from_keras`.
    """
    import keras

    name = os.fspath(path)
    # A damaged archive fails in many ways.
    try:
        _check(name)
        model = keras.saving.load_model(name, compile=False, safe_mode=True)
    except errors.CheckpointError:
        raise
    except Exception as e:
        lines = str(e).splitlines() or [type(e).__name__]
        raise errors.CheckpointError(
            f"{name} cannot be loaded ({lines[0][:160]}); save the "
            "model anew as .keras, without Lambda layers"
        ) from e
    own = keras_source.OWN_RANGE
    if tuple(options.get("pixel_range") or own) == own:
        options["pixel_range"] = None
    return keras_source.from_keras(model, **options)


def _check(name: str) -> None:
    """Raises where the file is none, or would take too much memory."""
    # By another suffix Keras takes the file for HDF5.
    if not os.path.isfile(name) or not name.endswith(_SUFFIX):
        raise errors.CheckpointError(
            f"{name} is no file that ends in {_SUFFIX}; give a .keras file"
        )
    with zipfile.ZipFile(name) as opened:
        num_bytes = sum(member.file_size for member in opened.infolist())
        config_bytes = opened.getinfo(_CONFIG).file_size
        if num_bytes > npz_reader.NUM_BYTES_MAX or (
            config_bytes > _NUM_CONFIG_BYTES_MAX
        ):
            raise errors.CheckpointError(
                f"{name} unpacks to {num_bytes} bytes, {config_bytes} of them "
                f"its config; allowed are {npz_reader.NUM_BYTES_MAX} and "
                f"{_NUM_CONFIG_BYTES_MAX}, so save the model anew"
            )
        config = json.loads(opened.read(_CONFIG))
    # Keras remembers variables without values for the thread that made them,
    # to make them later.
    with futures.ThreadPoolExecutor(max_workers=1) as pool:
        num_values = pool.submit(_num_values, config).result()
    # A stored value takes a byte at least.
    if num_values > num_bytes:
        raise errors.CheckpointError(
            f"{name} tells of {num_values} values and has {num_bytes} bytes; "
            "save the model anew"
        )


def _num_values(config: dict[str, Any]) -> int:
    """Returns how many values the variables of a model have, making none."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        return sum(math.prod(v.shape) for v in model.variables)


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_file(
        settings.path,
        blocks=settings.blocks or None,
        features=settings.features or None,
        pixel_range=(settings.pixel_min, settings.pixel_max),
        **sizes,
    )


SOURCE = source_lib.RootSource(
    build=_build,
    path_help="a .keras file of a functional or Sequential model",
)
