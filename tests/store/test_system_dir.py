from __future__ import annotations

import dataclasses
import os
import signal

import hypothesis
import memory_files
import pytest
import store_samples
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import files
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.store import task_state


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        return files.LocalStorage(tmp_path / "system", durable=False)
    return memory_files.MemoryFiles()


@pytest.fixture
def system(place):
    return store_samples.create(place)


def test_a_new_system_holds_what_it_was_given(system, place):
    for found in (system, system_dir.SystemDir.open(place)):
        assert found.experiment == store_samples.EXPERIMENT
        assert found.family_json == store_samples.FAMILY
        assert found.root_source == "random"
        assert found.root.task == specs.NOT_TRAINABLE
        assert found.root.created_in == (-1, 0, 0)
        assert found.root.parent is None
        assert found.root.hparams == store_samples.HPARAMS
        assert [c.name for c in found.root.components] == ["c0", "c1"]
        assert found.tasks() == {}
        assert found.check() == []
    component = system.objects.get(system.root.components[1])
    assert store_samples.same(component, store_samples.component("c1", 1))


def test_what_a_caller_does_to_the_settings_does_not_change_them(system):
    system.experiment["search"]["mu"] = 9
    system.family_json["width"] = 9
    assert system.experiment == store_samples.EXPERIMENT
    assert system.family_json == store_samples.FAMILY


def test_a_local_path_is_a_place(tmp_path):
    store_samples.create(tmp_path / "a" / "b")
    assert system_dir.SystemDir.open(str(tmp_path / "a" / "b")).check() == []
    assert system_dir.SystemDir.is_system(tmp_path / "a" / "b")
    assert not system_dir.SystemDir.is_system(tmp_path / "a")


def test_a_second_creation_is_refused(system, place):
    with pytest.raises(errors.UsageError, match="already holds a system"):
        store_samples.create(place)


def test_a_folder_of_something_else_is_refused_and_left_alone(place):
    place.write_atomic("notes.txt", b"mine")
    with pytest.raises(errors.UsageError, match=r"not empty.*notes\.txt"):
        store_samples.create(place)
    assert list(place.list()) == ["notes.txt"]


def test_a_system_that_lost_its_record_is_not_made_anew(system, place):
    system.publish(store_samples.state(system))
    place.delete("system.json")
    with pytest.raises(errors.UsageError, match="not empty"):
        store_samples.create(place)


def test_settings_that_cannot_be_stored_leave_nothing(place):
    with pytest.raises(errors.StoreError, match="cannot be written"):
        system_dir.SystemDir.create(
            place,
            experiment={"x": float("nan")},
            family={},
            root_components=[store_samples.component()],
            root_hparams={},
            root_source="",
        )
    assert list(place.list()) == []


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_a_root_has_components_with_names_of_their_own(place, names):
    with pytest.raises(errors.UsageError, match="a name of its own"):
        system_dir.SystemDir.create(
            place,
            experiment={},
            family={},
            root_components=[store_samples.component(n) for n in names],
            root_hparams={},
            root_source="",
        )
    assert list(place.list()) == []


def test_two_creations_at_once_are_not_possible(place):
    lock = place.lock("lock", "17")
    with pytest.raises(errors.UsageError, match="pid 17"):
        store_samples.create(place)
    lock.release()
    store_samples.create(place)


def test_a_place_without_a_system_cannot_be_opened(place, tmp_path):
    with pytest.raises(errors.UsageError, match="holds no system"):
        system_dir.SystemDir.open(place)
    with pytest.raises(errors.UsageError, match="holds no system"):
        system_dir.SystemDir.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_system_record_is_told(system, place):
    place.write_atomic("system.json", b"{}")
    with pytest.raises(errors.StoreError, match=r"system\.json is damaged"):
        system_dir.SystemDir.open(place)


def test_a_newer_system_is_refused_with_both_versions(system, place):
    body = checksummed_json.unseal(
        place.read("system.json", 9999), "x", version_max=1
    )
    data = checksummed_json.seal({**body, "format_version": 7}, "system.json")
    place.write_atomic("system.json", data)
    with pytest.raises(errors.StoreError, match=r"format_version 7.* 1 to 1"):
        system_dir.SystemDir.open(place)


