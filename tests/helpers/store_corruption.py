"""Every small change of every file of a system, one at a time.

    python store_corruption.py STRIDE ARCHIVE_STRIDE

Prints one JSON object: kind of file -> changes that `check` found, of which
there is none that it did not. `metrics.jsonl`, locks and the marks of jobs are
no kinds: nothing is decided by what is in them.
"""

from __future__ import annotations

import collections
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import memory_files
import store_samples

from keras_munet import errors
from keras_munet.store import archives
from keras_munet.store import check
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import system_dir

# What a byte is changed by, where not all values are tried.
_MASKS = (0x01, 0x20, 0x80)


def small_system() -> tuple[system_dir.SystemDir, memory_files.MemoryFiles]:
    """A system with a file of every kind."""
    files = memory_files.MemoryFiles()
    system = store_samples.create(files, num_components=1)
    system.publish(store_samples.state(system))
    system.publish(store_samples.state(system, "emnist/digits", value=20.0))
    system.remove("emnist/digits")
    system.collect()
    for generation in (1, 2):
        payload = {"generation": generation, "text": "\u00e9\n"}
        system.save_progress("kmnist", payload)
    lease = leases.Lease("kmnist", "0" * 16, "pid 1 on host", uses=("a" * 64,))
    files.write_atomic(layout.lease_file("kmnist"), lease.to_bytes())
    assert system.check() == []
    return system, files


def kinds(files: memory_files.MemoryFiles) -> dict[str, str]:
    """Returns one file of every kind, by kind."""
    names = list(files.list())
    found = {
        "system": layout.SYSTEM_FILE,
        "task": layout.task_file("mnist"),
        "removed task": layout.task_file("emnist/digits"),
        "progress": layout.progress_file("kmnist"),
        "previous progress": layout.previous_file("kmnist"),
        "lease": layout.lease_file("kmnist"),
    }
    objects = [name for name in names if name.startswith("objects/")]
    found |= {f"object {n}": name for n, name in enumerate(objects)}
    # Of locks only the names count.
    rest = {name for name in names if not name.startswith(("lock", "jobs/"))}
    assert set(found.values()) == rest, names
    return found


def changes(data: bytes, stride: int) -> Iterator[bytes]:
    """Yields versions of `data` in which one byte is another, more or less.

    Args:
      data: at least one byte.
      stride: 1 for every value of every byte; above, some values of every
        `stride - 1`th.
    """
    step = max(1, stride - 1)
    for at in range(0, len(data), step):
        masks = range(1, 256) if stride == 1 else _MASKS
        for mask in masks:
            yield data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
        yield data[:at] + data[at + 1 :]
        yield data[:at]
        for new in (b"\0", b" ", data[at : at + 1]):
            yield data[:at] + new + data[at:]
    for new in (b"\0", b"\n", b" ", b"x"):
        yield data + new


def corrupt_files(stride: int) -> dict[str, int]:
    """Changes every file and has `check` find it; returns counts by kind."""
    system, files = small_system()
    counted = collections.Counter()
    for kind, name in kinds(files).items():
        data = files.read(name, 1 << 20)
        for changed in changes(data, stride):
            if changed == data:
                continue
            files.write_atomic(name, changed)
            problem = next(check.find_problems(files), None)
            assert problem is not None, (kind, changed)
            assert problem.isprintable(), problem
            counted[kind] += 1
        files.write_atomic(name, data)
    assert system.check() == []
    return dict(counted)


def corrupt_archive(stride: int, work: pathlib.Path) -> dict[str, int]:
    """Changes an archive; it is refused, or brings the same system."""
    system, _ = small_system()
    archive = work / "archive.tar"
    archives.export_archive(system, archive)
    data = archive.read_bytes()
    same = system.tasks(), system.removed(), system.root, system.experiment
    counted = collections.Counter()
    for changed in changes(data, stride):
        archive.write_bytes(changed)
        files = memory_files.MemoryFiles()
        try:
            found = archives.import_archive(archive, files)
        except errors.StoreError as error:
            assert str(error).isprintable(), error
            left = [n for n in files.list() if n != layout.LOCK_FILE]
            assert left == [], left
            counted["archive: refused"] += 1
        else:
            seen = found.tasks(), found.removed(), found.root, found.experiment
            assert seen == same, changed
            assert found.check() == []
            counted["archive: the same system"] += 1
    return dict(counted)


def main(stride: int, archive_stride: int) -> dict[str, object]:
    """Does both; returns the figures."""
    began = time.monotonic()
    counted = corrupt_files(stride)
    with tempfile.TemporaryDirectory() as work:
        counted |= corrupt_archive(archive_stride, pathlib.Path(work))
    secs = round(time.monotonic() - began, 1)
    return {"total": sum(counted.values()), "secs": secs, **counted}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
