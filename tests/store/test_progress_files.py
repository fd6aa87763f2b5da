from __future__ import annotations

import memory_files
import pytest
import store_samples

from keras_munet import errors
from keras_munet.store import codec
from keras_munet.store import system_dir


@pytest.fixture
def files():
    return memory_files.MemoryFiles()


@pytest.fixture
def system(files):
    made = store_samples.create(files)
    made.publish(store_samples.state(made))
    return made


def _save(system, value):
    ref = system.objects.put(store_samples.component("head", value))
    payload = {"refs": [ref.to_json()], "generation": value}
    system.save_progress("mnist", payload)
    return payload, codec.file_name(ref.id)


def _damage(files, name):
    data = bytearray(files.read(name, 10**6))
    data[-2] ^= 1
    files.write_atomic(name, bytes(data))


@pytest.mark.parametrize("harm", ["damage", "delete"])
@pytest.mark.parametrize("what", ["object", "record"])
def test_a_damaged_newest_generation_falls_back_to_the_one_before(
    system, files, harm, what
):
    first, _ = _save(system, 30.0)
    _, newest = _save(system, 40.0)
    name = newest if what == "object" else "progress/mnist.json"
    if harm == "damage":
        _damage(files, name)
    else:
        files.delete(name)
    reader = system_dir.SystemDir.open(files)
    if what == "record" and harm == "delete":
        assert reader.load_progress("mnist") == first
        return
    with pytest.warns(RuntimeWarning, match="starts again from the last"):
        assert reader.load_progress("mnist") == first


def test_what_was_damaged_is_made_again_byte_for_byte(system, files):
    _save(system, 30.0)
    payload, name = _save(system, 40.0)
    whole = {n: files.read(n, 10**6) for n in files.list()}
    _damage(files, name)
    resumed = system_dir.SystemDir.open(files)
    with pytest.warns(RuntimeWarning, match=name[:12]):
        resumed.load_progress("mnist")
    assert _save(resumed, 40.0) == (payload, name)
    assert resumed.load_progress("mnist") == payload
    # The whole generation before the damage is still the one before.
    names = {n for n in whole if not n.startswith("locks/")}
    now = {n: files.read(n, 10**6) for n in names}
    progress = {"progress/mnist.json", "previous/mnist.json"}
    assert {n for n in names if now[n] != whole[n]} <= progress
    assert resumed.check() == []


def test_damage_of_both_starts_the_iteration_again(system, files):
    for value in (30.0, 40.0):
        _, name = _save(system, value)
        _damage(files, name)
    reader = system_dir.SystemDir.open(files)
    with pytest.warns(RuntimeWarning) as warned:
        assert reader.load_progress("mnist") is None
    assert len(warned) == 2


def test_a_damaged_value_is_found_though_the_header_is_whole(system, files):
    _, name = _save(system, 30.0)
    _damage(files, name)
    reader = system_dir.SystemDir.open(files)
    with pytest.warns(RuntimeWarning, match="is damaged: its SHA-256"):
        assert reader.load_progress("mnist") is None


def test_objects_of_the_generation_before_are_not_collected(system, files):
    first, _ = _save(system, 30.0)
    _save(system, 40.0)
    _save(system, 50.0)
    # Of three generations, the first alone has become rubbish.
    assert system.collect().num_objects == 1
    name = codec.file_name(first["refs"][0][1])
    assert not files.exists(name)
    assert system.check() == []


def test_publishing_and_clearing_end_both(system, files):
    for end in (
        lambda: system.clear_progress("mnist"),
        lambda: system.publish(
            store_samples.state(system, num_iterations_done=2, value=60.0)
        ),
    ):
        _save(system, 30.0)
        _save(system, 40.0)
        assert files.exists("previous/mnist.json")
        end()
        assert list(files.list("progress")) == []
        assert list(files.list("previous")) == []
        assert system.load_progress("mnist") is None


def test_what_came_before_a_publication_is_never_gone_back_to(system, files):
    _save(system, 30.0)
    _save(system, 40.0)
    left = files.read("previous/mnist.json", 10**6)
    system.publish(
        store_samples.state(system, num_iterations_done=2, value=60.0)
    )
    files.write_atomic("previous/mnist.json", left)
    assert system.load_progress("mnist") is None
    _save(system, 70.0)
    _damage(files, "progress/mnist.json")
    with pytest.warns(RuntimeWarning):
        assert system.load_progress("mnist") is None


def test_progress_of_a_task_whose_record_is_damaged_is_told(system, files):
    _save(system, 30.0)
    _damage(files, "tasks/mnist.json")
    with pytest.raises(errors.StoreError, match=r"tasks/mnist\.json"):
        system.save_progress("mnist", {})


def test_stale_progress_goes_before_what_it_names(system, files):
    _, name = _save(system, 30.0)
    left = files.read("progress/mnist.json", 10**6)
    system.publish(
        store_samples.state(system, num_iterations_done=2, value=60.0)
    )
    files.write_atomic("progress/mnist.json", left)
    assert files.exists(name)

    class Killed(BaseException):
        pass

    def delete(object_id):
        raise Killed

    system.objects.delete = delete
    with pytest.raises(Killed):
        system.collect()
    assert not files.exists("progress/mnist.json")
    assert system.check() == []


def test_young_rubbish_stays_for_the_grace_period(system, files):
    ref = system.objects.put(store_samples.component("rubbish"))
    for dry_run in (True, False):
        report = system.collect(dry_run=dry_run, grace_secs=60.0)
        assert (report.num_objects, report.num_young) == (0, 1)
    assert system.objects.has(ref.id)
    files._times[codec.file_name(ref.id)] -= 61.0
    report = system.collect(grace_secs=60.0)
    assert (report.num_objects, report.num_young) == (1, 0)
    assert not system.objects.has(ref.id)


def test_a_clock_that_went_back_costs_no_object(system, files):
    ref = system.objects.put(store_samples.component("rubbish"))
    files._times[codec.file_name(ref.id)] += 1e6
    assert system.collect(grace_secs=60.0).num_young == 1
    assert system.objects.has(ref.id)