def test_a_published_state_is_what_every_reader_sees(system, place):
    state = store_samples.state(system, task="cmaterdb/bangla")
    system.publish(state)
    reader = system_dir.SystemDir.open(place)
    assert reader.tasks() == {"cmaterdb/bangla": state}
    assert reader.task("cmaterdb/bangla") == state
    assert list(place.list("tasks")) == ["tasks/cmaterdb~bangla.json"]
    assert reader.check() == []


def test_tasks_are_sorted_by_name(system):
    for value, task in enumerate(["b", "a/b", "a-b", "a", "B2"]):
        system.publish(store_samples.state(system, task=task, value=value))
    assert list(system.tasks()) == sorted(["b", "a/b", "a-b", "a", "B2"])


def test_publishing_again_replaces_one_task_only(system):
    first = store_samples.state(system)
    other = store_samples.state(system, task="kmnist", value=5.0)
    system.publish(first)
    system.publish(other)
    second = store_samples.state(system, num_iterations_done=2, value=20.0)
    system.publish(second)
    assert system.tasks() == {"kmnist": other, "mnist": second}


def test_an_unknown_task_is_told_with_the_known_ones(system):
    system.publish(store_samples.state(system))
    with pytest.raises(errors.UsageError, match=r"'kmnist'.*there are: mnist"):
        system.task("kmnist")


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "../x"},
        {"task": "kmnist"},
        {"task": "private:mnist"},
        {"private": 1},
        {"num_classes": 0},
        {"num_classes": 3},
        {"class_names": ["a", "b"]},
        {"num_iterations_done": True},
        {"retired": {"a": 1}},
        {"child_counts": {"a": -1}},
    ],
    ids=str,
)
def test_a_state_whose_parts_disagree_is_not_published(system, changes):
    state = dataclasses.replace(store_samples.state(system), **changes)
    with pytest.raises(errors.UsageError, match="cannot be published") as info:
        system.publish(state)
    assert "\n" not in str(info.value)
    assert system.tasks() == {}


def test_a_metric_that_is_no_number_is_not_published(system):
    state = store_samples.state(system)
    path = state.published.with_metrics(score=float("nan"))
    with pytest.raises(errors.StoreError, match="finite numbers"):
        system.publish(dataclasses.replace(state, published=path))
    assert system.tasks() == {}


def test_a_path_without_its_objects_is_not_published(system):
    state = store_samples.state(system)
    head = state.published.component("head")
    system.objects.delete(head.id)
    with pytest.raises(errors.StoreError, match=head.id):
        system.publish(state)
    assert system.tasks() == {}


def test_a_path_that_misnames_an_object_is_not_published(system):
    state = store_samples.state(system)
    *others, head = state.published.components
    wrong = dataclasses.replace(head, num_params=1)
    path = dataclasses.replace(state.published, components=(*others, wrong))
    with pytest.raises(errors.StoreError, match="its reference says"):
        system.publish(dataclasses.replace(state, published=path))


def test_two_tasks_that_differ_in_capitals_only_are_refused(system):
    system.publish(store_samples.state(system, task="mnist"))
    with pytest.raises(errors.UsageError, match="capitals"):
        system.publish(store_samples.state(system, task="MNIST"))
    assert list(system.tasks()) == ["mnist"]


def test_progress_comes_back(system, place):
    assert system.load_progress("mnist") is None
    system.save_progress("mnist", {"format_version": 1, "generation": 3})
    system.save_progress("a/b", {"generation": 4})
    reader = system_dir.SystemDir.open(place)
    expected = {"format_version": 1, "generation": 3}
    assert reader.load_progress("mnist") == expected
    assert reader.load_progress("a/b") == {"generation": 4}
    system.clear_progress("mnist")
    system.clear_progress("mnist")
    assert reader.load_progress("mnist") is None


def test_publishing_ends_the_progress_of_its_task_only(system, place):
    system.save_progress("mnist", {"generation": 3})
    system.save_progress("kmnist", {"generation": 4})
    system.publish(store_samples.state(system))
    assert list(place.list("progress")) == ["progress/kmnist.json"]
    assert system.load_progress("mnist") is None
    assert system.load_progress("kmnist") == {"generation": 4}


