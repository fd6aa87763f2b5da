"""What nobody vouches for is refused or read rightly, and runs nothing.

The short version of `benchmarks/faults.py --parts=fuzz`.
"""

from __future__ import annotations

import os
import pickle

import fuzz_guard
import memory_files
import pytest
import store_jobs
import store_samples

import keras_munet.models.vit.architecture  # noqa: F401
from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import canonical_json
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.store import checksummed_json
from keras_munet.store import references
from keras_munet.store import settings_diff
from keras_munet.store import system_dir
from keras_munet.store import task_state

_SEED = 1
_NUM_CASES = 200


def test_odd_records_objects_archives_and_configs_do_no_harm(tmp_path):
    found = store_jobs.apart(
        "store_fuzz.py", tmp_path, _SEED, _NUM_CASES, timeout_secs=900
    )
    print(found)
    assert found["cases"] == _NUM_CASES
    for kind in (
        "record, sealed anew",
        "object",
        "archive of odd files",
        "config",
    ):
        assert sum(found[kind].values()) > 10


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    # It stays for good, but watches only where it is asked to.
    return fuzz_guard.Guard(tmp_path_factory.mktemp("inside"))


@pytest.mark.parametrize(
    "harm",
    [
        lambda: os.system("true"),
        lambda: open(os.devnull, "w").close(),
        lambda: pickle.loads(pickle.dumps(len)),
        lambda: eval("1 + 1"),
    ],
    ids=["a command", "a write", "a pickle", "code"],
)
def test_the_guard_sees_harm(guard, harm):
    with guard.watch(20.0):
        harm()
    assert guard.violations
    guard.violations.clear()


def test_the_guard_ends_what_hangs(guard):
    with pytest.raises(fuzz_guard.Hang), guard.watch(0.05):
        while True:
            pass


def _path(**changes):
    """A path as JSON, with the id that fits what it says."""
    value = {
        "task": "mnist",
        "parent": "0" * 24,
        "born": [0, 0, 0],
        "hparams": {},
        "components": [],
        "metrics": {},
        **changes,
    }
    keys = ("task", "parent", "born", "hparams")
    ids = [ref[1] for ref in value["components"]]
    made = [*(value[key] for key in keys), ids]
    return {
        **value,
        "id": canonical_json.json_digest(made, specs.PATH_ID_CHARS),
    }


def test_a_path_whose_id_fits_is_read():
    assert specs.PathRecord.from_json(_path()).to_json() == _path()


# What fuzzing found.
@pytest.mark.parametrize(
    "changes",
    [
        {"task": ["mnist"]},
        {"parent": ["0"]},
        {"parent": "a\nb"},
        {"born": ["0", 0, 0]},
        {"born": [0, 0]},
        {"born": "000"},
        {"metrics": {"quality": "0.5"}},
        {"components": [["head", "1" * 64, "2" * 16, -1]]},
        {"components": [["head", "1" * 64, "2" * 16, 1.0]]},
        {"components": [["head", "\0" * 64, "2" * 16, 1]]},
    ],
)
def test_a_path_of_the_wrong_kind_is_refused_though_its_id_fits(changes):
    with pytest.raises(ValueError, match=r"wrong kind|is no"):
        specs.PathRecord.from_json(_path(**changes))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"hparams": 5},
        {"ranges": [1]},
        {"search": "munet"},
        {"task_names": 5},
        {"num_task_iters": 2**63},
        {"hparams": {"opt_lr": 10**400}},
        {"\ud800": 1},
        {"search": {"a\nb": 1}},
    ],
)
def test_settings_of_the_wrong_kind_are_refused_in_one_line(value):
    with pytest.raises(errors.UsageError) as info:
        settings_lib.Settings.from_dict(value)
    assert str(info.value).isprintable()


@pytest.mark.parametrize(
    "value", [{}, {"family": []}, {"family": "vit"}, {"family": "vit", "a": 1}]
)
def test_a_family_of_the_wrong_kind_is_refused(value):
    with pytest.raises(errors.MunetError, match=r"cannot be read|unknown"):
        architecture.from_json(value)


def test_a_removed_task_of_the_wrong_kind_is_refused():
    value = task_state.RemovedTask("mnist", 1, {}).to_json()
    assert task_state.from_json(value).to_json() == value
    for changes in ({"task": ["a"]}, {"removed": 1}, {"retired": {"a": None}}):
        with pytest.raises(ValueError, match=r"^its? "):
            task_state.from_json({**value, **changes})


def test_what_is_nearly_a_reference_is_none():
    good = ["head", "1" * 64, "2" * 16, 3]
    assert len(list(references.component_refs([good]))) == 1
    for at, bad in ((0, "a\0"), (3, -1), (3, True), (1, "1"), (2, "\n" * 16)):
        near = [*good[:at], bad, *good[at + 1 :]]
        assert list(references.component_refs({"refs": [near]})) == []


def test_settings_nested_too_deeply_are_refused():
    files = memory_files.MemoryFiles()
    store_samples.create(files)
    body = checksummed_json.unseal(
        files.read("system.json", 9999), "x", version_max=1
    )
    deep = []
    for _ in range(400):
        deep = [deep]
    body["experiment"] = {"seed": deep}
    files.write_atomic(
        "system.json", checksummed_json.seal(body, "system.json")
    )
    with pytest.raises(errors.StoreError, match="more than 50 levels"):
        system_dir.SystemDir.open(files)


def test_odd_keys_of_settings_stay_on_the_line():
    for found in settings_diff.differences({"a\nb": 1}, {"c": {"\ud800": 2}}):
        assert found.isprintable()
