"""Readers are told every change of a record, or look at all of them."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
import store_samples

from keras_munet import errors
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import publication_journal
from keras_munet.store import system_dir

_JOURNAL = publication_journal.JOURNAL_FILE


@pytest.fixture
def system(tmp_path):
    made = store_samples.create(tmp_path / "system")
    for task in ("a", "b", "c"):
        made.publish(store_samples.state(made, task))
    return made


@pytest.fixture
def reader(system, tmp_path):
    opened = system_dir.SystemDir.open(tmp_path / "system")
    assert list(opened.tasks()) == ["a", "b", "c"]
    _Counted(opened)
    return opened


class _Counted:
    """Counts what a reader reads and how often it lists all records."""

    def __init__(self, opened):
        self.reads = opened.reads = []
        self.listings = opened.listings = []
        files = opened.files
        read, versions = files.read, files.versions
        files.read = lambda name, n: self.reads.append(name) or read(name, n)
        files.versions = lambda f: self.listings.append(f) or versions(f)


def _reads(reader):
    """Returns the tasks whose records are read by a look, and its listings."""
    del reader.reads[:], reader.listings[:]
    reader.tasks()
    names = [n for n in reader.reads if n.startswith("tasks/")]
    return names, len(reader.listings)


def test_a_publication_costs_one_record_and_none_costs_none(system, reader):
    assert _reads(reader) == ([], 0)
    system.publish(store_samples.state(system, "b", num_iterations_done=2))
    assert _reads(reader) == (["tasks/b.json"], 0)
    assert reader.find("b").num_iterations_done == 2
    assert _reads(reader) == ([], 0)
    system.publish(store_samples.state(system, "d"))
    system.remove("a")
    assert _reads(reader) == (["tasks/d.json", "tasks/a.json"], 0)
    assert list(reader.tasks()) == ["b", "c", "d"]
    assert list(reader.removed()) == ["a"]


def test_publications_of_many_jobs_at_once_are_all_told(
    system, reader, tmp_path
):
    def work(number):
        own = system_dir.SystemDir.open(tmp_path / "system")
        for i in range(1, 6):
            own.publish(
                store_samples.state(own, f"t{number}", num_iterations_done=i)
            )
            seen[number] = own.tasks()[f"t{number}"].num_iterations_done

    seen = {}
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        reader.tasks()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    states = reader.tasks()
    assert {n: states[f"t{n}"].num_iterations_done for n in range(6)} == (
        dict.fromkeys(range(6), 5)
    )
    assert seen == dict.fromkeys(range(6), 5)


def _older_program(system, tmp_path):
    state = store_samples.state(system, "b", num_iterations_done=7)
    name = layout.task_file("b")
    before = system.files.read(name, 1 << 20)
    data = layout.checksummed_json.seal(state.to_json(), name)
    assert system.files.compare_and_swap(name, before, data)


def _by_hand(system, tmp_path):
    state = store_samples.state(system, "b", num_iterations_done=7)
    name = layout.task_file("b")
    data = layout.checksummed_json.seal(state.to_json(), name)
    (tmp_path / "new").write_bytes(data)
    os.replace(tmp_path / "new", tmp_path / "system" / name)


def _then_by_us(change):
    def both(system, tmp_path):
        change(system, tmp_path)
        system.publish(store_samples.state(system, "c", num_iterations_done=3))

    return both


def _then_old_time(system, tmp_path):
    """Sets the folder's time back, as some tools that copy do."""
    folder = tmp_path / "system" / "tasks"
    before = os.stat(folder)
    _by_hand(system, tmp_path)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        _older_program,
        _by_hand,
        _then_by_us(_older_program),
        _then_by_us(_by_hand),
        _then_old_time,
    ],
)
@pytest.mark.parametrize("journaled", [True, False])
def test_what_others_change_is_noticed(
    system, reader, tmp_path, change, journaled
):
    if journaled:
        system.publish(store_samples.state(system, "a", num_iterations_done=2))
        reader.tasks()
    change(system, tmp_path)
    assert reader.tasks()["b"].num_iterations_done == 7
    assert reader.listings
    # And from then on the journal is enough again.
    system.publish(store_samples.state(system, "a", num_iterations_done=4))
    reader.tasks()
    system.publish(store_samples.state(system, "a", num_iterations_done=5))
    assert _reads(reader) == (["tasks/a.json"], 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no journal\n" * 9),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(path.read_bytes() + b"[1, 2]\n"),
        lambda path: path.write_bytes(path.read_bytes() + b"[" * 5000 + b"\n"),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    ],
)
def test_a_journal_that_is_damaged_costs_a_look_at_all(
    system, reader, tmp_path, damage
):
    damage(tmp_path / "system" / _JOURNAL)
    for number in (2, 3, 4):
        system.publish(
            store_samples.state(system, "a", num_iterations_done=number)
        )
        assert reader.tasks()["a"].num_iterations_done == number
        fresh = system_dir.SystemDir.open(tmp_path / "system")
        assert fresh.tasks() == reader.tasks()
    if not (tmp_path / "system" / _JOURNAL).is_dir():
        # It was made anew.
        system.publish(store_samples.state(system, "a", num_iterations_done=5))
        assert _reads(reader) == (["tasks/a.json"], 0)


