"""Odd records, objects, archives and configs, each made from a seed.

Most are well sealed and have the ids that fit what they say: what nobody seals
rightly is refused before anything looks at it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import random

import fuzz_mutations
import store_jobs
import store_samples

from keras_munet.core import canonical_json
from keras_munet.core import settings as settings_lib
from keras_munet.store import archive_format
from keras_munet.store import archives
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.store import tensors

ARCHIVE = "archive.tar"
CONFIG = "config.json"
_METRICS = (
    b'{"event":"generation","job_secs":1.0,"task":"mnist","iteration":0,'
    b'"number":1,"children":[{"index":0,"parent":"0","parent_task":"mnist",'
    b'"score":0.5,"improved":true,"record":{"components":[["head","copy",true,'
    b'6,"' + b"0f" * 32 + b'","mnist"]],"mutations":[["opt_lr",0.1,0.2]],'
    b'"adapters_inserted":[],"adapters_removed":[],"size_factor":1.0,'
    b'"accounted_params":6.0,"quality":0.5,"duplicate_of":null}}],'
    b'"best_score":0.5,"generation_secs":2.0,'
    b'"clock":{"search_secs":1.0}}\n'
    b'{"event":"published","task":"mnist","path":{"id":"00"}}\n'
)
_CONFIG = {
    "seed": 1,
    "task_names": ["digits", "private:glyphs/digits"],
    "search": {"version": "munet", "policy": "adapters:4"},
    "root": {"variant": "mu", "image_size": 16},
    "data": {"manual_dir": "somewhere"},
    "hparams": {"opt_lr": 0.1, "ds_crop": False},
    "ranges": {"num_layers": [0, 1, 2]},
}


def _base(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the files of a whole small system, by name."""
    store_jobs.create(folder)
    system = system_dir.SystemDir.open(folder)
    for value, task in enumerate(("mnist", "emnist/digits", "gone")):
        state = store_samples.state(system, task, value=float(value))
        path = dataclasses.replace(state.published, hparams=system.root.hparams)
        system.publish(dataclasses.replace(state, published=path))
    system.remove("gone")
    for number in (1, 2):
        refs = [ref.to_json() for ref in system.root.components]
        system.save_progress("mnist", {"number": number, "refs": refs})
    lease = leases.Lease("kmnist", "0" * 16, "pid 1", uses=("a" * 64,))
    system.files.write_atomic(layout.lease_file("kmnist"), lease.to_bytes())
    system.files.write_atomic(archive_format.METRICS_FILE, _METRICS)
    system.collect(dry_run=True)
    assert system.check() == []
    return {
        name: (folder / name).read_bytes()
        for name in system.files.list()
        if not name.startswith(("jobs", "lock"))
    }


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to read.

    Attributes:
      kind: what it is.
      files: what lies in the folder.
      odd: the name of the one that is not as it was.
    """

    kind: str
    files: dict[str, bytes]
    odd: str


class Cases:
    """Makes cases from a seed.

    Args:
      folder: for the system that they start from.
    """

    def __init__(self, folder: pathlib.Path):
        self._base = _base(folder)
        self._records = [n for n in self._base if n.endswith(".json")]
        self._objects = [n for n in self._base if n.startswith("objects")]
        archive = folder.with_suffix(".tar")
        archives.export_archive(system_dir.SystemDir.open(folder), archive)
        self._archive = archive.read_bytes()
        with open(archive, "rb") as file:
            self._members = dict(archive_format.read_members(file, "archive"))
        self._makers = {
            "record, bytes": (2, self._record_bytes),
            "record, sealed anew": (8, self._record_sealed),
            "object": (4, self._object),
            "metrics": (1, self._metrics),
            "archive, bytes": (2, self._archive_bytes),
            "archive, odd members": (2, self._archive_members),
            "archive of odd files": (4, self._archive_of_odd),
            "config": (4, self._config),
        }

    @property
    def whole(self) -> Case:
        """The system that cases start from."""
        return Case("whole", self._base, layout.SYSTEM_FILE)

    def made(self, seed: int, number: int) -> Case:
        """Returns a case; equal arguments give equal ones."""
        rng = random.Random(f"{seed} {number}")
        weights = [weight for weight, _ in self._makers.values()]
        kind = rng.choices(list(self._makers), weights)[0]
        while True:
            # What is too deep for Python to write cannot be a case.
            with contextlib.suppress(RecursionError):
                files, odd = self._makers[kind][1](rng)
                return Case(kind, files, odd)

    def _record_bytes(self, rng):
        name = rng.choice(self._records)
        data = fuzz_mutations.bytes_like(self._base[name], rng)
        return {**self._base, name: data}, name

    def _record_sealed(self, rng):
        name = rng.choice(self._records)
        body = json.loads(self._base[name])["body"]
        changed = fuzz_mutations.json_like(body, rng)
        if rng.random() < 0.7:
            _mend(changed)
        files = dict(self._base)
        if rng.random() < 0.5 and isinstance(changed, dict):
            name = _renamed(name, changed.get("task"))
        files[name] = _sealed(changed)
        return files, name

    def _object(self, rng):
        name = rng.choice(self._objects)
        data = self._base[name]
        if rng.random() < 0.7:
            data = _header_changed(data, rng)
        else:
            data = fuzz_mutations.bytes_like(data, rng)
        if rng.random() < 0.2:
            return {**self._base, name: data}, name
        # Under its own name, and named where the old one was.
        old, new = codec.id_of_file(name), codec.object_id(data)
        files = {n: d for n, d in self._base.items() if n != name}
        files[codec.file_name(new)] = data
        for record in self._records:
            body = json.loads(
                files[record].replace(old.encode(), new.encode())
            )["body"]
            _mend(body)
            files[record] = _sealed(body)
        return files, codec.file_name(new)

    def _metrics(self, rng):
        if rng.random() < 0.5:
            data = fuzz_mutations.bytes_like(_METRICS, rng)
        else:
            lines = [json.loads(line) for line in _METRICS.splitlines()]
            changed = fuzz_mutations.json_like(lines, rng)
            data = b"".join(
                json.dumps(line).encode() + b"\n" for line in changed
            )
        return {
            **self._base,
            archive_format.METRICS_FILE: data,
        }, archive_format.METRICS_FILE

    def _archive_bytes(self, rng):
        data = fuzz_mutations.bytes_like(self._archive, rng)
        return {ARCHIVE: data}, ARCHIVE

    def _archive_members(self, rng):
        members = sorted(self._members.items())
        return {ARCHIVE: fuzz_mutations.tar_like(members, rng)}, ARCHIVE

    def _archive_of_odd(self, rng):
        """A tar file as it should be, of a system that is not."""
        makers = [self._record_sealed, self._object, self._metrics]
        files, odd = rng.choice(makers)(rng)
        about = archive_format.ARCHIVE_FILE
        members = {
            name: data
            for name, data in {**files, about: self._members[about]}.items()
            if name in self._members or name == odd
        }
        if rng.random() < 0.5:
            digest = hashlib.sha256(files[archive_format.METRICS_FILE])
            body = json.loads(members[about])["body"]
            members[about] = _sealed(
                {**body, "metrics_sha256": digest.hexdigest()}
            )
        out = io.BytesIO()
        for name, data in sorted(members.items()):
            archive_format.write_member(out, name, data)
        return {ARCHIVE: out.getvalue() + archive_format.END}, ARCHIVE

    def _config(self, rng):
        if rng.random() < 0.3:
            whole = json.dumps(_CONFIG).encode()
            data = fuzz_mutations.bytes_like(whole, rng)
        else:
            whole = settings_lib.Settings.from_dict(_CONFIG).to_json()
            start = rng.choice([_CONFIG, whole])
            data = json.dumps(fuzz_mutations.json_like(start, rng)).encode()
        return {CONFIG: data}, CONFIG


def _sealed(body) -> bytes:
    """Returns a seal around anything."""
    text = json.dumps(body, sort_keys=False, separators=(",", ":"))
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        text = canonical_json.dumps(body)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"body":{text},"sha256":"{digest}"}}\n'.encode()


def _mend(body) -> None:
    """Gives every path in a record the id of its content."""
    for key in ("root", "published"):
        try:
            path = body[key]
            made = [path[k] for k in ("task", "parent", "born", "hparams")]
            made.append([ref[1] for ref in path["components"]])
            path["id"] = canonical_json.json_digest(made, 24)
        except (TypeError, KeyError, IndexError, ValueError, RecursionError):
            continue


def _renamed(name: str, task) -> str:
    """Returns the file that a record of `task` belongs in."""
    folder = name.rpartition("/")[0]
    if not folder or not isinstance(task, str) or not _is_name(task):
        return name
    return f"{folder}/{task.replace('/', '~')}.json"


def _is_name(name: str) -> bool:
    return name.isascii() and name.isprintable() and 0 < len(name) < 200


def _header_changed(data: bytes, rng) -> bytes:
    """Returns an object with a header that says something else."""
    start = tensors.NUM_LENGTH_BYTES
    end = tensors.header_num_bytes(data)
    header = json.loads(data[start:end])
    if rng.random() < 0.5:
        spec = json.loads(header["__metadata__"]["spec"])
        spec = fuzz_mutations.json_like(spec, rng)
        header["__metadata__"]["spec"] = json.dumps(spec)
    else:
        header = fuzz_mutations.json_like(header, rng)
    text = json.dumps(header).encode()
    length = len(text)
    if rng.random() < 0.1:
        length = rng.choice([0, length - 1, length + 1, 2**40, 2**64 - 1])
    return length.to_bytes(start, "little") + text + data[end:]
