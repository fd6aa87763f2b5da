"""A reader of a bucket is told every publication, at a cost that does not grow.

The stand-in counts requests. What older versions publish is not announced: for
that the announcing is taken away, or a record is put into the bucket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time

import gcs_server
import pytest
import store_samples

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import layout
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.store.gcs import files as gcs_files
from keras_munet.store.gcs import publications
from keras_munet.system import population_view

_PLACE = "gs://bucket/some/system"
_FOLDER = "some/system/"


def _files():
    return gcs_files.GcsStorage(_PLACE, term_secs=0.6, retry_secs=30.0)


def _open():
    opened = system_dir.SystemDir.open(_files())
    opened.tasks()
    return opened


@pytest.fixture
def system(bucket):
    bucket.page_size_max = 1000
    made = store_samples.create(_files())
    made.publish(store_samples.state(made, "a"))
    return made


def _put(bucket, state):
    """Has another program put a task's record into the bucket."""
    name = layout.task_file(state.task)
    data = checksummed_json.seal(state.to_json(), name)
    bucket.put(f"{_FOLDER}{name}", data)


@contextlib.contextmanager
def _of_before():
    """Has publications of this process announce nothing, as of before."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            publications.Publications,
            "publication",
            lambda *_: contextlib.nullcontext(),
        )
        yield


def _requests(bucket, call):
    """Returns what a call asks the bucket: kind and name, a list's as `""`."""
    del bucket.requests[:]
    call()
    return [(kind, name) for _, kind, name in bucket.requests]


def _add_tasks(bucket, state, num):
    for number in range(num):
        task = f"task_{number:04}"
        path = dataclasses.replace(state.published, task=task)
        _put(bucket, dataclasses.replace(state, task=task, published=path))


def _open_from_memory(bucket, monkeypatch):
    """Opens a system whose many records cost no request each."""
    with monkeypatch.context() as patched:
        patched.setattr(
            gcs_files.GcsStorage,
            "read",
            lambda _, name, num_bytes_max: bucket.objects[_FOLDER + name][0],
        )
        return _open()


def test_a_refresh_costs_one_request_however_many_tasks_there_are(
    bucket, system, monkeypatch
):
    state = store_samples.state(system, "a")
    costs = {}
    for num_tasks in (10, 3000):
        _add_tasks(bucket, state, num_tasks)
        reader = _open_from_memory(bucket, monkeypatch)
        assert len(reader.tasks()) == num_tasks + 1
        newest = population_view.Newest(reader)
        nothing_new = _requests(bucket, newest)
        system.publish(store_samples.state(system, "a", num_iterations_done=2))
        one_new = _requests(bucket, newest)
        costs[num_tasks] = nothing_new, one_new
    assert costs[10] == costs[3000]
    nothing_new, one_new = costs[3000]
    assert nothing_new == [("list", "")]
    assert [kind for kind, _ in one_new] == ["list", "meta", "meta", "media"]
    assert {name for _, name in one_new[1:]} == {f"{_FOLDER}tasks/a.json"}


def test_publications_of_many_jobs_at_once_are_all_told(bucket, system):
    reader = _open()

    def work(number):
        own = system_dir.SystemDir.open(_files())
        for i in range(1, 4):
            task = f"task_{number}"
            own.publish(store_samples.state(own, task, num_iterations_done=i))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # Looks between, before and after the steps of a publication.
        reader.tasks()
    for thread in threads:
        thread.join()
    counts = {n: s.num_iterations_done for n, s in reader.tasks().items()}
    assert counts == {"a": 1} | {f"task_{n}": 3 for n in range(5)}
    fresh = _open()
    assert reader.tasks() == fresh.tasks()
    assert set(reader.records.users) == set(fresh.records.users)


@pytest.mark.parametrize("fault", [gcs_server.LOST, 503])
@pytest.mark.parametrize("number", range(6))
def test_a_publication_whose_answers_are_lost_is_told(
    bucket, system, fault, number
):
    reader = _open()
    uploads = []

    def injected(method, kind, name):
        if kind == "upload" and ("/tasks/" in name or "/published/" in name):
            uploads.append(name)
            return fault if len(uploads) == number + 1 else None
        return None

    state = store_samples.state(system, "b")
    bucket.fault = injected
    system.publish(state)
    bucket.fault = lambda *_: None
    assert reader.tasks()["b"] == state
    assert _requests(bucket, reader.tasks) == [("list", "")]


@pytest.mark.parametrize("is_before", [True, False])
def test_a_job_that_ends_around_its_write_loses_no_publication(
    bucket, system, is_before
):
    class Ended(BaseException):
        pass

    reader = _open()
    files = system.files
    swap = files.compare_and_swap

    def end(name, *arguments, **options):
        if not name.startswith("tasks/"):
            return swap(name, *arguments, **options)
        assert reader.find("b") is None
        if not is_before:
            swap(name, *arguments, **options)
        raise Ended

    state = store_samples.state(system, "b")
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Ended):
        patched.setattr(files, "compare_and_swap", end)
        system.publish(state)
    if is_before:
        assert reader.find("b") is None
        # As a process does that stood still in between.
        _put(bucket, state)
    assert reader.find("b") == state
    # And it costs no look at all records, now and later.
    for _ in range(2):
        asked = _requests(bucket, reader.tasks)
        assert [kind for kind, _ in asked].count("list") == 1


