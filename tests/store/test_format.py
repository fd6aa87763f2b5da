"""`docs/format.md` is enough to read a system; old versions stay readable."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import store_golden
import store_samples

from keras_munet.store import archives
from keras_munet.store import leases
from keras_munet.store import system_dir


def _canonical(value) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text.encode("ascii")


def _digest(value) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()


def _body(path):
    data = path.read_bytes()
    record = json.loads(data)
    assert data.endswith(b"}\n") and set(record) == {"body", "sha256"}
    assert record["sha256"] == _digest(record["body"])
    assert record["body"]["format_version"] == 1
    return record["body"]


def _checked_path(record):
    made = [record[k] for k in ("task", "parent", "born", "hparams")]
    made.append([ref[1] for ref in record["components"]])
    assert record["id"] == _digest(made)[:24]
    return record


def _object(folder, ref):
    place, object_id, spec_id, num_params = ref
    path = folder / "objects" / object_id[:2] / f"{object_id}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == object_id
    with safetensors.safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["spec"])
    spec = about["spec"]
    assert (spec["name"], _digest(spec)[:16]) == (place, spec_id)
    tensors = safetensors.numpy.load_file(path)
    shapes = {f"weights/{name}": tuple(s) for name, s in spec["weights"]}
    weights = {n: t for n, t in tensors.items() if n.startswith("weights/")}
    assert {n: t.shape for n, t in weights.items()} == shapes
    assert sum(t.size for t in weights.values()) == num_params
    assert all(t.dtype == np.float32 for t in weights.values())
    momentum = {n for n in tensors if n.startswith("momentum/")}
    assert bool(momentum) == about["has_momentum"]
    return weights


def test_the_documented_format_is_what_is_written(tmp_path):
    system = store_samples.create(tmp_path)
    state = store_samples.state(system, "cmaterdb/bangla", value=5.0)
    system.publish(state)
    root = _checked_path(_body(tmp_path / "system.json")["root"])
    assert (root["task"], root["parent"]) == ("NOT_TRAINABLE", None)
    task = _body(tmp_path / "tasks" / "cmaterdb~bangla.json")
    assert task["task"] == "cmaterdb/bangla"
    path = _checked_path(task["published"])
    assert path["id"] == state.published.id and path["parent"] == root["id"]
    for ref in [*root["components"], *path["components"]]:
        assert _object(tmp_path, ref)
    head = _object(tmp_path, path["components"][-1])
    assert head["weights/kernel"].ravel()[0] == 5.0


def test_what_is_left_of_a_removed_task_is_as_documented(tmp_path):
    system = store_samples.create(tmp_path)
    state = store_samples.state(system)
    system.publish(state)
    system.remove("mnist")
    left = _body(tmp_path / "tasks" / "mnist.json")
    assert left == {
        "format_version": 1,
        "task": "mnist",
        "removed": True,
        "num_iterations_done": 1,
        "retired": {
            **state.retired,
            state.published.id: state.published.parent,
        },
    }


def _stored():
    """Every golden file of version 1, by name below the folder of goldens."""
    base = store_golden.FOLDER.parent
    paths = [*store_golden.FOLDER.rglob("*"), store_golden.ARCHIVE]
    return {
        str(p.relative_to(base)): p.read_bytes() for p in paths if p.is_file()
    }


def test_this_program_still_writes_version_1_byte_for_byte():
    assert store_golden.content() == _stored()


def test_every_file_says_its_version():
    kinds = {}
    for name, data in _stored().items():
        kind = name.rpartition(".")[2]
        if kind == "json":
            body = json.loads(data)["body"]
        elif kind == "safetensors":
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length])
            body = json.loads(header["__metadata__"]["spec"])
        else:
            continue
        kinds.setdefault(kind, []).append(body["format_version"])
    assert {kind: set(versions) for kind, versions in kinds.items()} == {
        "json": {1},
        "safetensors": {1},
    }
    assert len(kinds["json"]) == 7
    with tarfile.open(store_golden.ARCHIVE) as tar:
        about = json.load(tar.extractfile("archive.json"))["body"]
    assert about == {
        "format_version": 1,
        "metrics_sha256": hashlib.sha256(store_golden.METRICS).hexdigest(),
    }


@pytest.fixture
def golden(tmp_path):
    """The system that version 1 wrote, as files and from its archive."""
    folder = tmp_path / "golden"
    shutil.copytree(store_golden.FOLDER, folder)
    archives.import_archive(store_golden.ARCHIVE, tmp_path / "imported")
    return [
        system_dir.SystemDir.open(folder),
        system_dir.SystemDir.open(tmp_path / "imported"),
    ]


def test_what_version_1_wrote_is_read(golden):
    for system in golden:
        assert system.check() == []
        assert system.experiment == store_samples.EXPERIMENT
        assert system.family_json == store_samples.FAMILY
        assert system.root_source == "random"
        assert system.root.id == "8714ed840aa5efc0ea6455ca"
        tasks = system.tasks()
        assert list(tasks) == ["cmaterdb/bangla", "mnist"]
        assert [t.private for t in tasks.values()] == [False, True]
        mnist = tasks["mnist"]
        assert mnist.class_names == ("a", "b")
        assert mnist.child_counts == {system.root.id: 3}
        assert mnist.retired == {"0" * 24: system.root.id}
        assert mnist.published.parent == system.root.id
        assert mnist.published.metrics == {"quality": 0.5, "score": 0.25}
        *root, head = mnist.published.components
        assert tuple(root) == system.root.components
        assert store_samples.same(
            system.objects.get(head),
            store_samples.component("head", 20.0, momentum=True),
        )
        assert list(system.removed()) == ["gone"]
        assert system.removed()["gone"].num_iterations_done == 1


def test_a_running_iteration_of_version_1_goes_on(golden):
    system, imported = golden
    (newest,) = system.load_progress("mnist")["refs"]
    assert store_samples.same(
        system.objects.get(newest[1]), store_samples.component("head", 50.0)
    )
    (pathlib.Path(system.where) / "progress" / "mnist.json").unlink()
    (before,) = system.load_progress("mnist")["refs"]
    assert store_samples.same(
        system.objects.get(before[1]), store_samples.component("head", 40.0)
    )
    assert dict(leases.all_leases(system.files)) == {
        "leases/emnist.json": store_golden.LEASE
    }
    # An archive holds what is published alone.
    assert imported.load_progress("mnist") is None


def test_a_system_of_version_1_grows_on(golden):
    for system in golden:
        state = store_samples.state(system, num_iterations_done=2, value=60.0)
        system.publish(state)
        system.publish(store_samples.state(system, task="new", value=70.0))
        system.collect()
        assert system.check() == []
        assert sorted(system.tasks()) == ["cmaterdb/bangla", "mnist", "new"]
