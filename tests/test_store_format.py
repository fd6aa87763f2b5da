"""`docs/format.md` is enough to read a system, without keras_munet."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import safetensors
import safetensors.numpy
import store_samples


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