def test_progress_that_was_published_since_is_not_loaded(system, place):
    system.save_progress("mnist", {"generation": 3})
    left_over = place.read("progress/mnist.json", 9999)
    system.publish(store_samples.state(system))
    place.write_atomic("progress/mnist.json", left_over)
    assert system.load_progress("mnist") is None
    assert system.check() == []
    system.save_progress("mnist", {"generation": 0})
    assert system.load_progress("mnist") == {"generation": 0}


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\0", None])
def test_damaged_progress_counts_as_absent_with_a_warning(system, place, data):
    system.save_progress("mnist", {"generation": 3})
    name = "progress/mnist.json"
    if data is None:
        data = place.read(name, 9999).replace(b"3", b"4")
    place.write_atomic(name, data)
    with pytest.warns(RuntimeWarning, match=r"progress/mnist\.json is lost"):
        assert system.load_progress("mnist") is None
    system.save_progress("mnist", {"generation": 5})
    assert system.load_progress("mnist") == {"generation": 5}


def test_progress_that_lost_an_object_counts_as_absent(system):
    ref = system.objects.put(store_samples.component("new"))
    system.save_progress("mnist", {"children": [{"refs": [ref.to_json()]}]})
    assert system.load_progress("mnist") is not None
    system.objects.delete(ref.id)
    with pytest.warns(RuntimeWarning, match=ref.id):
        assert system.load_progress("mnist") is None
    assert ref.id in system.check()[0]


def test_progress_that_is_no_json_is_refused(system):
    with pytest.raises(errors.StoreError, match="cannot be written"):
        system.save_progress("mnist", {"x": float("inf")})


@pytest.mark.parametrize("task", ["../x", "", "a b", "/etc", "private:a", "~"])
def test_a_task_name_that_could_leave_the_folder_is_refused(system, task):
    for call in (
        lambda: system.task(task),
        lambda: system.save_progress(task, {}),
        lambda: system.load_progress(task),
        lambda: system.clear_progress(task),
    ):
        with pytest.raises(errors.UsageError, match="name"):
            call()


def test_collecting_removes_what_nothing_references(system):
    used = store_samples.state(system)
    system.publish(used)
    running = system.objects.put(store_samples.component("running"))
    system.save_progress("kmnist", {"deep": [{"x": {running.id: 1}}]})
    kept = system.objects.put(store_samples.component("kept"))
    rubbish = system.objects.put(store_samples.component("rubbish"))
    num_bytes = system.objects.num_bytes(rubbish.id)
    dry = system.collect([kept.id], dry_run=True)
    assert system.objects.has(rubbish.id)
    report = system.collect([kept.id])
    assert report == dry
    assert (report.num_objects, report.num_bytes) == (1, num_bytes)
    assert set(system.objects.ids()) == {
        running.id,
        kept.id,
        *(c.id for c in system.root.components),
        *(c.id for c in used.published.components),
    }
    assert system.check() == []
    assert system.collect([kept.id]).num_objects == 0


def test_collecting_removes_unfinished_writes(tmp_path):
    system = store_samples.create(tmp_path)
    left = tmp_path / "objects" / ".tmp-1"
    left.write_bytes(b"half")
    # Its writer is unknown and may be at work.
    assert system.collect().num_temporaries == 0
    os.utime(left, (0, 0))
    assert system.collect(dry_run=True).num_temporaries == 1
    assert system.collect().num_temporaries == 1
    assert not left.exists()


def test_collecting_spares_what_is_being_written_and_takes_what_was(tmp_path):
    system = store_samples.create(tmp_path)
    files = system.files

    def write():
        def stand_still(old, new):
            os.kill(os.getpid(), signal.SIGSTOP)
            os.rename(old, new)

        os.replace = stand_still
        files.write_atomic("report/page.html", b"whole")
        os._exit(0)

    for number in (signal.SIGCONT, signal.SIGKILL):
        writer = os.fork()
        if not writer:
            write()
        assert os.WIFSTOPPED(os.waitpid(writer, os.WUNTRACED)[1])
        assert system.collect().num_temporaries == 0
        os.kill(writer, number)
        assert (os.waitpid(writer, 0)[1] == 0) == (number == signal.SIGCONT)
    assert files.read("report/page.html", 10) == b"whole"
    # No age: its process is gone.
    assert system.collect().num_temporaries == 1


