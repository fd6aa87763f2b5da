"""A system as one file, to move it to another machine.

Invariant: an archive holds what is published and nothing that runs, and equal
systems give equal archives. What comes from one is believed only after its
names, sizes, hashes and references were verified: until then nothing is
written, and nothing is ever written outside the new system.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import archive_format
from keras_munet.store import check
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import creation
from keras_munet.store import event_reader
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import objects
from keras_munet.store import os_errors
from keras_munet.store import storage
from keras_munet.store import system_dir
from keras_munet.store import task_state


def export_archive(
    directory: system_dir.SystemDir, out: str | os.PathLike[str]
) -> int:
    """Writes what is published of a system into a new file.

    Jobs may go on meanwhile; the archive has the tasks as they were when it
    was begun.

    Args:
      directory: of the system.
      out: the file to make; it must not exist.

    Returns:
      Its size, bytes.

    Raises:
      UsageError: there is such a file already.
      StoreError: the system is damaged, or `out` cannot be written.
    """
    files_lib.require_local(out, "an archive")
    path = os.path.abspath(os.fspath(out))
    if os.path.lexists(path):
        raise errors.UsageError(
            f"{os_errors.show(path)} exists already; choose another --archive"
        )
    part = f"{path}.part-{secrets.token_hex(4)}"
    with os_errors.as_store_errors(path, "written"):
        try:
            # No object may go between the records and their objects.
            with open(part, "xb") as file, directory.naming():
                for name, data in _published_files(directory.files):
                    archive_format.write_member(file, name, data)
                file.write(archive_format.END)
                file.flush()
                os.fsync(file.fileno())
                num_bytes = file.tell()
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    return num_bytes


def import_archive(
    archive: str | os.PathLike[str], directory: files_lib.Location
) -> system_dir.SystemDir:
    """Returns the system that an archive holds, in a new place.

    The archive is read twice: verified, then written. A call that was
    interrupted can be made again in the same place.

    Args:
      archive: the file; it need not be trusted.
      directory: an empty or absent folder, or files.

    Raises:
      UsageError: there is no such file, or the place holds something already.
      StoreError: the archive is damaged or holds something else, and nothing
        was written; or the place cannot be written, and all that was is gone.
    """
    files_lib.require_local(archive, "an archive")
    path = os.path.abspath(os.fspath(archive))
    path_text = os_errors.show(path)
    if not os.path.isfile(path):
        raise errors.UsageError(
            f"{path_text} is no file; give one that export-archive wrote"
        )
    files = files_lib.open_storage(directory)
    if files.exists(layout.SYSTEM_FILE):
        creation.check_free(files)
    digests = _verified(path, path_text)
    _check_free(files, digests)
    with creation.creation_lock(files):
        _check_free(files, digests)
        written: list[str] = []
        try:
            system = b""
            for name, data in _members(path, path_text):
                if _digest(data) != digests.get(name):
                    raise archive_format.archive_error(
                        path_text, "it has just been changed"
                    )
                if name == layout.SYSTEM_FILE:
                    system = data
                elif name != archive_format.ARCHIVE_FILE:
                    written.append(name)
                    files.write_atomic(name, data)
            # Last: a folder with it is a whole system.
            written.append(layout.SYSTEM_FILE)
            files.write_atomic(layout.SYSTEM_FILE, system)
        except BaseException:
            for name in reversed(written):
                with contextlib.suppress(errors.StoreError):
                    files.delete(name)
            raise
    return system_dir.SystemDir.open(files)


def _verified(path: str, path_text: str) -> dict[str, bytes]:
    """Returns name -> SHA-256 of the files of an archive without a fault.

    Raises:
      StoreError: it has one.
    """
    digests: dict[str, bytes] = {}
    specs_by_id: dict[str, specs.ComponentSpec | None] = {}
    tasks: dict[str, task_state.TaskState | task_state.RemovedTask] = {}
    system, about = None, None
    for name, data in _members(path, path_text):
        digests[name] = _digest(data)
        object_id = codec.id_of_file(name)
        if name == archive_format.ARCHIVE_FILE:
            about = checksummed_json.unseal(
                data, name, version_max=archive_format.FORMAT_VERSION
            )
        elif name == layout.SYSTEM_FILE:
            system = layout.parse_system(data)
        elif object_id is not None:
            specs_by_id[object_id] = codec.decode(data, object_id).spec
        elif name != archive_format.METRICS_FILE:
            tasks[name] = layout.parse_task(data, name)
    if about is None or system is None:
        raise archive_format.archive_error(
            path_text,
            f"it lacks {archive_format.ARCHIVE_FILE} or {layout.SYSTEM_FILE}",
        )
    if about != _about(digests.get(archive_format.METRICS_FILE)):
        raise archive_format.archive_error(
            path_text,
            f"its {archive_format.METRICS_FILE} is not the one that its "
            f"{archive_format.ARCHIVE_FILE} tells of",
        )
    for problem in check.record_problems(system, tasks, specs_by_id):
        raise archive_format.archive_error(path_text, problem)
    unused = specs_by_id.keys() - _object_ids(system, tasks)
    if unused:
        raise archive_format.archive_error(
            path_text, f"nothing in it uses the object {min(unused)}"
        )
    return digests


def _check_free(files: storage.Storage, digests: Mapping[str, bytes]) -> None:
    """Verifies that a place is free but for what an import left behind.

    Raises:
      UsageError: there is something else.
    """
    for name in files.list():
        num_bytes_max = archive_format.num_bytes_allowed(name)
        if name == layout.LOCK_FILE or codec.id_of_file(name) is not None:
            continue
        if (
            num_bytes_max is None
            or _digest(files.read(name, num_bytes_max)) != digests.get(name)
            or name == layout.SYSTEM_FILE
        ):
            creation.check_free(files)


def _members(path: str, path_text: str) -> Iterator[tuple[str, bytes]]:
    with os_errors.as_store_errors(path, "read"):
        file = open(path, "rb")  # noqa: SIM115
    with file:
        yield from archive_format.read_members(file, path_text)


def _published_files(files: storage.Storage) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of what an archive holds, sorted by name.

    Raises:
      StoreError: a file is missing or damaged.
    """
    records = {
        layout.SYSTEM_FILE: files.read(
            layout.SYSTEM_FILE, checksummed_json.NUM_BYTES_MAX
        )
    }
    tasks = {}
    for name in layout.record_files(files, layout.TASKS_DIR):
        data = files.read(name, checksummed_json.NUM_BYTES_MAX)
        try:
            tasks[name] = layout.parse_task(data, name)
        except layout.MisnamedError as error:
            if not error.is_copy(files):
                raise
        else:
            records[name] = data
    metrics = _merged_events(files)
    if metrics is not None:
        records[archive_format.METRICS_FILE] = metrics
    records[archive_format.ARCHIVE_FILE] = checksummed_json.seal(
        _about(None if metrics is None else _digest(metrics)),
        archive_format.ARCHIVE_FILE,
    )
    system = layout.parse_system(records[layout.SYSTEM_FILE])
    names = {codec.file_name(i): i for i in _object_ids(system, tasks)}
    for name in sorted([*records, *names]):
        if name in records:
            yield name, records[name]
        else:
            data = files.read(name, objects.OBJECT_NUM_BYTES_MAX)
            codec.decode(data, names[name])
            yield name, data