def test_a_bucket_that_refuses_the_announcement_keeps_the_old_record(
    bucket, system
):
    state = store_samples.state(system, "a", num_iterations_done=2)
    bucket.fault = lambda _, kind, name: 403 if "/published/" in name else None
    with pytest.raises(errors.StoreError, match="right to read, write"):
        system.publish(state)
    bucket.fault = lambda *_: None
    assert system.find("a").num_iterations_done == 1


def _drop(bucket, chosen):
    names = [n for n in bucket.objects if "/published/" in n]
    for name in chosen(names):
        del bucket.objects[name]


@pytest.mark.parametrize(
    "chosen",
    [
        lambda names: names,
        lambda names: names[:1],
        lambda names: names[1:-1],
    ],
    ids=["all", "the first", "between"],
)
def test_announcements_that_are_gone_cost_a_look_at_all(bucket, system, chosen):
    reader = _open()
    for task in ("b", "c", "d"):
        system.publish(store_samples.state(system, task))
    _drop(bucket, chosen)
    assert list(reader.tasks()) == ["a", "b", "c", "d"]
    system.publish(store_samples.state(system, "a", num_iterations_done=4))
    assert reader.tasks()["a"].num_iterations_done == 4


@pytest.mark.parametrize(
    "put",
    [
        lambda b: b.put(f"{_FOLDER}locks/published/000000000002", b""),
        lambda b: b.put(
            f"{_FOLDER}locks/published/000000000002",
            b"",
            {"record": "../../x", "is_made": "1", "token": "1"},
        ),
        lambda b: b.put(f"{_FOLDER}locks/published/x", b"1", {"record": "a"}),
    ],
    ids=["without labels", "outside", "of another name"],
)
def test_odd_objects_among_the_announcements_hide_no_publication(
    bucket, system, put
):
    reader = _open()
    put(bucket)
    for number in (2, 3):
        state = store_samples.state(system, "a", num_iterations_done=number)
        system.publish(state)
        assert reader.tasks()["a"] == state
    assert _requests(bucket, reader.tasks) == [("list", "")]


def test_only_the_last_announcements_are_kept(bucket, system, monkeypatch):
    monkeypatch.setattr(publications, "_NUM_KEPT", 4)
    behind = _open()
    for number in range(2, 12):
        state = store_samples.state(system, "a", num_iterations_done=number)
        system.publish(state)
    kept = [n for n in bucket.objects if "/published/" in n]
    assert len(kept) == 4
    assert behind.tasks()["a"] == state
    assert _requests(bucket, behind.tasks) == [("list", "")]
    assert _open().tasks() == behind.tasks()


class TestOlderVersions:
    """Jobs of older versions publish without an announcement."""

    def test_what_they_publish_is_seen_in_time(
        self, bucket, system, monkeypatch
    ):
        reader = _open()
        state = store_samples.state(system, "a", num_iterations_done=7)
        with _of_before():
            system.publish(state)
        assert reader.find("a").num_iterations_done == 1
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 301.0)
        assert reader.find("a") == state
        assert _requests(bucket, reader.tasks) == [("list", "")]

    def test_a_lease_shows_what_its_task_is_now(self, bucket, system):
        other = _open()
        state = store_samples.state(system, "a", num_iterations_done=7)
        with _of_before():
            system.publish(state)
        with other.lease("a"):
            assert other.find("a") == state

    def test_a_task_that_they_name_in_other_capitals_is_refused(
        self, bucket, system
    ):
        other = _open()
        with _of_before():
            system.publish(store_samples.state(system, "Birds"))
        with pytest.raises(errors.UsageError, match="capitals"):
            other.publish(store_samples.state(other, "birds"))

    def test_what_they_rely_on_is_not_collected(self, bucket, system):
        other = _open()
        first = store_samples.state(other, "b", value=3.0)
        other.publish(first)
        # Its head is in a task that nothing announced, and then nowhere else.
        path = dataclasses.replace(
            first.published, task="c", parent=system.root.id
        )
        with _of_before():
            system.publish(dataclasses.replace(first, task="c", published=path))
        second = store_samples.state(
            other, "b", value=4.0, num_iterations_done=2
        )
        other.publish(second)
        assert other.records.find_cached("c") is None
        other.tidy()
        assert system_dir.SystemDir.open(_PLACE).check() == []

    def test_a_parent_that_they_replaced_is_looked_at(self, bucket, system):
        other = _open()
        state = store_samples.state(system, "a", num_iterations_done=7)
        with _of_before():
            system.publish(state)
        assert other.records.look_at(["a"])
        assert other.records.find_cached("a") == state
        assert not other.records.look_at(["a", "none"])
        with _of_before():
            system.remove("a")
        assert other.records.look_at(["a"])
        assert isinstance(
            other.records.find_cached("a"), task_state.RemovedTask
        )


def test_records_are_read_side_by_side_and_a_refusal_ends_it(bucket, system):
    state = store_samples.state(system, "a")
    _add_tasks(bucket, state, 60)
    at_once, most = set(), []

    def injected(method, kind, name):
        at_once.add(threading.get_ident())
        most.append(len(at_once))
        time.sleep(0.005)
        at_once.discard(threading.get_ident())

    bucket.fault = injected
    assert len(_open().tasks()) == 61
    assert max(most) >= 4
    bucket.fault = lambda _, kind, name: 403 if kind == "media" else None
    with pytest.raises(errors.StoreError, match="right to read"):
        _open()
    assert sum(kind == "media" for _, kind, _ in bucket.requests) < 200