def test_a_collection_waits_for_nobody_but_who_stores(system, place):
    other = system_dir.SystemDir.open(place)
    with system.lease("mnist"):
        other.collect()
        ref = system.objects.put(store_samples.component("rubbish"))
        assert other.collect().num_objects == 1
        with system.naming():
            ref = system.objects.put(store_samples.component("new"))
            assert other.collect(dry_run=True).num_objects == 1
            other.tidy()
            system.save_progress("mnist", {"refs": [ref.to_json()]})
        assert other.collect().num_objects == 0
    assert system.objects.has(ref.id)


def test_the_same_settings_are_the_same_experiment(system):
    system.compare_experiment(store_samples.EXPERIMENT)
    system.compare_experiment(
        {"search": {"mu": 0.2, "version": "mu2net"}, "seed": 0.0}
    )


def test_another_experiment_is_told_by_its_first_keys(system):
    with pytest.raises(errors.UsageError) as info:
        system.compare_experiment(
            {
                "seed": False,
                "search": {"version": "munet", "mu": 0.3},
                "more": {"x": "y" * 500},
                "tasks": (),
            }
        )
    message = str(info.value)
    assert "more is nothing, not " in message
    assert "search.mu is 0.2, not 0.3" in message
    assert 'search.version is "mu2net", not "munet"' in message
    assert "and 2 more" in message
    assert len(message) < 600
    assert "\n" not in message


_IDS = st.text("0123456789abcdef", min_size=24, max_size=24)


@hypothesis.given(
    st.builds(
        task_state.TaskState,
        task=st.just("mnist"),
        private=st.booleans(),
        num_classes=st.just(2),
        class_names=st.tuples(st.text(), st.text()) | st.just(()),
        num_iterations_done=st.integers(0, 10**6),
        published=st.builds(
            specs.PathRecord,
            task=st.just("mnist"),
            parent=st.none() | _IDS,
            created_in=st.tuples(st.integers(), st.integers(), st.integers()),
            hparams=st.dictionaries(
                st.text(), st.none() | st.booleans() | st.integers() | st.text()
            ),
            components=st.just(()),
            metrics=st.dictionaries(
                st.text(), st.floats(allow_nan=False, allow_infinity=False)
            ),
        ),
        retired=st.dictionaries(_IDS, st.none() | _IDS),
        child_counts=st.dictionaries(_IDS, st.integers(0, 99)),
    )
)
@hypothesis.settings(deadline=None)
def test_any_state_comes_back_from_its_file(state):
    place = memory_files.MemoryFiles()
    system = store_samples.create(place, num_components=1)
    system.publish(state)
    assert system_dir.SystemDir.open(place).task("mnist") == state


def test_a_task_costs_its_new_components_and_at_most_8_kib(system, place):
    def num_bytes():
        return sum(place.num_bytes(name) for name in place.list())

    before = num_bytes()
    state = store_samples.state(system)
    system.publish(state)
    head = state.published.component("head")
    new = place.num_bytes(codec.file_name(head.id))
    assert num_bytes() - before - new <= 8 << 10


def test_progress_that_cannot_be_saved_keeps_its_objects(tmp_path):
    system = store_samples.create(tmp_path / "system")
    other = system_dir.SystemDir.open(tmp_path / "system")
    blocked = tmp_path / "system" / "progress" / "mnist.json"
    blocked.mkdir(parents=True)
    with system.lease("mnist"):
        with system.naming():
            ref = system.objects.put(store_samples.component("head", 5.0))
            error = system.keep_progress("mnist", {"refs": [ref.to_json()]})
        assert isinstance(error, errors.StoreError)
        # The next generation says what it starts from.
        with system.naming():
            system.use("mnist", [system.root.components[0].id])
        assert other.collect().num_objects == 0
        blocked.rmdir()
        saved = {"refs": [ref.to_json()], "number": 2}
        assert system.keep_progress("mnist", saved) is None
        assert other.collect().num_objects == 0
        assert other.load_progress("mnist") == saved
    system.clear_progress("mnist")
    assert other.collect().num_objects == 1


def test_progress_of_a_lost_lease_is_no_reason_to_go_on(tmp_path):
    system = store_samples.create(tmp_path / "system")
    with pytest.raises(leases.LeaseLostError), system.lease("mnist"):
        (tmp_path / "system" / "leases" / "mnist.json").unlink()
        system.keep_progress("mnist", {"number": 1})
