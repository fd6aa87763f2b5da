"""The bytes of a safetensors file, written in one pinned order.

Invariant: equal tensors and metadata give equal bytes, whichever library
version writes them: tensors by dtype and then name, a canonical JSON header
padded to 8 bytes, no gaps. Any safetensors reader opens what is written here.
A header is believed only after every offset, shape and dtype fits the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet.core import canonical_json
from keras_munet.core import json_fields

# Little-endian dtypes by their safetensors names, in the order written.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U16": np.dtype("<u2"),
}
HEADER_NUM_BYTES_MAX = 16 << 20
NUM_LENGTH_BYTES = 8
_ALIGNMENT_NUM_BYTES = 8
_METADATA = "__metadata__"


def to_bytes(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> bytes:
    """Returns the file that holds `tensors` and `metadata`.

    Args:
      tensors: name -> float32 or uint16 array.
      metadata: free text by key.

    Raises:
      ValueError: a dtype that the store does not keep.
    """
    order = list(DTYPES.values())
    arrays = []
    for name, array in tensors.items():
        dtype = array.dtype.newbyteorder("<")
        if dtype not in order:
            raise ValueError(f"{name} is {array.dtype}, not float32 or uint16")
        arrays.append((order.index(dtype), name, array))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    pieces: list[Any] = []
    begin = 0
    for code, name, array in sorted(arrays, key=lambda item: item[:2]):
        dtype_name, dtype = list(DTYPES.items())[code]
        end = begin + array.nbytes
        header[name] = {
            "dtype": dtype_name,
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        pieces.append(np.ascontiguousarray(array, dtype))
        begin = end
    text = canonical_json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT_NUM_BYTES)
    length = len(text).to_bytes(NUM_LENGTH_BYTES, "little")
    return b"".join([length, text, *pieces])


def header_num_bytes(head: bytes) -> int:
    """Returns how many bytes length and header take, from the first 8 bytes.

    Raises:
      ValueError: they cannot be those of a safetensors file.
    """
    if len(head) < NUM_LENGTH_BYTES:
        raise ValueError(f"it has only {len(head)} bytes")
    num_bytes = int.from_bytes(head[:NUM_LENGTH_BYTES], "little")
    if num_bytes > HEADER_NUM_BYTES_MAX:
        raise ValueError(
            f"its header would have {num_bytes} bytes, more than the "
            f"{HEADER_NUM_BYTES_MAX} allowed"
        )
    return NUM_LENGTH_BYTES + num_bytes


def header(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the tensors' entries and the metadata of a file's beginning.

    Args:
      data: the whole file, or at least its length and header.

    Raises:
      ValueError: the header is incomplete or no safetensors header.
    """
    end = header_num_bytes(data)
    if len(data) < end:
        raise ValueError(f"its header ends at {end}, its data at {len(data)}")
    try:
        entries = json.loads(data[NUM_LENGTH_BYTES:end].decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(entries, dict):
        raise ValueError("its header is no JSON object")
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ValueError("its metadata are not text by key")
    return entries, metadata


def from_bytes(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns (name -> array, metadata) of a file.

    The arrays are read-only views of `data`: nothing is allocated.

    Raises:
      ValueError: the header does not fit the data.
    """
    entries, metadata = header(data)
    start = header_num_bytes(data)
    num_bytes = len(data) - start
    tensors = {}
    extents = []
    for name, entry in entries.items():
        dtype, shape, begin, end = _entry(name, entry)
        num_bytes_needed = math.prod(shape) * dtype.itemsize
        if not 0 <= begin <= end <= num_bytes:
            raise ValueError(
                f"{name!a} lies at {begin}..{end} of {num_bytes} bytes"
            )
        if end - begin != num_bytes_needed:
            raise ValueError(
                f"{name!a} has {end - begin} bytes; its shape {shape} needs "
                f"{num_bytes_needed}"
            )
        tensors[name] = _view(data, dtype, shape, start + begin)
        extents.append((begin, end))
    expected = 0
    for begin, end in sorted(extents):
        if begin != expected:
            raise ValueError(f"its tensors overlap or leave a gap at {begin}")
        expected = end
    if expected != num_bytes:
        raise ValueError(f"{num_bytes - expected} bytes belong to no tensor")
    return tensors, metadata


def _entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Returns (dtype, shape, begin, end) of one tensor's header entry."""
    if not isinstance(entry, dict) or set(entry) != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise ValueError(f"{name!a} is not described as a tensor")
    dtype = DTYPES.get(entry["dtype"]) if _is_text(entry["dtype"]) else None
    if dtype is None:
        raise ValueError(
            f"{name!a} is {entry['dtype']!a}; there are only "
            f"{' and '.join(DTYPES)}"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!a} has no valid shape and offsets")
    if len(shape) > 32:
        raise ValueError(
            f"{name!a} has {len(shape)} dimensions, not at most 32"
        )
    return dtype, tuple(shape), offsets[0], offsets[1]


def _view(
    data: bytes, dtype: np.dtype, shape: tuple[int, ...], begin: int
) -> np.ndarray:
    count = math.prod(shape)
    array = np.frombuffer(data, dtype, count, begin) if count else None
    if array is None:
        array = np.empty(0, dtype)
        array.setflags(write=False)
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no array has the shape {shape}") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(map(json_fields.is_count, values))
