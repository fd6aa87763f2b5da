from __future__ import annotations

import warnings

import hypothesis
import memory_files
import pytest
import store_samples
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import system_dir


@pytest.fixture
def files():
    return memory_files.MemoryFiles()


@pytest.fixture
def system(files):
    made = store_samples.create(files, num_components=1)
    made.publish(store_samples.state(made))
    made.save_progress("kmnist", {"generation": 1, "text": "\u00e9\n"})
    return made


def _kinds(files):
    names = list(files.list())
    return {
        kind: next(n for n in names if n.startswith(kind))
        for kind in ("system.json", "tasks/", "progress/", "objects/")
    }


def test_a_whole_system_has_no_problems(system):
    assert system.check() == []


def test_every_single_byte_that_changes_is_found(system, files):
    num_changes = 0
    for kind, name in _kinds(files).items():
        data = files.read(name, 10**6)
        for at in range(len(data)):
            for mask in (0x01, 0x20, 0x80):
                damaged = bytearray(data)
                damaged[at] ^= mask
                files.write_atomic(name, bytes(damaged))
                assert system.check(), (kind, at, mask)
                num_changes += 1
        files.write_atomic(name, data)
    assert system.check() == []
    print(f"{num_changes} changed bytes found")
    assert num_changes > 3000


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_change_to_a_sealed_file_is_refused(data):
    body = {"format_version": 1, "a": [1, 2.5, None, "\u00e9", True], "b": {}}
    whole = checksummed_json.seal(body, "x.json")
    assert checksummed_json.unseal(whole, "x.json", version_max=1) == body
    changed = bytearray(whole)
    at = data.draw(st.integers(0, len(changed)))
    changed[at : at + data.draw(st.integers(0, 5))] = data.draw(
        st.binary(max_size=5)
    )
    hypothesis.assume(bytes(changed) != whole)
    with pytest.raises(errors.StoreError, match=r"x\.json is damaged") as info:
        checksummed_json.unseal(bytes(changed), "x.json", version_max=1)
    assert str(info.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"body":' * 5000,
        b'{"body":NaN}',
        b'{"body":1e999}',
        b'{"body":' + b"9" * 10_000 + b"}",
        b"\xff",
    ],
    ids=range(9),
)
def test_text_that_was_never_sealed_is_refused(data):
    with pytest.raises(errors.StoreError, match="damaged"):
        checksummed_json.unseal(data, "x.json", version_max=1)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@hypothesis.given(st.dictionaries(st.text(), _JSON, max_size=5))
@hypothesis.settings(max_examples=60, deadline=None)
def test_any_body_comes_back_from_its_seal(body):
    body = {**body, "format_version": 1}
    data = checksummed_json.seal(body, "x")
    assert checksummed_json.unseal(data, "x", version_max=1) == body
    assert checksummed_json.seal(body, "x") == data


@pytest.mark.parametrize("version", [2, 0, -1, "1", None, True, 1.0])
def test_another_format_version_is_refused_with_both_versions(version):
    data = checksummed_json.seal({"format_version": version}, "x.json")
    with pytest.raises(errors.StoreError, match="reads 1 to 1"):
        checksummed_json.unseal(data, "x.json", version_max=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x"])
def test_what_json_cannot_hold_is_not_sealed(value):
    with pytest.raises(errors.StoreError, match="cannot be written"):
        checksummed_json.seal({"x": value}, "x.json")


def _rewritten(files, name, **changes):
    body = checksummed_json.unseal(files.read(name, 10**6), name, version_max=9)
    files.write_atomic(name, checksummed_json.seal({**body, **changes}, name))


def _replace_path(files, **changes):
    """Reseals the published path with other content under its old id."""
    name = "tasks/mnist.json"
    body = checksummed_json.unseal(files.read(name, 10**6), name, version_max=9)
    body["published"] = {**body["published"], **changes}
    files.write_atomic(name, checksummed_json.seal(body, name))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: _rewritten(f, "tasks/mnist.json", format_version=2),
        lambda f: _rewritten(f, "tasks/mnist.json", task="kmnist"),
        lambda f: _rewritten(f, "tasks/mnist.json", task="../x"),
        lambda f: _rewritten(f, "tasks/mnist.json", task=1),
        lambda f: _rewritten(f, "tasks/mnist.json", private=0),
        lambda f: _rewritten(f, "tasks/mnist.json", num_classes="2"),
        lambda f: _rewritten(f, "tasks/mnist.json", num_classes=3),
        lambda f: _rewritten(f, "tasks/mnist.json", class_names=[1, 2]),
        lambda f: _rewritten(f, "tasks/mnist.json", num_iterations_done=-1),
        lambda f: _rewritten(f, "tasks/mnist.json", retired=[]),
        lambda f: _rewritten(f, "tasks/mnist.json", retired={"a": 1}),
        lambda f: _rewritten(f, "tasks/mnist.json", child_counts={"a": 1.5}),
        lambda f: _rewritten(f, "tasks/mnist.json", published=None),
        lambda f: _rewritten(f, "tasks/mnist.json", more=1),
        lambda f: _replace_path(f, hparams={}),
        lambda f: _replace_path(f, components=[]),
        lambda f: _replace_path(f, components=[["a"]]),
        lambda f: _replace_path(f, task="kmnist"),
        lambda f: _replace_path(f, extra=1),
        lambda f: _rewritten(f, "system.json", root={}),
        lambda f: _rewritten(f, "system.json", experiment=1),
        lambda f: _rewritten(f, "system.json", more=1),
        lambda f: _rewritten(f, "system.json", format_version=2),
        lambda f: f.delete("system.json"),
        lambda f: _rewritten(f, "progress/kmnist.json", task="mnist"),
        lambda f: _rewritten(f, "progress/kmnist.json", payload=1),
        lambda f: _rewritten(f, "progress/kmnist.json", follows=[1]),
        lambda f: f.write_atomic("tasks/x.json", b"{}"),
        lambda f: f.write_atomic("tasks/copy.txt", b"{}"),
        lambda f: f.write_atomic("tasks/a/b.json", b"{}"),
        lambda f: f.write_atomic("objects/x", b""),
        lambda f: f.write_atomic("objects/00/" + "1" * 64, b""),
        lambda f: f.write_atomic(
            f"objects/11/{'1' * 64}.safetensors", b"other"
        ),
        lambda f: f.delete(next(f.list("objects"))),
    ],
)
def test_a_record_that_breaks_a_rule_is_a_problem(system, files, change):
    change(files)
    problems = system.check()
    assert problems
    for problem in problems:
        assert "\n" not in problem


