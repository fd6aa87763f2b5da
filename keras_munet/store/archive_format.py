"""An archive's bytes: a tar file of which every byte is determined.

Invariant: a member is given out only if its header is, byte for byte, the one
that is written here for its name and size, and after its size was bounded. So
there are no links, devices, folders, owners, times or second spellings, and
any reader of tar files opens what is written here.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import event_log
from keras_munet.store import layout
from keras_munet.store import objects

FORMAT_VERSION = 1
# Says the format version of the archive.
ARCHIVE_FILE = "archive.json"
METRICS_FILE = event_log.METRICS_FILE
METRICS_NUM_BYTES_MAX = 1 << 30
_BLOCK_NUM_BYTES = tarfile.BLOCKSIZE
# The longest name in a header; a longer one has a block of its own in front.
_NUM_NAME_CHARS = 100
# A tar file ends with two blocks of zeros.
END = bytes(2 * _BLOCK_NUM_BYTES)


def write_member(file: BinaryIO, name: str, data: bytes) -> None:
    """Appends a file to an archive."""
    file.write(_header(name, len(data)))
    file.write(data)
    file.write(bytes(-len(data) % _BLOCK_NUM_BYTES))


def read_members(file: BinaryIO, path: str) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of every file, in the order of their names.

    Args:
      file: the archive, at its beginning.
      path: its name for messages.

    Raises:
      StoreError: it is damaged, or holds what no archive of a system holds.
    """
    num_bytes = os.fstat(file.fileno()).st_size
    last = ""
    while True:
        header = file.read(_BLOCK_NUM_BYTES)
        if header == END[:_BLOCK_NUM_BYTES]:
            if header + file.read(_BLOCK_NUM_BYTES + 1) != END:
                raise archive_error(
                    path, "it goes on after its end, or is cut off"
                )
            return
        info = _parsed(header, path)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            # The name in a block of its own, then the real header.
            header += file.read(2 * _BLOCK_NUM_BYTES)
            info = _parsed(header[-_BLOCK_NUM_BYTES:], path)
            start = header[_BLOCK_NUM_BYTES : 2 * _BLOCK_NUM_BYTES]
            name = start.rstrip(b"\0").decode("latin-1")
        else:
            name = info.name
        num_bytes_max = num_bytes_allowed(name)
        if num_bytes_max is None:
            raise archive_error(path, f"{name!a} is no file of a system")
        num_bytes_left = num_bytes - file.tell()
        if not 0 <= info.size <= min(num_bytes_max, num_bytes_left):
            raise archive_error(path, f"{name!a} cannot have {info.size} bytes")
        if header != _header(name, info.size):
            raise archive_error(path, f"the header of {name!a} is another")
        if name <= last:
            raise archive_error(path, f"{name!a} does not come after {last!a}")
        last = name
        data = file.read(info.size)
        padding = -info.size % _BLOCK_NUM_BYTES
        if file.read(padding) != bytes(padding):
            raise archive_error(path, f"it is damaged behind {name!a}")
        yield name, data


def num_bytes_allowed(name: str) -> int | None:
    """Returns how large a file of this name may be; None if none may."""
    if name in (layout.SYSTEM_FILE, ARCHIVE_FILE):
        return checksummed_json.NUM_BYTES_MAX
    if layout.is_record_file(name, layout.TASKS_DIR):
        return checksummed_json.NUM_BYTES_MAX
    if name == METRICS_FILE:
        return METRICS_NUM_BYTES_MAX
    if codec.id_of_file(name) is not None:
        return objects.OBJECT_NUM_BYTES_MAX
    return None


def archive_error(path: str, reason: str) -> errors.StoreError:
    """Returns the error for an archive that cannot be imported."""
    return errors.StoreError(
        f"{path} cannot be imported: {reason}; give a whole file that "
        "export-archive wrote"
    )


def _header(name: str, num_bytes: int) -> bytes:
    # Nothing of this machine: no owner, no time.
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    info.mode = 0o644
    if len(name) > _NUM_NAME_CHARS:
        return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _parsed(header: bytes, path: str) -> tarfile.TarInfo:
    try:
        # Reads one block and follows nothing that it says.
        return tarfile.TarInfo.frombuf(header, "latin-1", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise archive_error(path, "it is no tar file, or damaged") from error
