from __future__ import annotations

import errno
import os

import pytest
import store_crashes
import store_samples

from keras_munet import errors
from keras_munet.store import system_dir

CHANGES = sorted(store_crashes.CHANGES)


@pytest.mark.parametrize("change", ["create", *CHANGES])
def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_state(
    change, tmp_path
):
    num_kills = store_crashes.apart(change, tmp_path)
    print(f"{change}: {num_kills} kills")
    assert num_kills >= 10


def _fail_at(patch, num_calls, code):
    """Makes one system call, and only that one, fail."""
    left = [num_calls]

    def arm(name):
        real = getattr(os, name)

        def wrapper(*args, **kwargs):
            left[0] -= 1
            if left[0] == -1:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        patch.setattr(os, name, wrapper)

    for name in store_crashes.CALLS:
        arm(name)
    return left


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("change", CHANGES)
def test_an_error_of_any_system_call_leaves_the_old_or_the_new_state(
    change, code, tmp_path, monkeypatch
):
    run = store_crashes.CHANGES[change]
    for num_calls in range(200):
        folder = tmp_path / str(num_calls)
        store_crashes.prepared(folder)
        system = system_dir.SystemDir.open(folder)
        old = store_crashes.snapshot(system)
        with monkeypatch.context() as patch:
            left = _fail_at(patch, num_calls, code)
            try:
                run(folder)
            except errors.StoreError as error:
                message = str(error)
                assert "\n" not in message
                assert str(folder) in message
        found = store_crashes.snapshot(system)
        assert system.check() == []
        run(folder)
        new = store_crashes.snapshot(system)
        assert found in (old, new)
        assert list(folder.rglob(".tmp-*")) == []
        if left[0] >= 0:
            break
    else:
        pytest.fail("the change never ended")


def test_a_creation_that_failed_can_be_made_again(tmp_path, monkeypatch):
    for num_calls in range(200):
        folder = tmp_path / str(num_calls)
        with monkeypatch.context() as patch:
            left = _fail_at(patch, num_calls, errno.ENOSPC)
            try:
                store_samples.create(folder)
            except errors.StoreError as error:
                assert "no space is left" in str(error)
        if not system_dir.SystemDir.is_system(folder):
            store_samples.create(folder)
        assert system_dir.SystemDir.open(folder).check() == []
        if left[0] >= 0:
            break
    else:
        pytest.fail("the creation never ended")
