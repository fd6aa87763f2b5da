"""A component as bytes, and back.

Invariant: the bytes are a function of the component alone, on every machine
and in every process; and what is decoded fits its spec, tensor by tensor.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.core import json_fields
from keras_munet.core import specs
from keras_munet.store import tensors

FORMAT_VERSION = 1
OBJECTS_DIR = "objects"
_SPEC_KEY = "spec"
_WEIGHTS = "weights/"
_MOMENTUM = "momentum/"
_ID = re.compile(r"[0-9a-f]{64}")


def object_id(data: bytes) -> str:
    """Returns the SHA-256 of an object's bytes, 64 hex characters."""
    return hashlib.sha256(data).hexdigest()


def encode(component: specs.Component) -> bytes:
    """Returns the bytes of a component: a safetensors file.

    Raises:
      StoreError: the values do not fit the spec.
    """
    spec = component.spec
    arrays = {_WEIGHTS + n: v for n, v in component.weights.items()}
    if component.momentum is not None:
        arrays |= {_MOMENTUM + n: v for n, v in component.momentum.items()}
    has_momentum = component.momentum is not None
    _check_arrays(spec, arrays, has_momentum, f"component {spec.name!a}")
    try:
        text = canonical_json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "has_momentum": has_momentum,
                "spec": spec.to_json(),
            }
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.StoreError(
            f"component {spec.name!a} cannot be stored: its config is not "
            f"plain JSON ({error}); keep arrays in its weights"
        ) from error
    return tensors.to_bytes(arrays, {_SPEC_KEY: text})


def decode(data: bytes, object_id: str | None = None) -> specs.Component:
    """Returns the component that `encode` wrote.

    Args:
      data: the object's bytes.
      object_id: its name, if the SHA-256 is to be verified.

    Returns:
      A component whose arrays are read-only views of `data`.

    Raises:
      StoreError: the bytes are not those of `object_id`, or are not a
        component whose tensors fit its spec.
    """
    label = f"object {object_id}" if object_id else "an object without a name"
    if object_id is not None:
        _check_hash(data, object_id)
    try:
        arrays, metadata = tensors.from_bytes(data)
        spec, has_momentum = _spec(metadata)
    except ValueError as error:
        raise not_a_component(label, error) from error
    _check_arrays(spec, arrays, has_momentum, label)
    momentum = None
    if has_momentum:
        momentum = {n: arrays[_MOMENTUM + n] for n, _ in spec.weights}
    weights = {n: arrays[_WEIGHTS + n] for n, _ in spec.weights}
    return specs.Component(spec, weights, momentum)


def file_name(object_id: str) -> str:
    """Returns where an object lies, relative to the system.

    Raises:
      StoreError: it is no object id.
    """
    if not isinstance(object_id, str) or not _ID.fullmatch(object_id):
        raise errors.StoreError(
            f"{object_id!a} is no object id; ids are 64 characters of 0-9a-f"
        )
    return f"{OBJECTS_DIR}/{object_id[:2]}/{object_id}.safetensors"


def id_of_file(name: str) -> str | None:
    """Returns the id of the object that a file name stands for, or None."""
    object_id = name.rpartition("/")[2].removesuffix(".safetensors")
    if _ID.fullmatch(object_id) and name == file_name(object_id):
        return object_id
    return None


def spec_of(head: bytes, object_id: str) -> specs.ComponentSpec:
    """Returns what an object is, from its header alone.

    Args:
      head: at least the length and the header of the object.
      object_id: its name, for the message.

    Raises:
      StoreError: the header is not that of a component.
    """
    try:
        return _spec(tensors.header(head)[1])[0]
    except ValueError as error:
        raise not_a_component(f"object {object_id}", error) from error


def not_a_component(label: str, error: Exception) -> errors.StoreError:
    """Returns the error for bytes that are no component."""
    return errors.StoreError(
        f"{label} is not a component that this program can read: "
        f"{' '.join(str(error).split())}; restore it from a copy of the system"
    )


def _check_hash(data: bytes, expected_id: str) -> None:
    name = file_name(expected_id)
    actual_id = object_id(data)
    if actual_id != expected_id:
        raise errors.StoreError(
            f"{name} is damaged: its SHA-256 is {actual_id}, its name says "
            f"{expected_id}; restore it from a copy of the system"
        )


def _spec(metadata: Mapping[str, str]) -> tuple[specs.ComponentSpec, bool]:
    """Returns (spec, has_momentum); ValueError if that is not what it is."""
    if set(metadata) != {_SPEC_KEY}:
        raise ValueError(
            f"its metadata keys are {sorted(metadata)!a}, not [{_SPEC_KEY!r}]"
        )
    try:
        body = json.loads(metadata[_SPEC_KEY])
        version = body["format_version"]
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise ValueError(
                f"it has format_version {version!a}, this program reads 1 to "
                f"{FORMAT_VERSION}"
            )
        spec = specs.ComponentSpec.from_json(body["spec"])
        has_momentum = body["has_momentum"]
        same = body["spec"] == spec.to_json() and isinstance(has_momentum, bool)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its spec cannot be read") from error
    if not same or not _is_sound(spec):
        raise ValueError("its spec has unexpected parts")
    return spec, has_momentum


def _is_sound(spec: specs.ComponentSpec) -> bool:
    return (
        isinstance(spec.name, str)
        and isinstance(spec.layer, str)
        and all(
            isinstance(name, str) and all(map(json_fields.is_count, shape))
            for name, shape in spec.weights
        )
    )


def _check_arrays(
    spec: specs.ComponentSpec,
    arrays: Mapping[str, Any],
    has_momentum: bool,
    label: str,
) -> None:
    """Verifies names, shapes and dtypes of all tensors against the spec."""
    expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        _WEIGHTS + n: (s, np.float32) for n, s in spec.weights
    }
    if has_momentum:
        expected |= {_MOMENTUM + n: (s, np.uint16) for n, s in spec.weights}
    num_names = len({name for name, _ in spec.weights})
    if num_names != len(spec.weights):
        raise errors.StoreError(
            f"{label} has a spec that names a weight twice; give each weight "
            "a name of its own"
        )
    if set(expected) != set(arrays):
        raise errors.StoreError(
            f"{label} does not fit its spec: it lacks "
            f"{sorted(set(expected) - set(arrays))!a} and has the unexpected "
            f"{sorted(set(arrays) - set(expected))!a}; make them agree"
        )
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray):
            actual = type(array).__name__
        elif array.shape == shape and array.dtype == dtype:
            continue
        else:
            actual = f"{array.dtype} {array.shape}"
        raise errors.StoreError(
            f"{label} does not fit its spec: {name!a} is {actual}, the spec "
            f"says {np.dtype(dtype)} {shape}; make them agree"
        )
