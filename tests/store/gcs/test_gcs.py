"""A system in a bucket: one upload, one winner, answers lost, locks fenced.

What every place must do is tested in `store/test_files.py`, on this one too.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import threading
import time

import gcs_server
import pytest
import store_samples

from keras_munet import errors
from keras_munet.report import events
from keras_munet.store import archives
from keras_munet.store import event_log
from keras_munet.store import files as files_lib
from keras_munet.store import leases
from keras_munet.store import storage
from keras_munet.store import system_dir
from keras_munet.store.gcs import files as gcs_files
from keras_munet.store.gcs import locks as gcs_locks

_PLACE = "gs://bucket/some/system"
_TERM_SECS = 0.6
# Of one who waits for a renewal: a busy machine may stand still for a while.
_PATIENT_SECS = 6.0


def _files(**options):
    options = {"term_secs": _TERM_SECS, "retry_secs": 30.0, **options}
    return gcs_files.GcsStorage(_PLACE, **options)


@pytest.fixture
def files(bucket):
    return _files()


def _once(wanted, fault):
    """A fault that the first request of one kind meets."""
    met = []

    def injected(method, kind, name):
        if (method, kind) == wanted and not met:
            met.append(name)
            return fault
        return None

    return injected


def _stall(lock):
    """Has a lock renew nothing from now on, as if its process stood still."""
    lock._mutex.acquire()
    return lock._mutex.release


def _old(lock):
    # As it looks to a process that stood still for a term.
    lock._renewed -= _TERM_SECS


class TestWrites:
    def test_a_write_is_one_upload(self, files, bucket):
        files.write_atomic("tasks/a.json", b"1")
        bucket.requests.clear()
        files.write_atomic("tasks/a.json", b"2")
        assert [kind for _, kind, _ in bucket.requests].count("upload") == 1
        assert files.read("tasks/a.json", 1) == b"2"

    def test_a_large_file_comes_back_whole(self, files, bucket):
        data = bytes(range(256)) * (36 << 10)
        files.write_atomic("a", data)
        assert len(data) > 8 << 20
        assert files.read("a", len(data)) == data

    def test_of_two_writers_that_expect_the_same_one_wins(self, bucket):
        _files().write_atomic("a", b"old")
        barrier = threading.Barrier(4)
        won = []

        def write(number):
            own = _files()
            barrier.wait()
            if own.compare_and_swap("a", b"old", b"by %d" % number):
                won.append(b"by %d" % number)

        threads = [
            threading.Thread(target=write, args=(number,))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert _files().read("a", 9) == won[0]

    def test_what_is_written_between_reading_and_writing_is_kept(
        self, files, bucket
    ):
        files.write_atomic("a", b"old")

        def other(method, kind, name):
            if kind == "upload":
                bucket.fault = lambda *args: None
                bucket.put("some/system/a", b"theirs")

        bucket.fault = other
        assert not files.compare_and_swap("a", b"old", b"mine")
        assert files.read("a", 9) == b"theirs"

    def test_expecting_nothing_means_that_there_is_nothing(self, files):
        assert files.compare_and_swap("a", None, b"1")
        assert not files.compare_and_swap("a", None, b"2")
        assert not files.compare_and_swap("b", b"1", b"2")
        assert files.compare_and_swap("b", None, None)
        assert files.compare_and_swap("a", b"1", None)
        assert not files.exists("a")

    @pytest.mark.parametrize("fault", [gcs_server.LOST, 429, 503])
    def test_an_answer_that_is_lost_or_bad_does_not_lose_the_write(
        self, files, bucket, fault
    ):
        files.write_atomic("a", b"old")
        bucket.fault = _once(("POST", "upload"), fault)
        assert files.compare_and_swap("a", b"old", b"new")
        assert files.read("a", 9) == b"new"
        bucket.requests.clear()
        bucket.fault = _once(("POST", "upload"), fault)
        files.write_atomic("b", b"1")
        uploads = [r for r in bucket.requests if r[1] == "upload"]
        # A write that was done is recognised, and not done again.
        assert len(uploads) == (1 if fault == gcs_server.LOST else 2)
        assert files.read("b", 9) == b"1"

    def test_another_ones_write_is_not_taken_for_the_lost_one(
        self, files, bucket
    ):
        files.write_atomic("a", b"old")

        def other(method, kind, name):
            if kind == "upload":
                bucket.fault = lambda *args: None
                bucket.put("some/system/a", b"new")
                return 503
            return None

        bucket.fault = other
        assert not files.compare_and_swap("a", b"old", b"new")

    def test_a_delete_whose_answer_is_lost_is_done(self, files, bucket):
        files.write_atomic("a", b"1")
        bucket.fault = _once(("DELETE", "meta"), gcs_server.LOST)
        assert files.compare_and_swap("a", b"1", None)
        assert not files.exists("a")

    @pytest.mark.parametrize("kind", ["meta", "media"])
    def test_a_read_is_made_again(self, files, bucket, kind):
        files.write_atomic("a", b"1")
        bucket.fault = _once(("GET", kind), 503)
        assert files.read("a", 1) == b"1"

    def test_a_file_replaced_while_it_is_read_is_the_old_or_the_new(
        self, files, bucket
    ):
        files.write_atomic("a", b"old")

        def other(method, kind, name):
            if kind == "media":
                bucket.fault = lambda *args: None
                bucket.put("some/system/a", b"newer")

        bucket.fault = other
        assert files.read("a", 9) == b"newer"

    def test_a_large_file_is_refused_before_it_is_downloaded(
        self, files, bucket
    ):
        files.write_atomic("a", b"1234")
        bucket.requests.clear()
        with pytest.raises(errors.StoreError, match="4 bytes; at most 3"):
            files.read("a", 3)
        assert [kind for _, kind, _ in bucket.requests] == ["meta"]

    @pytest.mark.parametrize(
        ("status", "advice"),
        [(403, "give this account the right"), (503, "run again")],
    )
    def test_what_the_service_refuses_is_one_line(self, bucket, status, advice):
        files = _files(retry_secs=0.3)
        bucket.fault = lambda method, kind, name: status
        for call in (
            lambda: files.read("a", 1),
            lambda: files.write_atomic("a", b""),
            lambda: files.delete("a"),
            lambda: list(files.list()),
        ):
            with pytest.raises(errors.StoreError, match=advice) as info:
                call()
            assert "\n" not in str(info.value)

    def test_versions_change_with_every_write(self, files):
        files.write_atomic("tasks/a", b"1")
        files.write_atomic("tasks/b/c", b"1")
        before = files.versions("tasks")
        files.write_atomic("tasks/a", b"1")
        after = files.versions("tasks")
        assert list(before) == list(after) == ["tasks/a"]
        assert before != after
        assert 0 <= files.age_secs("tasks/a") < 60

    def test_other_systems_of_the_bucket_are_not_seen(self, files, bucket):
        bucket.put("some/system2/a", b"")
        bucket.put("some/system/", b"")
        files.write_atomic("b", b"")
        assert list(files.list()) == ["b"]


class TestLocks:
    def test_a_holder_that_lives_keeps_its_lock(self, bucket):
        first, second = _files(), _files(term_secs=_PATIENT_SECS)
        lock = first.lock("lock", "the first")
        for _ in range(3):
            with pytest.raises(storage.LockHeldError) as info:
                second.lock("lock", "me")
            assert info.value.holder == "the first"
            time.sleep(_TERM_SECS)
        first.write_atomic("a", b"")
        lock.release()
        second.lock("lock", "me").release()

    def test_a_holder_that_renews_while_it_is_read_is_named(self, bucket):
        _files().lock("lock", "the first")
        renewals = []

        def renewed(method, kind, name):
            if kind == "media" and name.endswith("/lock") and not renewals:
                renewals.append(bucket.put(name, bucket.objects[name][0]))

        bucket.fault = renewed
        with pytest.raises(storage.LockHeldError) as info:
            _files(term_secs=_PATIENT_SECS).lock("lock", "me")
        assert renewals
        assert info.value.holder == "the first"

    def test_a_lock_is_shared_or_held_alone(self, bucket):
        first, second = _files(), _files(term_secs=_PATIENT_SECS)
        locks = [f.lock("locks/x", "me", shared=True) for f in (first, second)]
        with pytest.raises(storage.LockHeldError):
            _files(term_secs=_PATIENT_SECS).lock("locks/x", "alone")
        for lock in locks:
            lock.release()
        alone = first.lock("locks/x", "alone")
        with pytest.raises(storage.LockHeldError):
            second.lock("locks/x", "me", shared=True)
        alone.release()
        assert list(first.list()) == ["locks/x"]

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_holder_that_stood_still_writes_nothing(self, bucket, shared):
        stalled, other = _files(), _files()
        stalled.write_atomic("a", b"old")
        lock = stalled.lock("lock", "stalled", shared=shared)
        resume = _stall(lock)
        began = time.monotonic()
        taken = []
        thread = threading.Thread(
            target=lambda: taken.append(other.lock("lock", "other"))
        )
        thread.start()
        thread.join(60)
        assert taken
        assert time.monotonic() - began >= _TERM_SECS
        resume()
        _old(lock)
        for call in (
            lambda: stalled.write_atomic("a", b"late"),
            lambda: stalled.compare_and_swap("a", b"old", b"late"),
            lambda: stalled.delete("a"),
        ):
            with pytest.raises(gcs_locks.LockLostError, match="run again"):
                call()
        lock.release()
        assert other.read("a", 9) == b"old"
        with pytest.raises(storage.LockHeldError):
            other.lock("lock", "a third")
        # Without the lock it is a writer like any other.
        stalled.write_atomic("b", b"")
        taken[0].release()

    def test_a_holder_that_stood_still_while_nobody_waited_goes_on(
        self, bucket
    ):
        files = _files()
        lock = files.lock("lock", "me")
        resume = _stall(lock)
        time.sleep(_TERM_SECS)
        resume()
        _old(lock)
        files.write_atomic("a", b"")
        lock.release()

    def test_a_write_is_not_repeated_without_the_lock(self, bucket):
        files = _files()
        files.write_atomic("a", b"old")
        lock = files.lock("lock", "me")
        resume = _stall(lock)

        def broken(method, kind, name):
            if kind == "upload" and name.endswith("/a"):
                bucket.put("some/system/lock", b"another's")
                _old(lock)
                return 503
            return None

        bucket.fault = broken
        with pytest.raises(gcs_locks.LockLostError):
            files.write_atomic("a", b"new")
        resume()
        lock.release()
        assert files.read("a", 9) == b"old"

    def test_a_renewal_whose_answer_is_lost_does_not_lose_the_lock(
        self, bucket
    ):
        files = _files()
        lock = files.lock("lock", "me")
        bucket.fault = _once(("POST", "upload"), gcs_server.LOST)
        time.sleep(_TERM_SECS / 2)
        _old(lock)
        files.write_atomic("a", b"")
        lock.release()

    def test_many_who_want_a_lock_have_it_one_after_the_other(self, bucket):
        inside, most, ended = [], [], []

        def work():
            own = _files(term_secs=_PATIENT_SECS)
            for _ in range(3):
                lock = storage.wait_for_lock(lambda: own.lock("lock", "me"), 60)
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.01)
                inside.pop()
                lock.release()
            ended.append(1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == 3
        assert max(most) == 1

    def test_a_file_that_is_no_lock_of_a_bucket_ends_with_the_term(
        self, files, bucket
    ):
        # As a copied local folder has it.
        bucket.put("some/system/lock", b"4711")
        files.lock("lock", "me").release()

    def test_a_dead_job_loses_its_task_and_a_living_one_does_not(self, bucket):
        first = leases.JobLeases(_files())
        second = leases.JobLeases(_files(term_secs=_PATIENT_SECS))
        first.take("mnist")
        with pytest.raises(leases.TaskHeldError, match="another job"):
            second.take("mnist")
        # As if its process had been killed.
        first._ended.set()
        _stall(first._alive)
        later = leases.JobLeases(_files())
        later.take("mnist")
        later.release("mnist")

    def test_nobody_can_write_among_the_locks(self, files):
        for call in (
            lambda: files.write_atomic(".shared-locks/a", b""),
            lambda: files.delete(".shared-locks/a"),
            lambda: list(files.list(".shared-locks")),
        ):
            with pytest.raises(errors.StoreError, match="locks of a bucket"):
                call()

    def test_dead_jobs_are_told_apart_within_one_term(self, bucket):
        first, watching = _files(), _files()
        names = [f"jobs/{number}" for number in range(8)]
        locks = [first.lock(name, "me") for name in names]
        for lock in locks[1:]:
            _stall(lock)
        living = [f"jobs/{number}" for number in (8, 9)]
        others = [_files().lock(name, "other") for name in living]
        began = time.monotonic()
        held = watching.locks_in_use([*names, *living, "jobs/none"])
        assert time.monotonic() - began < 4 * _TERM_SECS
        assert held == {names[0], *living}
        # Whoever counted as dead finds out before the next write.
        _old(locks[1])
        locks[1]._mutex = threading.RLock()
        with pytest.raises(gcs_locks.LockLostError):
            first.write_atomic("a", b"")
        for lock in [locks[0], *others]:
            lock.release()


class TestSystems:
    def test_a_system_is_made_checked_collected_and_archived(
        self, bucket, tmp_path
    ):
        made = store_samples.create(_PLACE)
        made.publish(store_samples.state(made))
        made.objects.put(store_samples.component("rubbish", 77.0))
        opened = system_dir.SystemDir.open(_PLACE)
        assert opened.check() == []
        assert opened.collect().num_objects == 1
        assert list(opened.tasks()) == ["mnist"]
        archives.export_archive(opened, tmp_path / "a.tar")
        local = archives.import_archive(tmp_path / "a.tar", tmp_path / "b")
        assert local.tasks() == opened.tasks()

    def test_a_stalled_job_publishes_nothing(self, bucket):
        store_samples.create(_PLACE)
        late = system_dir.SystemDir.open(_files())
        state = store_samples.state(late)
        refused = gcs_locks.LockLostError, leases.LeaseLostError
        with pytest.raises(refused), late.lease("mnist"):
            resume = _stall(late._job._alive)
            other = system_dir.SystemDir.open(_files())
            late._job._ended.set()
            with other.lease("mnist"):
                resume()
                _old(late._job._alive)
                late.publish(state)
        assert system_dir.SystemDir.open(_files()).tasks() == {}

    def test_a_run_ends_in_the_same_bytes_as_in_a_local_folder(
        self, bucket, tmp_path
    ):
        import store_jobs

        for place in (tmp_path / "local", _PLACE):
            store_jobs.create(place)
            store_jobs.run(place)
            assert system_dir.SystemDir.open(place).check() == []
        local = _contents(files_lib.open_storage(tmp_path / "local"))
        assert sum(name.startswith("tasks/") for name in local) == 2
        assert _contents(files_lib.open_storage(_PLACE)) == local

    def test_the_launcher_looks_after_a_bucket(self, bucket, tmp_path):
        store_samples.create(_PLACE)
        launcher = pathlib.Path(__file__).parents[3] / "launch/system.py"

        def said(*arguments):
            return subprocess.run(
                [sys.executable, launcher, *arguments],
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )

        whole = said("check", f"--workdir={_PLACE}")
        assert whole.stdout == f"{_PLACE} is whole: 0 tasks\n", whole.stderr
        remote = said(
            "export-archive", f"--workdir={_PLACE}", "--archive=gs://b/a.tar"
        )
        assert remote.returncode == 2
        assert "local folder" in remote.stderr
        assert remote.stderr.count("\n") == 1

    def test_events_of_many_at_once_are_all_kept(self, bucket):
        bucket.fault = lambda method, kind, name: time.sleep(0.005)
        files = [_files() for _ in range(6)]

        def tell(own, number):
            for i in range(4):
                event_log.append_lines(
                    own, "metrics.jsonl", b"%d %d\n" % (number, i)
                )

        threads = [
            threading.Thread(target=tell, args=(own, number))
            for number, own in enumerate(files)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = event_log.read_lines(files[0], "metrics.jsonl")
        assert sorted(lines) == sorted(
            b"%d %d" % (n, i) for n in range(6) for i in range(4)
        )

    def test_a_stalled_job_overwrites_no_progress(self, bucket):
        system = store_samples.create(_PLACE)
        late = system_dir.SystemDir.open(_files())
        other = system_dir.SystemDir.open(_files())
        write = late.files._bucket.write
        with contextlib.ExitStack() as ours:

            def stand_still(name, data, generation=None, **options):
                if name == "progress/mnist.json":
                    late._job._ended.set()
                    resume = _stall(late._job._alive)
                    ours.enter_context(other.lease("mnist"))
                    other.save_progress("mnist", {"number": 7})
                    resume()
                    # And even if its lock looked young enough to go on.
                    options["verify"] = None
                return write(name, data, generation, **options)

            with (
                pytest.raises((leases.LeaseLostError, gcs_locks.LockLostError)),
                late.lease("mnist"),
            ):
                late.files._bucket.write = stand_still
                late.save_progress("mnist", {"number": 2})
            assert system.load_progress("mnist") == {"number": 7}

    def test_events_grow_and_are_read(self, files):
        assert "there is no metrics" in events.read_history(_PLACE).notes[0]
        for number in range(3):
            event_log.append_lines(
                files, "metrics.jsonl", b'{"event":"%d"}\n' % number
            )
        assert len(event_log.read_lines(files, "metrics.jsonl")) == 3
        assert events.read_history(_PLACE).notes == ()

    def test_what_must_be_local_says_so(self, tmp_path):
        for call in (
            lambda: archives.import_archive("gs://b/a.tar", tmp_path / "x"),
            lambda: files_lib.require_local("gs://b/x", "an export"),
        ):
            with pytest.raises(errors.UsageError, match="local folder") as info:
                call()
            assert "\n" not in str(info.value)


def _contents(files):
    """Returns name -> bytes of all but locks and the log, which has times."""
    return {
        name: files.read(name, 1 << 30)
        for name in files.list()
        if name not in ("lock", event_log.METRICS_FILE)
        and not name.startswith(("locks/", "events/"))
    }


@pytest.mark.parametrize(
    "place",
    ["gs://", "gs://bucket", "gs://bucket/../x", "gs://b/a b", "gs://b//x"],
)
def test_a_bucket_that_is_misspelt_is_a_usage_error(place):
    with pytest.raises(errors.UsageError, match="gs://BUCKET/FOLDER"):
        files_lib.open_storage(place)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(errors.UsageError, match=r"keras_munet\[gcs\]") as info:
        files_lib.open_storage(_PLACE)
    assert "\n" not in str(info.value)


def test_without_credentials_the_login_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv(
        "GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json")
    )
    with pytest.raises(errors.StoreError, match="gcloud auth") as info:
        files_lib.open_storage(_PLACE).exists("a")
    assert "\n" not in str(info.value)