def test_a_full_journal_begins_anew(system, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(publication_journal, "_NUM_BYTES_MAX", 600)
    sizes, num_listings = [], 0
    for number in range(2, 40):
        system.publish(
            store_samples.state(system, "a", num_iterations_done=number)
        )
        num_listings += _reads(reader)[1]
        assert reader.find("a").num_iterations_done == number
        sizes.append((tmp_path / "system" / _JOURNAL).stat().st_size)
    assert max(sizes) <= 600
    assert 0 < num_listings < 12


def test_a_folder_whose_time_cannot_be_set_is_looked_at_as_a_whole(
    system, reader, monkeypatch
):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "not the owner")

    monkeypatch.setattr(publication_journal.os, "utime", refuse)
    for number in (2, 3):
        system.publish(
            store_samples.state(system, "a", num_iterations_done=number)
        )
        assert reader.tasks()["a"].num_iterations_done == number
        assert reader.listings


def test_a_file_system_with_coarse_times_is_looked_at_as_a_whole(
    system, reader, monkeypatch
):
    real = os.utime

    def coarse(path, ns):
        real(path, ns=tuple(t // 10**9 * 10**9 for t in ns))

    monkeypatch.setattr(publication_journal.os, "utime", coarse)
    for number in (2, 3, 4):
        system.publish(
            store_samples.state(system, "a", num_iterations_done=number)
        )
        assert reader.tasks()["a"].num_iterations_done == number


def test_a_job_that_is_killed_before_its_line_loses_no_publication(
    system, reader, tmp_path
):
    program = f"""
import os, signal, sys
sys.path[:0] = [{str(pathlib.Path(store_samples.__file__).parent)!r}]
import store_samples
from keras_munet.store import publication_journal, system_dir
publication_journal.Journal._append = (
    lambda *_: os.kill(os.getpid(), signal.SIGKILL)
)
own = system_dir.SystemDir.open({str(tmp_path / "system")!r})
own.publish(store_samples.state(own, "b", num_iterations_done=9))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert reader.tasks()["b"].num_iterations_done == 9
    system.publish(store_samples.state(system, "a", num_iterations_done=2))
    assert reader.tasks()["a"].num_iterations_done == 2


def test_of_two_publications_that_expect_the_same_one_is_made(tmp_path):
    places = [files_lib.LocalStorage(tmp_path) for _ in range(4)]
    barrier = threading.Barrier(4)
    made = []

    def publish(number):
        barrier.wait()
        if places[number].publish("tasks/a.json", None, b"%d" % number):
            made.append(b"%d" % number)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert places[0].read("tasks/a.json", 9) == made[0]
    assert list(places[0].temporaries()) == []


def test_a_refused_disk_leaves_the_old_record(tmp_path, monkeypatch):
    files = files_lib.LocalStorage(tmp_path)
    assert files.publish("tasks/a.json", None, b"old")

    def refuse(*args):
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(files_lib.os, name, refuse)
            with pytest.raises(errors.StoreError, match="no space"):
                files.publish("tasks/a.json", b"old", b"new")
        assert files.read("tasks/a.json", 9) == b"old"
        assert list(files.temporaries()) == []
    assert not files.publish("tasks/a.json", b"other", b"new")


def test_check_names_a_journal_that_says_what_is_not_so(system, tmp_path):
    assert system.check() == []
    journal = tmp_path / "system" / _JOURNAL
    whole = journal.read_bytes()
    # What a killed job or a loss of power leaves is no problem.
    for data in (b"", whole[:-3], whole[:17] + b"{}\n" + whole[17:]):
        journal.write_bytes(data)
        assert system.check() == []
    journal.write_bytes(whole)
    folder = tmp_path / "system" / "tasks"
    times = os.stat(folder)
    record = folder / "c.json"
    os.utime(record, ns=(1, record.stat().st_mtime_ns + 1))
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    (problem,) = system.check()
    assert "lacks a change of tasks/c.json; delete it" in problem
    journal.unlink()
    assert system.check() == []
