"""JSON files that tell whether they are what was written.

Invariant: a value has exactly one sealed form, byte for byte, and that form
holds the SHA-256 of the value. So any changed byte is found: either the text
is no longer the one form of what it says, or the digest does not fit.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from keras_munet import errors
from keras_munet.core import canonical_json

NUM_BYTES_MAX = 64 << 20
_HEAD = '{"body":'
# After the body: `,"sha256":"HEX"}` and a line feed.
_NUM_TAIL_CHARS = 78


class DamagedError(errors.StoreError):
    """The bytes of a sealed file are not those that were written."""


def seal(body: dict[str, Any], name: str) -> bytes:
    """Returns the bytes of a file that holds `body`.

    Args:
      body: plain JSON values.
      name: of the file, for the message.

    Raises:
      StoreError: `body` holds what JSON cannot, e.g. NaN.
    """
    try:
        text = canonical_json.dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.StoreError(
            f"{name} cannot be written: {_one_line(error)}; it may hold only "
            "text, finite numbers, true, false, null, lists and objects"
        ) from error
    data = _sealed(text)
    if len(data) > NUM_BYTES_MAX:
        raise errors.StoreError(
            f"{name} would have {len(data)} bytes; at most {NUM_BYTES_MAX} "
            "are allowed: keep arrays in components, not in records"
        )
    return data


def unseal(data: bytes, name: str, *, version_max: int) -> dict[str, Any]:
    """Returns the body that `seal` wrote.

    Args:
      data: the file's bytes.
      name: of the file, for the message.
      version_max: the newest `format_version` that can be read.

    Raises:
      DamagedError: a byte has changed.
      StoreError: the version is newer.
    """
    try:
        body = json.loads(data.decode("ascii"))["body"]
        intact = isinstance(body, dict) and _sealed(
            canonical_json.dumps(body)
        ) == (data)
    except (ValueError, TypeError, KeyError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{name} is damaged: its text and its SHA-256 do not fit; restore "
            "it from a copy of the system"
        )
    version = body.get("format_version")
    if type(version) is not int or not 1 <= version <= version_max:
        raise errors.StoreError(
            f"{name} has format_version {version!a}; this program reads "
            f"1 to {version_max}: use a newer keras_munet"
        )
    return body


def unsealed_text(data: bytes) -> str | None:
    """Returns the text of a body whose digest fits; None if there is none.

    It need not be the one form of what it says.
    """
    try:
        text = data[len(_HEAD) : -_NUM_TAIL_CHARS].decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if _sealed(text) == data else None


def _sealed(text: str) -> bytes:
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    return f'{_HEAD}{text},"sha256":"{digest}"}}\n'.encode("ascii")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
