from __future__ import annotations

import memory_files
import pytest
import store_samples

from keras_munet import errors
from keras_munet.store import archives
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import repair
from keras_munet.store import system_dir


@pytest.fixture
def files():
    return memory_files.MemoryFiles()


@pytest.fixture
def system(files):
    """Two tasks and, of one of them, two generations of progress."""
    made = store_samples.create(files)
    made.publish(store_samples.state(made))
    made.publish(store_samples.state(made, task="kmnist", value=5.0))
    for value in (30.0, 40.0):
        ref = made.objects.put(store_samples.component("head", value))
        made.save_progress("mnist", {"refs": [ref.to_json()]})
    made.objects.put(store_samples.component("rubbish"))
    return made


@pytest.fixture
def copy(system):
    return _copied(system.files)


def _copied(files):
    made = memory_files.MemoryFiles()
    for name in files.list():
        made.write_atomic(name, files.read(name, 10**6))
    return made


def _damage(files, name):
    data = bytearray(files.read(name, 10**6))
    data[len(data) // 2] ^= 1
    files.write_atomic(name, bytes(data))


def _content(files):
    return {
        name: files.read(name, 10**6)
        for name in files.list()
        if not name.startswith("locks/")
    }


def _head(system, task="mnist"):
    head = system.tasks()[task].published.component("head")
    return codec.file_name(head.id)


def _rubbish():
    data = codec.encode(store_samples.component("rubbish"))
    return codec.file_name(codec.object_id(data))


def test_a_whole_system_is_left_alone(system, files, copy):
    before = _content(files)
    assert list(repair.repair(files)) == []
    assert list(repair.repair(files, copy)) == []
    assert _content(files) == before


def test_every_damaged_or_lost_file_comes_back_from_a_copy(system, files, copy):
    whole = _content(files)
    disposable = (*whole.keys() & {_rubbish()}, "progress/", "previous/")
    num_repaired = 0
    for name in sorted(whole):
        if name == layout.LOCK_FILE or name.startswith(disposable):
            continue
        for harm in (files.delete, lambda n: _damage(files, n)):
            harm(name)
            # Of a record that is gone as a whole, only the copy tells.
            assert system.check() or not files.exists(name), name
            done = list(repair.repair(files, copy))
            assert any(name in line for line in done), (name, done)
            assert _content(files) == whole, name
            num_repaired += 1
    assert num_repaired >= 14


def test_damage_all_over_is_mended_in_one_go(system, files, copy):
    whole = _content(files)
    for name in (layout.SYSTEM_FILE, "tasks/mnist.json", _head(system)):
        _damage(files, name)
    files.delete("tasks/kmnist.json")
    assert len(list(repair.repair(files, copy))) == 4
    assert _content(files) == whole


def test_without_a_copy_what_is_published_stays_damaged(system, files):
    for name in ("tasks/mnist.json", _head(system, "kmnist")):
        _damage(files, name)
    before = _content(files)
    assert list(repair.repair(files)) == []
    assert _content(files) == before
    assert len(system.check()) == 2


def test_damaged_progress_goes_and_the_one_before_it_counts(system, files):
    before = system.load_progress("mnist")
    _damage(files, "progress/mnist.json")
    assert system.check()
    (line,) = repair.repair(files)
    assert "progress/mnist.json was damaged: removed" in line
    assert system.check() == []
    found = system.load_progress("mnist")
    assert found is not None and found != before


@pytest.mark.parametrize("harm", ["damage", "delete"])
def test_progress_on_a_broken_object_goes_with_it(system, files, harm):
    (ref,) = system.load_progress("mnist")["refs"]
    name = codec.file_name(ref[1])
    if harm == "damage":
        _damage(files, name)
    else:
        files.delete(name)
    done = list(repair.repair(files))
    assert "progress/mnist.json needs objects" in done[0]
    assert len(done) == (2 if harm == "damage" else 1)
    assert system_dir.SystemDir.open(files).check() == []


def test_progress_is_kept_if_a_copy_has_its_object(system, files, copy):
    whole = _content(files)
    (ref,) = system.load_progress("mnist")["refs"]
    _damage(files, codec.file_name(ref[1]))
    assert len(list(repair.repair(files, copy))) == 1
    assert _content(files) == whole


def test_damaged_rubbish_and_leases_go(system, files):
    _damage(files, _rubbish())
    files.write_atomic("leases/mnist.json", b"{}")
    assert len(system.check()) == 2
    done = list(repair.repair(files))
    assert done == [
        "leases/mnist.json was damaged: removed",
        f"{_rubbish()} was damaged and in no path: removed",
    ]
    assert system.check() == []


def test_no_object_goes_while_a_record_cannot_be_read(system, files):
    _damage(files, _head(system))
    _damage(files, _rubbish())
    _damage(files, "tasks/mnist.json")
    assert list(repair.repair(files)) == []
    assert files.exists(_rubbish())


def test_what_a_newer_program_wrote_is_left_alone(system, files, copy):
    name = "tasks/mnist.json"
    body = checksummed_json.unseal(files.read(name, 10**6), name, version_max=1)
    newer = checksummed_json.seal({**body, "format_version": 2}, name)
    files.write_atomic(name, newer)
    assert list(repair.repair(files, copy)) == []
    assert files.read(name, 10**6) == newer


def test_a_damaged_copy_gives_nothing(system, files, copy):
    name = _head(system)
    _damage(files, name)
    _damage(copy, name)
    assert list(repair.repair(files, copy)) == []
    assert name in system.check()[0]


def test_a_removed_task_does_not_come_back_from_an_older_copy(
    system, files, copy
):
    system.remove("kmnist")
    system.collect()
    assert list(repair.repair(files, copy)) == []
    assert list(system.tasks()) == ["mnist"]


@pytest.mark.parametrize("harm", ["none", "damage", "delete"])
def test_another_system_is_no_copy(system, files, harm):
    other = memory_files.MemoryFiles()
    system_dir.SystemDir.create(
        other,
        experiment={},
        family=store_samples.FAMILY,
        root_components=[store_samples.component("other", 99.0)],
        root_hparams={},
        root_source="random",
    )
    if harm == "damage":
        _damage(files, layout.SYSTEM_FILE)
    elif harm == "delete":
        files.delete(layout.SYSTEM_FILE)
    before = _content(files)
    with pytest.raises(errors.UsageError, match="is no copy"):
        list(repair.repair(files, other))
    assert _content(files) == before


def test_a_folder_without_a_system_is_not_repaired(copy, tmp_path):
    empty = memory_files.MemoryFiles()
    for source in (None, copy):
        with pytest.raises(errors.UsageError, match=r"no system\.json"):
            list(repair.repair(empty, source))
    assert list(empty.list()) == []


def test_a_repair_waits_for_no_job(system, files, monkeypatch):
    monkeypatch.setattr(repair, "_QUIET_SECS", 0.05)
    other = system_dir.SystemDir.open(files)
    for block in (lambda: other.lease("new"), other.naming):
        with (
            block(),
            pytest.raises(errors.UsageError, match="a job is working"),
        ):
            list(repair.repair(files))
    assert list(repair.repair(files)) == []


def test_an_archive_serves_as_a_copy(system, files, tmp_path):
    archives.export_archive(system, tmp_path / "x.tar")
    copy = archives.import_archive(tmp_path / "x.tar", tmp_path / "copy")
    name = _head(system)
    _damage(files, name)
    (line,) = repair.repair(files, copy.files)
    assert name in line and "was taken from" in line
    assert system_dir.SystemDir.open(files).check() == []
