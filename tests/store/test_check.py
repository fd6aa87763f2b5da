"""What `check` names and everything else leaves alone, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest
import store_samples

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import archives
from keras_munet.store import check
from keras_munet.store import checksummed_json
from keras_munet.store import files as files_lib
from keras_munet.store import repair
from keras_munet.store import system_dir

_FOLDERS = ("tasks", "progress", "previous", "objects", "jobs", "leases")
_STRAYS = (
    "x (conflicted copy)",
    "mnist (conflicted copy 2026-11-29).json",
    "mnist.json~",
    ".DS_Store",
    "._mnist.json",
    "Thumbs.db",
    "\u00e9\x1b[31m\n",
    "desktop.ini",
    "0123 - Kopie",
)


@pytest.fixture
def folder(tmp_path):
    system = store_samples.create(tmp_path / "s")
    system.publish(store_samples.state(system))
    system.publish(store_samples.state(system, "emnist", value=20.0))
    system.save_progress("mnist", {"number": 1})
    system.save_progress("mnist", {"number": 2})
    return tmp_path / "s"


def _use(folder):
    """Does everything that a system's user may do."""
    system = system_dir.SystemDir.open(folder)
    assert list(system.tasks()) == ["emnist", "mnist"]
    with system.lease("mnist"):
        assert system.load_progress("mnist") == {"number": 2}
        system.save_progress("mnist", {"number": 2})
    system._suspects.add("0" * 64)
    system.tidy()
    system.collect()
    archives.export_archive(system, folder.with_suffix(".tar"))
    folder.with_suffix(".tar").unlink()
    assert not list(repair.repair(files_lib.open_storage(folder)))
    return system.check()


@pytest.mark.parametrize("stray", _STRAYS, ids=ascii)
def test_strays_are_named_by_check_and_hinder_nothing(folder, stray):
    for parent in _FOLDERS:
        (folder / parent).mkdir(exist_ok=True)
        (folder / parent / stray).write_bytes(b"x")
    found = _use(folder)
    assert len(found) == len(_FOLDERS)
    for parent in _FOLDERS:
        (line,) = [p for p in found if p.startswith(f"'{parent}/")]
        assert line.isprintable()


@pytest.mark.parametrize("kind", ["folder", "deep folders", "link", "pipe"])
def test_strays_that_are_no_files_hinder_nothing(folder, kind, tmp_path):
    for parent in _FOLDERS:
        (folder / parent).mkdir(exist_ok=True)
        stray = folder / parent / "old (copy)"
        if kind == "folder":
            stray.mkdir()
            (stray / "mnist.json").write_bytes(b"x")
        elif kind == "deep folders":
            os.makedirs(stray / "/".join(["d" * 120] * 25))
        elif kind == "link":
            stray.symlink_to(tmp_path)
        else:
            os.mkfifo(stray)
    assert len(_use(folder)) == len(_FOLDERS)


@pytest.mark.parametrize(
    "copy", ["mnist.sync-conflict-20261129.json", "MNIST.json", "mnist-2.json"]
)
def test_a_record_copied_under_another_tasks_name_is_a_stray(folder, copy):
    for parent in ("tasks", "progress", "previous"):
        shutil.copy(folder / parent / "mnist.json", folder / parent / copy)
    found = _use(folder)
    assert len([p for p in found if "holds the task 'mnist'" in p]) == 3


def test_a_record_that_was_renamed_is_still_refused(folder):
    (folder / "tasks" / "mnist.json").rename(folder / "tasks" / "other.json")
    with pytest.raises(errors.StoreError, match="holds the task 'mnist'"):
        system_dir.SystemDir.open(folder).tasks()


@pytest.mark.parametrize("name", [".tmp- (copy)", ".tmp-\x1b", ".tmp-\u00e9"])
def test_odd_temporaries_hinder_no_collection(folder, name):
    (folder / "tasks" / name).write_bytes(b"x")
    os.utime(folder / "tasks" / name, (0, 0))
    assert system_dir.SystemDir.open(folder).collect().num_temporaries == 0


def _head(num_classes, num_units):
    weights = (("kernel", (2, num_units)), ("bias", (num_units,)))
    spec = specs.ComponentSpec(
        "head", "Head", {"width": 2, "num_classes": num_classes}, weights
    )
    made = store_samples.component("head", shape=(2, num_units))
    values = {"kernel": made.weights["kernel"]}
    values["bias"] = values["kernel"][0]
    return specs.Component(spec, values)


def _state(system, num_units, **changes):
    state = store_samples.state(system)
    ref = system.objects.put(
        _head(changes.pop("units_said", num_units), num_units)
    )
    path = dataclasses.replace(
        state.published, components=(*system.root.components, ref)
    )
    return dataclasses.replace(state, published=path, **changes)


@pytest.mark.parametrize(
    ("num_classes", "class_names", "units_said"),
    [
        (3, ("a", "b", "c"), 2),
        (1, ("a",), 2),
        (10**9, (), 2),
        (7, (), 7),
        (2, ("a", "b"), 7),
    ],
)
def test_class_counts_are_held_against_the_head(
    tmp_path, num_classes, class_names, units_said
):
    system = store_samples.create(tmp_path / "s")
    system.publish(_state(system, 2))
    assert system.check() == []
    wrong = _state(
        system,
        2,
        units_said=units_said,
        num_classes=num_classes,
        class_names=class_names,
    )
    with pytest.raises(errors.StoreError, match="classes; its path's 'head'"):
        system.publish(wrong)
    record = tmp_path / "s" / "tasks" / "mnist.json"
    record.write_bytes(
        checksummed_json.seal(wrong.to_json(), "tasks/mnist.json")
    )
    system = system_dir.SystemDir.open(tmp_path / "s")
    (problem,) = system.check()
    assert f"has {num_classes} classes" in problem
    archives.export_archive(system, tmp_path / "s.tar")
    with pytest.raises(errors.StoreError, match="cannot be imported: tasks/"):
        archives.import_archive(tmp_path / "s.tar", tmp_path / "copy")
    assert not (tmp_path / "copy" / "system.json").exists()


def test_class_names_fit_their_number(tmp_path):
    system = store_samples.create(tmp_path / "s")
    system.publish(_state(system, 2))
    record = tmp_path / "s" / "tasks" / "mnist.json"
    body = json.loads(record.read_bytes())["body"]
    for names in (["a"], ["a", "b", "c"], [1, 2], "ab"):
        body["class_names"] = names
        record.write_bytes(checksummed_json.seal(body, "tasks/mnist.json"))
        (problem,) = system_dir.SystemDir.open(tmp_path / "s").check()
        assert "class_names" in problem or "parts" in problem


def test_a_check_by_several_threads_finds_the_same_in_the_same_order(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(check, "_NUM_AT_ONCE", 5)
    system = store_samples.create(tmp_path / "s")
    for i in range(23):
        system.objects.put(store_samples.component("head", 100.0 * i))
    names = list(system.files.list("objects"))
    for name in names[3::7]:
        data = bytearray((tmp_path / "s" / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / "s" / name).write_bytes(data)
    (tmp_path / "s" / "objects" / "stray.txt").write_text("x")
    problems = list(check.find_problems(system.files))
    assert len(problems) == len(names[3::7]) + 1
    assert list(check.find_problems(system.files, num_threads=4)) == problems