def test_a_missing_object_is_told_with_the_record_that_needs_it(system, files):
    head = system.tasks()["mnist"].published.component("head")
    files.delete(codec.file_name(head.id))
    (problem,) = system.check()
    assert "tasks/mnist.json" in problem
    assert head.id in problem


def test_a_lineage_that_leads_nowhere_is_a_problem(system):
    path = system.tasks()["mnist"].published
    system.publish(
        store_samples.state(system, task="kmnist", value=5.0, parent=path)
    )
    assert system.check() == []
    system.publish(
        store_samples.state(system, num_iterations_done=2, value=6.0)
    )
    (problem,) = system.check()
    assert path.id in problem
    system.publish(
        store_samples.state(
            system,
            num_iterations_done=2,
            value=6.0,
            retired={path.id: path.parent},
        )
    )
    assert system.check() == []


def test_a_lineage_in_a_circle_is_a_problem(system):
    path = system.tasks()["mnist"].published
    system.publish(
        store_samples.state(
            system,
            task="kmnist",
            value=5.0,
            parent=path,
            retired={path.id: path.id},
        )
    )
    system.publish(
        store_samples.state(system, num_iterations_done=2, value=6.0)
    )
    (problem,) = system.check()
    assert "comes back" in problem


def test_rubbish_is_no_problem(system):
    system.objects.put(store_samples.component("rubbish"))
    assert system.check() == []


@pytest.mark.parametrize("kind", ["system.json", "tasks/"])
def test_damage_costs_no_object_when_rubbish_is_collected(system, files, kind):
    system.objects.put(store_samples.component("rubbish"))
    before = list(system.objects.ids())
    name = _kinds(files)[kind]
    files.write_atomic(name, files.read(name, 10**6)[:-5])
    with pytest.raises(errors.StoreError, match=name):
        system.collect()
    assert list(system.objects.ids()) == before


def test_damaged_progress_does_not_stop_the_collection(system, files):
    ref = system.objects.put(store_samples.component("running"))
    system.save_progress("kmnist", {"refs": [ref.to_json()]})
    files.write_atomic("progress/kmnist.json", b"{}")
    with pytest.warns(RuntimeWarning, match="progress/kmnist"):
        assert system.collect().num_objects == 1


def test_progress_of_a_newer_program_keeps_its_objects(system, files):
    ref = system.objects.put(store_samples.component("running"))
    system.save_progress("kmnist", {"refs": [ref.to_json()]})
    _rewritten(files, "progress/kmnist.json", format_version=2)
    with pytest.raises(errors.StoreError, match="format_version 2"):
        system.collect()
    assert system.objects.has(ref.id)


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=150, deadline=None)
def test_a_mangled_system_is_refused_or_read_rightly(data):
    files = memory_files.MemoryFiles()
    system = store_samples.create(files, num_components=1)
    state = store_samples.state(system)
    system.publish(state)
    system.save_progress("mnist", {"generation": 1})
    name = data.draw(st.sampled_from(sorted(files.list())))
    mangled = bytearray(files.read(name, 10**6))
    at = data.draw(st.integers(0, len(mangled)))
    mangled[at : at + data.draw(st.integers(0, 9))] = data.draw(
        st.binary(max_size=9)
    )
    files.write_atomic(name, bytes(mangled))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = system_dir.SystemDir.open(files)
            assert found.root == system.root
            assert found.tasks() == {"mnist": state}
            assert found.load_progress("mnist") in (None, {"generation": 1})
            found.objects.get(state.published.components[-1])
        except errors.StoreError as error:
            assert "\n" not in str(error)


def test_progress_that_comes_back_after_its_publication_is_no_problem(
    system, files
):
    ref = system.objects.put(store_samples.component("running"))
    system.save_progress("mnist", {"refs": [ref.to_json()]})
    data = files.read("progress/mnist.json", 10**6)
    system.publish(store_samples.state(system, num_iterations_done=2))
    system.collect()
    # As a loss of power may undo a deletion that was not synced.
    files.write_atomic("progress/mnist.json", data)
    assert not system.objects.has(ref.id)
    assert system.check() == []
