"""The system whose files, as format version 1 wrote them, are kept for ever.

`python tests/helpers/store_golden.py` writes `tests/goldens/store_v1`. It is
run once per format version, before the first release that writes it; what
older versions wrote is never made again.
"""

from __future__ import annotations

import pathlib
import tempfile

import memory_files
import store_samples

from keras_munet.store import archives
from keras_munet.store import leases
from keras_munet.store import system_dir

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "store_v1"
ARCHIVE = FOLDER.with_suffix(".tar")
LEASE = leases.Lease("emnist", "0123456789abcdef", "pid 1", 2, ("a" * 64,))
METRICS = b'{"event": "published", "job_secs": 1.0}\n'


def build(files: memory_files.MemoryFiles) -> system_dir.SystemDir:
    """A file of each kind: two tasks, a removed one, progress, a lease."""
    system = store_samples.create(files)
    system.publish(store_samples.state(system, task="cmaterdb/bangla"))
    system.publish(store_samples.state(system, value=20.0, private=True))
    system.publish(store_samples.state(system, task="gone", value=30.0))
    system.remove("gone")
    for value in (40.0, 50.0):
        ref = system.objects.put(store_samples.component("head", value))
        system.save_progress("mnist", {"refs": [ref.to_json()]})
    system.collect()
    files.write_atomic("leases/emnist.json", LEASE.to_bytes())
    files.write_atomic("metrics.jsonl", METRICS)
    return system


def content() -> dict[str, bytes]:
    """Every file of the system but locks, and its archive."""
    files = memory_files.MemoryFiles()
    system = build(files)
    found = {
        f"{FOLDER.name}/{name}": files.read(name, 10**6)
        for name in files.list()
        if not name.startswith(("lock", "jobs/"))
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / ARCHIVE.name
        archives.export_archive(system, path)
        return {**found, ARCHIVE.name: path.read_bytes()}


if __name__ == "__main__":
    for name, data in content().items():
        path = FOLDER.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"{path}: {len(data)} bytes")
