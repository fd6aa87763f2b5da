"""Leases of tasks: one holder, freed by death, fenced after a standstill."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import memory_files
import pytest
import store_samples

from keras_munet import errors
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import leases
from keras_munet.store import system_dir

_SECS_MAX = 60.0


@pytest.fixture(params=["local", "memory"])
def files(request, tmp_path):
    if request.param == "memory":
        return memory_files.MemoryFiles()
    return files_lib.LocalStorage(tmp_path)


@pytest.fixture
def system(tmp_path):
    return store_samples.create(tmp_path / "system")


def _stopped(job):
    """Has a job renew nothing from now on, like one that was stopped."""
    # A renewal that has begun comes before.
    with job._mutex:
        job._ended.set()


def test_a_task_has_one_holder_at_a_time_and_others_are_told_who(files):
    first, second = leases.JobLeases(files), leases.JobLeases(files)
    first.take("mnist")
    with pytest.raises(leases.TaskHeldError, match=r"another job \(pid \d+"):
        second.take("MNIST")
    second.take("kmnist")
    first.release("mnist")
    second.take("mnist")
    assert second.holds("mnist") and not first.holds("mnist")
    second.release("mnist")
    second.release("kmnist")


def test_a_job_that_does_not_answer_loses_its_task_and_cannot_write(files):
    first = leases.JobLeases(files, lease_secs=0.2)
    second = leases.JobLeases(files, lease_secs=0.2)
    first.take("mnist")
    _stopped(first)
    # The waiting job measures the while itself.
    with pytest.raises(leases.TaskHeldError):
        second.take("mnist")
    time.sleep(0.25)
    second.take("mnist")
    with pytest.raises(leases.LeaseLostError, match="taken the task"):
        first.confirm("mnist")
    second.confirm("mnist")
    second.release("mnist")


def test_a_job_that_answers_keeps_its_task(files, monkeypatch):
    now = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(leases, "time", clock)
    first = leases.JobLeases(files, lease_secs=0.3)
    second = leases.JobLeases(files, lease_secs=0.3)
    name = layout.lease_file("mnist")
    first.take("mnist")
    for _ in range(4):
        with pytest.raises(leases.TaskHeldError):
            second.take("mnist")
        before = files.read(name, 9999)
        deadline = time.monotonic() + _SECS_MAX
        while files.read(name, 9999) == before:
            assert time.monotonic() < deadline, "it does not renew its lease"
            time.sleep(0.01)
        # However late the other one looks again.
        now[0] += 0.3
    first.confirm("mnist")
    first.release("mnist")


def test_what_a_stalled_job_wanted_to_publish_is_refused(system):
    other = system_dir.SystemDir.open(system.where)
    system._job = leases.JobLeases(system._files, lease_secs=0.2)
    other._job = leases.JobLeases(other._files, lease_secs=0.2)
    state = store_samples.state(system)
    with pytest.raises(leases.LeaseLostError), system.lease("mnist"):
        _stopped(system._job)
        with pytest.raises(leases.TaskHeldError), other.lease("mnist"):
            pass
        time.sleep(0.25)
        with other.lease("mnist"):
            other.publish(store_samples.state(other, value=30.0))
        system.publish(state)
    kept = other.task("mnist").published
    assert kept.id != state.published.id
    assert other.check() == []


@pytest.mark.parametrize("does", ["save", "clear", "remove"])
def test_a_job_that_stands_still_right_before_a_change_of_progress(
    system, monkeypatch, does
):
    """Another takes the task over at that moment and saves its own."""
    other = system_dir.SystemDir.open(system.where)
    system._job = leases.JobLeases(system._files, lease_secs=0.2)
    other._job = leases.JobLeases(other._files, lease_secs=0.2)
    if does == "remove":
        system.publish(store_samples.state(system))
    called = "rename" if does == "clear" else "replace"
    real = getattr(os, called)
    ours = contextlib.ExitStack()

    def stand_still(old, new):
        name = pathlib.Path(new if does == "save" else old).parent.name
        if name != "progress":
            return real(old, new)
        monkeypatch.setattr(os, called, real)
        _stopped(system._job)
        with contextlib.suppress(leases.TaskHeldError), other.lease("mnist"):
            pass
        time.sleep(0.25)
        ours.enter_context(other.lease("mnist"))
        other.save_progress("mnist", {"number": 7})
        return real(old, new)

    if does == "remove":
        called = "rename"
        real = os.rename
    with contextlib.suppress(leases.LeaseLostError), system.lease("mnist"):
        system.save_progress("mnist", {"number": 1})
        monkeypatch.setattr(os, called, stand_still)
        if does == "save":
            with pytest.raises(leases.LeaseLostError, match="over"):
                system.save_progress("mnist", {"number": 2})
        elif does == "clear":
            system.clear_progress("mnist")
        else:
            system.remove("mnist")
    with ours:
        assert other.load_progress("mnist") == {"number": 7}
    assert other.check() == []
    assert list(other.files.temporaries()) == []


def test_a_killed_job_frees_its_tasks_at_once(system):
    program = textwrap.dedent(
        """
        import sys, time
        from keras_munet.store import system_dir
        system = system_dir.SystemDir.open(sys.argv[1])
        with system.lease("mnist"):
            print("held", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, system.where], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with (
            pytest.raises(leases.TaskHeldError, match=f"pid {process.pid} "),
            system.lease("mnist"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with system.lease("mnist"):
        pass
    system.collect()
    assert system.check() == []


def test_a_lease_ends_with_an_error_in_its_block(system):
    with pytest.raises(ZeroDivisionError), system.lease("mnist"):
        raise ZeroDivisionError
    with system_dir.SystemDir.open(system.where).lease("mnist"):
        pass


def test_a_damaged_lease_holds_nobody_up(system, tmp_path):
    folder = tmp_path / "system" / "leases"
    folder.mkdir()
    (folder / "mnist.json").write_bytes(b"torn")
    with system.lease("mnist"):
        pass


def test_jobs_on_many_tasks_at_once_lose_no_publication(system):
    num_rounds = 6
    problems = []

    def work(task):
        try:
            own = system_dir.SystemDir.open(system.where)
            for number in range(1, num_rounds + 1):
                # What is stored and not yet named is safe in such a block.
                with own.lease(task), own.naming():
                    own.publish(
                        store_samples.state(
                            own,
                            task,
                            num_iterations_done=number,
                            value=100.0 * number,
                        )
                    )
                own.tidy()
        except errors.MunetError as error:
            problems.append(error)

    tasks = [f"task{i}" for i in range(4)]
    threads = [threading.Thread(target=work, args=(t,)) for t in tasks]
    for thread in threads:
        thread.start()
    reader = system_dir.SystemDir.open(system.where)
    while any(thread.is_alive() for thread in threads):
        for state in reader.tasks().values():
            assert state.num_iterations_done <= num_rounds
    for thread in threads:
        thread.join()
    assert problems == []
    done = {s.num_iterations_done for s in reader.tasks().values()}
    assert sorted(reader.tasks()) == tasks and done == {num_rounds}
    reader.collect()
    assert reader.check() == []


def test_a_lease_that_a_loss_of_power_tore_is_tidied_away(system, tmp_path):
    folder = tmp_path / "system" / "leases"
    folder.mkdir()
    (folder / "mnist.json").write_bytes(b"torn")
    assert len(system.check()) == 1
    # The mark of the job that wrote it is lost too.
    system_dir.SystemDir.open(system.where).tidy()
    assert system.check() == []
