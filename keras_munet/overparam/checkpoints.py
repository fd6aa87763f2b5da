"""The state of a training on the disk.

Invariant: the file is the whole state after some number of steps, the old one
or the new one, whenever the process is killed; the state of another network
or of other settings is refused, never mixed in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.store import files as files_lib
from keras_munet.store import storage
from keras_munet.store import tensors

NAME = "training.safetensors"
_LOCK = "training.lock"
_NUM_BYTES_MAX = 64 * 2**30
_FORMAT = "overparam training 1"


class Keeper:
    """Saves and restores the state of one training; a context manager.

    Within the context no other process can train in the same place.
    """

    def __init__(
        self,
        directory: files_lib.Location,
        settings: Mapping[str, Any] | None = None,
    ):
        """Takes the place and the settings that belong to the state.

        Raises:
          UsageError: the settings are not plain values.
        """
        self._files = files_lib.open_storage(directory)
        try:
            self._settings = canonical_json.dumps(dict(settings or {}))
        except (TypeError, ValueError) as error:
            raise errors.UsageError(
                f"the settings of a training cannot be kept ({error}); give "
                "plain values"
            ) from error
        self._lock: storage.Lock | None = None

    @property
    def where(self) -> str:
        """The place, for messages."""
        return self._files.where

    def __enter__(self) -> Keeper:
        self._lock = self._files.lock(_LOCK, f"training, process {os.getpid()}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def save(
        self, variables: Mapping[str, keras.Variable], num_steps_done: int
    ) -> None:
        """Puts the state in the place of the one before, in one step.

        Raises:
          DataError: a value is not finite; the one before is kept.
        """
        arrays, dtypes = {}, {}
        for name, variable in variables.items():
            value = keras.ops.convert_to_numpy(variable.value)
            # A loss can stay finite where a batch's statistics do not.
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise errors.DataError(
                    f"after {num_steps_done} steps {variable.path} is not "
                    "finite; look at the images and labels, or use a smaller "
                    "learning rate"
                )
            dtypes[name] = str(variable.dtype)
            arrays[name] = _as_kept(value)
        metadata = {
            "format": _FORMAT,
            "num_steps_done": str(num_steps_done),
            "settings": self._settings,
            "dtypes": canonical_json.dumps(dtypes),
        }
        self._files.write_atomic(NAME, tensors.to_bytes(arrays, metadata))

    def restore(
        self, variables: Mapping[str, keras.Variable], num_steps_done: int
    ) -> int:
        """Assigns the kept state, if there is one.

        Args:
          variables: name -> what is assigned.
          num_steps_done: what is returned where nothing is kept.

        Returns:
          The number of steps of the state.

        Raises:
          UsageError: the state is that of other settings or another network.
          StoreError: the file is damaged.
        """
        if not self._files.exists(NAME):
            return num_steps_done
        where = f"{self._files.where}/{NAME}"
        try:
            arrays, metadata = tensors.from_bytes(
                self._files.read(NAME, _NUM_BYTES_MAX)
            )
            if metadata["format"] != _FORMAT:
                raise ValueError(f"its format is {metadata['format']!a}")
            num_steps = int(metadata["num_steps_done"])
            settings = metadata["settings"]
            dtypes = metadata["dtypes"]
        except (KeyError, ValueError) as error:
            raise errors.StoreError(
                f"{where} is no state of a training ({error}); delete it to "
                "start anew, or restore a copy"
            ) from error
        if settings != self._settings:
            raise errors.UsageError(
                f"{where} was made with settings {settings}, not "
                f"{self._settings}; use another folder, or the same settings"
            )
        self._check(where, variables, arrays, dtypes)
        for name, variable in variables.items():
            shape = tuple(variable.shape)
            variable.assign(_as_used(arrays[name], str(variable.dtype), shape))
        return num_steps

    def _check(
        self,
        where: str,
        variables: Mapping[str, keras.Variable],
        arrays: Mapping[str, np.ndarray],
        dtypes: str,
    ) -> None:
        expected = {
            name: _as_kept(np.zeros(tuple(v.shape), _numpy_dtype(str(v.dtype))))
            for name, v in variables.items()
        }
        own = canonical_json.dumps(
            {n: str(v.dtype) for n, v in variables.items()}
        )
        fits = set(expected) == set(arrays) and own == dtypes
        if not fits or any(
            expected[name].shape != arrays[name].shape for name in expected
        ):
            raise errors.UsageError(
                f"{where} holds the state of another network or optimizer; "
                "use another folder, or the same network"
            )


def _as_kept(value: np.ndarray) -> np.ndarray:
    """Returns a value as the store's files hold it: floats, or 16-bit words.

    Anything but float32 is kept bit by bit, with one axis more.
    """
    if value.dtype == np.float32:
        return value
    if value.dtype.itemsize == 1:
        value = value.astype(np.uint16)
    flat = np.ascontiguousarray(value).reshape(*value.shape, 1)
    return flat.view(np.uint16)


def _as_used(
    array: np.ndarray, dtype: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns what `_as_kept` was given."""
    target = _numpy_dtype(dtype)
    if target == np.float32:
        return np.array(array)
    if target.itemsize == 1:
        return array.astype(target).reshape(shape)
    return np.ascontiguousarray(array).view(target).reshape(shape)


def _numpy_dtype(dtype: str) -> np.dtype:
    return np.dtype(
        keras.ops.convert_to_numpy(keras.ops.zeros((), dtype)).dtype
    )
