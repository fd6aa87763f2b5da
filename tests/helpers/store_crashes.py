"""Kills a process at every system call of a change to a system.

Run as `python store_crashes.py CHANGE FOLDER`, in a process of its own since
it forks. Prints the number of kills; a broken promise ends it with a trace.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import store_samples

from keras_munet.store import archives
from keras_munet.store import merge
from keras_munet.store import system_dir

CALLS = ("open", "write", "fsync", "replace", "mkdir", "unlink", "ftruncate")
NUM_KILLS_MAX = 1000
_SECS_MAX = 600


def apart(change: str, folder: pathlib.Path) -> int:
    """Checks a change in a process of its own.

    A fork of one with other threads, as the tests' own is, may stand still.

    Args:
      change: one of CHANGES or ALONE.
      folder: for it alone, but for what it says that it expects there.

    Returns:
      How many times it was killed.
    """
    root = pathlib.Path(__file__).resolve().parents[2]
    found = subprocess.run(
        [sys.executable, __file__, change, str(folder)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=_SECS_MAX,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


def kill_before_call(num_calls: int, *, half: bool) -> None:
    """Arms this process to die at one of its next system calls.

    Args:
      num_calls: how many calls are let through.
      half: whether half of the bytes are written if that call is a write.
    """
    left = [num_calls]

    def arm(name):
        real = getattr(os, name)

        def wrapper(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                if half and name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, name, wrapper)

    for name in CALLS:
        arm(name)


def survives(change, *, num_calls: int, half: bool) -> bool:
    """Whether `change` ends in a child process armed to die."""
    child = os.fork()
    if child == 0:
        try:
            kill_before_call(num_calls, half=half)
            change()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the change itself failed"
    return True


def snapshot(system):
    """Everything a reader can see."""
    return (
        system.experiment,
        system.root,
        system.tasks(),
        system.load_progress("mnist"),
    )


def prepared(folder: pathlib.Path) -> None:
    """A system with one published task and progress on it."""
    system = store_samples.create(folder)
    system.publish(store_samples.state(system))
    head = system.objects.put(store_samples.component("head", 30.0))
    system.save_progress("mnist", {"refs": [head.to_json()]})


def publish(folder: pathlib.Path) -> None:
    system = system_dir.SystemDir.open(folder)
    with system.lease("mnist"):
        system.publish(
            store_samples.state(system, num_iterations_done=2, value=20.0)
        )


def publish_first(folder: pathlib.Path) -> None:
    system = system_dir.SystemDir.open(folder)
    system.publish(store_samples.state(system, task="emnist/digits"))


def save_progress(folder: pathlib.Path) -> None:
    system = system_dir.SystemDir.open(folder)
    head = system.objects.put(store_samples.component("head", 40.0))
    system.save_progress("mnist", {"refs": [head.to_json()] * 2})


def collect(folder: pathlib.Path) -> None:
    system = system_dir.SystemDir.open(folder)
    system.collect()


CHANGES = {
    f.__name__: f for f in (publish, publish_first, save_progress, collect)
}


def kill_at_every_call(name: str, work: pathlib.Path) -> int:
    """Checks a change; returns how many times it was killed."""
    change = CHANGES[name]
    start = work / "start"
    prepared(start)
    if name == "collect":
        system = system_dir.SystemDir.open(start)
        for value in range(3):
            system.objects.put(store_samples.component("rubbish", value))
        (start / "tasks" / ".tmp-1").write_bytes(b"half")
        os.utime(start / "tasks" / ".tmp-1", (0, 0))
    old = snapshot(system_dir.SystemDir.open(start))
    finished = work / "finished"
    shutil.copytree(start, finished)
    change(finished)
    new = snapshot(system_dir.SystemDir.open(finished))
    allowed = [old, new]
    if name == "publish":
        # Published, progress not yet cleared: it no longer counts.
        assert new[3] is None
    seen = []
    num_kills = 0
    for half in (False, True):
        for num_calls in range(NUM_KILLS_MAX):
            folder = work / "trial"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(start, folder)
            if survives(
                lambda folder=folder: change(folder),
                num_calls=num_calls,
                half=half,
            ):
                break
            num_kills += 1
            system = system_dir.SystemDir.open(folder)
            found = snapshot(system)
            assert found in allowed, (num_calls, found)
            assert system.check() == [], (num_calls, system.check())
            seen.append(allowed.index(found))
            change(folder)
            assert snapshot(system) == new, num_calls
            system.collect()
            assert list(folder.rglob(".tmp-*")) == []
            assert system.check() == []
        else:
            raise AssertionError("the change never ended")
    if old != new:
        assert seen[0] == 0, "no kill came before the change"
    return num_kills


def kill_creation_at_every_call(work: pathlib.Path) -> int:
    """Checks `create`; returns how many times it was killed."""
    finished = snapshot(store_samples.create(work / "finished"))
    num_kills = 0
    for half in (False, True):
        for num_calls in range(NUM_KILLS_MAX):
            folder = work / f"trial-{half}-{num_calls}"
            if survives(
                lambda folder=folder: store_samples.create(folder),
                num_calls=num_calls,
                half=half,
            ):
                break
            num_kills += 1
            if not system_dir.SystemDir.is_system(folder):
                store_samples.create(folder)
            system = system_dir.SystemDir.open(folder)
            assert snapshot(system) == finished, num_calls
            assert system.check() == []
            system.collect()
            assert list(folder.rglob(".tmp-*")) == []
        else:
            raise AssertionError("the creation never ended")
    return num_kills


def kill_import_now_and_then(work: pathlib.Path) -> int:
    """Checks the import of `work / "system.tar"`; returns the kills."""
    archive = work / "system.tar"
    finished = archives.import_archive(archive, work / "finished")
    for num_kills, num_calls in enumerate(range(0, 400, 7)):
        folder = work / f"trial{num_calls}"

        def change(folder=folder):
            archives.import_archive(archive, folder)

        if survives(change, num_calls=num_calls, half=False):
            return num_kills
        # No half of a system can be opened; the same call makes the whole.
        if not system_dir.SystemDir.is_system(folder):
            change()
        found = system_dir.SystemDir.open(folder)
        assert found.check() == []
        assert found.tasks() == finished.tasks()
    raise AssertionError("the import never ended")


def kill_merge_now_and_then(work: pathlib.Path) -> int:
    """Checks a merge of two systems; returns how many times it was killed."""
    source = store_samples.create(work / "source")
    source.publish(store_samples.state(source, task="kmnist", value=10.0))
    for num_kills, num_calls in enumerate(range(0, 400, 3)):
        folder = work / str(num_calls)
        store_samples.create(folder)

        def change(folder=folder):
            merge.merge(
                system_dir.SystemDir.open(folder),
                system_dir.SystemDir.open(work / "source"),
            )

        done = survives(change, num_calls=num_calls, half=False)
        target = system_dir.SystemDir.open(folder)
        assert target.check() == []
        change()
        assert [s.published for s in target.tasks().values()] == [
            s.published for s in source.tasks().values()
        ]
        if done:
            return num_kills
    raise AssertionError("the merge never ended")


# Changes with a check of their own.
ALONE = {
    "create": kill_creation_at_every_call,
    "import": kill_import_now_and_then,
    "merge": kill_merge_now_and_then,
}


if __name__ == "__main__":
    work_dir = pathlib.Path(sys.argv[2])
    if sys.argv[1] in ALONE:
        print(ALONE[sys.argv[1]](work_dir))
    else:
        print(kill_at_every_call(sys.argv[1], work_dir))
