"""Locks that exclude no other process are noticed before a job trains."""

from __future__ import annotations

import subprocess

import pytest
import system_samples

import keras_munet
from keras_munet import errors
from keras_munet.store import files as files_lib
from keras_munet.store import local_lock


def _grants_all(monkeypatch):
    """Has this process's locks do nothing, as some network mounts do."""
    monkeypatch.setattr(local_lock.fcntl, "flock", lambda *_: None)


def test_locks_that_exclude_pass(tmp_path):
    files = files_lib.LocalStorage(tmp_path)
    files.require_locks()
    files.require_locks()
    assert list(files.list()) == ["locks/probe"]


def test_locks_that_do_nothing_are_refused(tmp_path, monkeypatch):
    _grants_all(monkeypatch)
    files = files_lib.LocalStorage(tmp_path)
    with pytest.raises(errors.UsageError, match="flock does nothing") as info:
        files.require_locks()
    assert str(tmp_path) in str(info.value) and "\n" not in str(info.value)


def test_one_who_tries_at_the_same_moment_is_proof_enough(
    tmp_path, monkeypatch
):
    files = files_lib.LocalStorage(tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(subprocess, "run", None)
        lock = files.lock("locks/probe", "")
        files.require_locks()
        lock.release()


def test_a_child_that_waits_is_excluded(tmp_path, monkeypatch):
    monkeypatch.setattr(local_lock, "_CHILD_SECS", 0.2)
    monkeypatch.setattr(local_lock, "_TRY_LOCK", "import time; time.sleep(9)")
    files_lib.LocalStorage(tmp_path).require_locks()


@pytest.mark.parametrize("by", ["run", "evolve"])
def test_a_job_does_not_begin_where_locks_do_nothing(tmp_path, monkeypatch, by):
    settings = system_samples.settings(task_names=["digits"], num_task_iters=1)
    system = keras_munet.System.create(tmp_path / "system", settings)
    _grants_all(monkeypatch)
    with pytest.raises(errors.UsageError, match="flock does nothing"):
        system.run() if by == "run" else system.evolve("digits")
    assert system.tasks == {}