def _merged_events(files: storage.Storage) -> bytes | None:
    """Returns the logs of all jobs as one; None if there is none.

    Raises:
      StoreError: a log cannot be read, or they are larger than is allowed.
    """
    lines, num_bytes = [], 0
    try:
        for line in event_reader.merged_lines(files):
            lines.append(line)
            num_bytes += len(line)
            if num_bytes > archive_format.METRICS_NUM_BYTES_MAX:
                raise errors.StoreError(
                    f"the events of {files.where} have more than "
                    f"{archive_format.METRICS_NUM_BYTES_MAX} bytes, which an "
                    "archive cannot hold; move the oldest logs in events/ or "
                    f"{archive_format.METRICS_FILE} away"
                )
    except storage.MissingFileError:
        return None
    return b"".join(lines)


def _object_ids(
    system: layout.SystemRecord,
    tasks: Mapping[str, task_state.TaskState | task_state.RemovedTask],
) -> set[str]:
    """Returns the ids of all objects that published paths name."""
    paths = [system.root]
    for record in tasks.values():
        if isinstance(record, task_state.TaskState):
            paths.append(record.published)
    return {ref.id for path in paths for ref in path.components}


def _about(metrics_digest: bytes | None) -> dict[str, Any]:
    """Returns what `archive.json` says; all other files have hashes."""
    return {
        "format_version": archive_format.FORMAT_VERSION,
        "metrics_sha256": metrics_digest.hex() if metrics_digest else None,
    }


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
