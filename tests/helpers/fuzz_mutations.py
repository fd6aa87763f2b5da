"""Bytes, JSON values and tar files that are nearly right, drawn from a seed."""

from __future__ import annotations

import io
import json
import random
import tarfile
from typing import Any

# What tends to be forgotten.
NASTY_TEXTS = (
    "",
    ".",
    "..",
    "../../escaped",
    "/tmp/escaped",
    "a/../../escaped",
    "objects/../../escaped",
    "C:\\escaped",
    "CON",
    "private:x",
    "NOT_TRAINABLE",
    "a\0b",
    "a\nb",
    "\x1b[31mred",
    "\u202egnp.exe",
    "e\u0301",
    "\ud800",
    "\uff0e\uff0e/escaped",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{0.__class__}",
    "%s%n",
    "__import__('os').system('touch escaped')",
    "x" * 5_000,
    "0" * 24,
    "f" * 64,
)
_NUMBERS = (
    0,
    -1,
    1,
    2,
    2**31,
    2**63,
    -(2**64),
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def nasty(rng: random.Random) -> Any:
    """Returns a JSON value that few expect."""
    others = [
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"": None},
        [None] * 300,
        _nested(rng.choice([10, 200, 400, 900])),
        {"__class__": "Lambda", "module": "os", "config": {"code": "x"}},
    ]
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NASTY_TEXTS)
    if kind < 0.65:
        return rng.choice(_NUMBERS)
    return rng.choice(others)


def bytes_like(data: bytes, rng: random.Random) -> bytes:
    """Returns `data` with one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(changed))
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[at % len(changed)] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.choice([1, 2, 8, 64, 10_000])]
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64, 2_000]))
        elif kind == 3:
            size = rng.choice([1, 8, 64, 512])
            changed[at:at] = changed[at : at + size] * rng.choice([1, 2, 50])
        elif kind == 4:
            text = str(nasty(rng)).encode("utf-8", "surrogatepass")
            changed[at : at + len(text)] = text
        else:
            size = rng.choice([4, 8])
            changed[at : at + size] = rng.choice([0, 255]).to_bytes() * size
    return bytes(changed)


def json_like(value: Any, rng: random.Random) -> Any:
    """Returns a JSON value with one to three changes at any depth."""
    changed = _copied(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        holders = list(_holders(changed))
        if not holders:
            return nasty(rng)
        holder, key = rng.choice(holders)
        kind = rng.randrange(7)
        if kind <= 2:
            holder[key] = nasty(rng)
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            other, other_key = rng.choice(holders)
            # Of a key that was removed with its holder, nothing is left.
            holder[key] = _copied(other[other_key])
        elif kind == 5 and isinstance(holder, dict):
            text = rng.choice(NASTY_TEXTS)
            holder[text] = holder.pop(key) if rng.random() < 0.5 else 1
        else:
            holder[key] = _near(holder[key], rng)
    return changed


def _copied(value: Any) -> Any:
    # Deeper than `copy.deepcopy` can.
    return json.loads(json.dumps(value))


def _near(value: Any, rng: random.Random) -> Any:
    """Returns a value of the same kind."""
    if isinstance(value, bool) or value is None:
        return rng.choice([True, False, None, 0, 1])
    if isinstance(value, int | float):
        return rng.choice(
            [
                value + 1,
                -value,
                value * 1_000_003,
                value * 1.0 if abs(value) < 2**53 else 0.5,
            ]
        )
    if isinstance(value, str):
        at = rng.randint(0, len(value))
        return (
            value[:at] + rng.choice(["x", "/", "~", "\0", ""]) + value[at + 1 :]
        )
    if isinstance(value, list):
        return rng.choice([value[::-1], value * 2, value[:-1], value[1:]])
    return [[key, inner] for key, inner in value.items()]


def _holders(value: Any):
    """Yields every (list or dict, key) below `value`."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            keys: Any = list(part)
        elif isinstance(part, list):
            keys = range(len(part))
        else:
            continue
        for key in keys:
            yield part, key
            waiting.append(part[key])


_TYPES = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_SPARSE,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.CONTTYPE,
    tarfile.AREGTYPE,
)


def tar_like(members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    """Returns a tar file whose checksums hold and whose members are odd."""
    members = list(members)
    odd = rng.randrange(len(members))
    kind = rng.randrange(8)
    if kind == 0:
        rng.shuffle(members)
    elif kind == 1:
        members.append(rng.choice(members))
    elif kind == 2:
        del members[odd]
    elif kind == 3:
        members[odd] = members[odd][0], bytes_like(members[odd][1], rng)
    out = io.BytesIO()
    for number, (name, data) in enumerate(members):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        if number == odd and kind == 4:
            text = rng.choice(NASTY_TEXTS).replace("\0", "")
            info.name = text.encode("utf-8", "replace").decode()
        elif number == odd and kind == 5:
            info.type = rng.choice(_TYPES)
            info.linkname = rng.choice(["../../escaped", "/etc/passwd", name])
        elif number == odd and kind == 6:
            info.size = rng.choice([0, 1, len(data) + 1, 2**33, 2**62])
        elif number == odd:
            info.pax_headers = {"path": "../../escaped", "size": "1"}
            info.mode, info.uid = 0o7777, rng.randrange(2**40)
        form = rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
        out.write(info.tobuf(form, "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
    out.write(bytes(rng.choice([0, 1, 2, 20]) * tarfile.BLOCKSIZE))
    return out.getvalue()
