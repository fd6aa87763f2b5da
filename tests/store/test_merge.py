from __future__ import annotations

import dataclasses

import memory_files
import pytest
import store_crashes
import store_samples

from keras_munet import errors
from keras_munet.core import lineage
from keras_munet.core import target_types
from keras_munet.store import codec
from keras_munet.store import leases
from keras_munet.store import merge
from keras_munet.store import system_dir


def _system(place=None, **changes):
    values = {
        "experiment": store_samples.EXPERIMENT,
        "family": store_samples.FAMILY,
        "root_components": [
            store_samples.component(f"c{i}", i) for i in range(2)
        ],
        "root_hparams": store_samples.HPARAMS,
        "root_source": "random",
    }
    return system_dir.SystemDir.create(
        memory_files.MemoryFiles() if place is None else place,
        **{**values, **changes},
    )


@pytest.fixture
def target():
    made = _system()
    made.publish(store_samples.state(made, task="mnist"))
    return made


@pytest.fixture
def source():
    """Two tasks; the head of one is that of the target's."""
    made = _system(experiment={"seed": 7})
    made.publish(store_samples.state(made, task="kmnist", value=10.0))
    made.publish(
        store_samples.state(made, task="omniglot", value=20.0, private=True)
    )
    return made


def test_the_tasks_of_the_other_system_are_brought_in(target, source):
    before = target.tasks()["mnist"]
    report = merge.merge(target, source)
    assert report.tasks == ("kmnist", "omniglot")
    found = target.tasks()
    assert found["mnist"] == before
    for name, state in source.tasks().items():
        assert found[name].published == state.published
        assert found[name].private == state.private
        assert found[name].num_iterations_done == state.num_iterations_done
        for ref in state.published.components:
            assert store_samples.same(
                target.objects.get(ref), source.objects.get(ref)
            )
    assert target.check() == []


def test_a_component_that_both_have_is_stored_once(target, source):
    before = set(target.objects.ids())
    report = merge.merge(target, source)
    new = set(target.objects.ids()) - before
    # The root's two and the head that equals that of mnist were there.
    assert len(new) == report.num_objects == 1
    assert report.num_shared == 3
    head = source.tasks()["omniglot"].published.component("head")
    assert new == {head.id}


def test_the_other_system_is_only_read(target, source):
    def content():
        files = source.files
        return {name: files.read(name, 10**6) for name in files.list()}

    before = content()
    merge.merge(target, source)
    assert content() == before


def test_merging_again_changes_nothing(target, source):
    merge.merge(target, source)
    before = target.num_changes()
    report = merge.merge(target, source)
    assert (report.tasks, report.num_objects) == ((), 0)
    assert target.num_changes() == before


def test_one_task_alone_can_be_brought_in(target, source):
    assert merge.merge(target, source, "kmnist").tasks == ("kmnist",)
    assert sorted(target.tasks()) == ["kmnist", "mnist"]
    with pytest.raises(errors.UsageError, match="no task 'other'"):
        merge.merge(target, source, "other")


def test_ancestors_that_stay_behind_are_remembered(target, source):
    grandparent = source.tasks()["kmnist"].published
    parent = store_samples.state(
        source, task="emnist", value=30.0, parent=grandparent
    )
    source.publish(parent)
    source.publish(
        store_samples.state(
            source, task="child", value=40.0, parent=parent.published
        )
    )
    source.remove("kmnist")
    merge.merge(target, source, "child")
    state = target.tasks()["child"]
    living = {target.root.id: target.root}
    walk = lineage.ancestors(state.published, living, state.retired)
    assert list(walk) == [
        parent.published.id,
        grandparent.id,
        target.root.id,
    ]
    assert target.check() == []


@pytest.mark.parametrize("name", ["mnist", "MNIST"])
def test_a_name_that_means_two_tasks_is_refused(target, source, name):
    source.publish(store_samples.state(source, task=name, value=50.0))
    with pytest.raises(errors.UsageError, match=f"{name}.*remove it"):
        merge.merge(target, source)
    assert list(target.tasks()) == ["mnist"]


def test_a_task_that_was_removed_does_not_come_back(target, source):
    target.publish(store_samples.state(target, task="kmnist", value=60.0))
    target.remove("kmnist")
    with pytest.raises(errors.UsageError, match="'kmnist'"):
        merge.merge(target, source)
    assert list(target.tasks()) == ["mnist"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": {"family": "vit", "width": 3}}, "width is 2, not 3"),
        (
            {"root_components": [store_samples.component("c0", 9)]},
            "components c0, c1",
        ),
        ({"root_hparams": {"num_layers": 2}}, "hyperparameters"),
    ],
    ids=["family", "components", "hparams"],
)
def test_a_system_of_another_root_is_refused(target, changes, words):
    other = _system(**changes)
    other.publish(store_samples.state(other, task="kmnist"))
    with pytest.raises(errors.UsageError, match=words):
        merge.merge(target, other)
    assert list(target.tasks()) == ["mnist"]


def test_a_damaged_component_is_not_brought_in(target, source):
    head = source.tasks()["omniglot"].published.component("head")
    name = codec.file_name(head.id)
    data = source.files.read(name, 10**6)
    source.files.write_atomic(name, data[:-1] + b"\1")
    fresh = system_dir.SystemDir.open(source.files)
    with pytest.raises(errors.StoreError, match=head.id):
        merge.merge(target, fresh)
    assert "omniglot" not in target.tasks()
    assert target.check() == []


def test_a_task_that_a_job_works_on_is_refused(target, source):
    other = system_dir.SystemDir.open(target.files)
    with (
        other.lease("kmnist"),
        pytest.raises(leases.TaskHeldError, match="kmnist"),
    ):
        merge.merge(target, source)


def test_a_merge_that_is_interrupted_goes_on(target, source, monkeypatch):
    real = system_dir.SystemDir.publish

    def publish(self, state):
        if state.task == "omniglot":
            raise KeyboardInterrupt
        real(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(system_dir.SystemDir, "publish", publish)
        with pytest.raises(KeyboardInterrupt):
            merge.merge(target, source)
    assert sorted(target.tasks()) == ["kmnist", "mnist"]
    assert target.check() == []
    assert merge.merge(target, source).tasks == ("omniglot",)
    assert target.collect().num_objects == 0


def test_a_merge_survives_a_kill_at_any_system_call(tmp_path):
    assert store_crashes.apart("merge", tmp_path) >= 10


def test_a_merged_path_seeds_the_next(target, source):
    merge.merge(target, source)
    parent = target.tasks()["kmnist"].published
    state = store_samples.state(target, task="new", value=70.0, parent=parent)
    target.publish(dataclasses.replace(state, retired={}))
    assert target.check() == []


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"search": {"quality": "auc"}}, {}, "search.quality is 'auc'"),
        ({}, {"search": {"quality": "macro_f1"}}, "has the measure macro_f1"),
        ({"data": {"class_weights": "auto"}}, {}, "class_weights is auto"),
    ],
)
def test_labels_that_settings_do_not_fit_are_refused(ours, theirs, words):
    target, source = _system(experiment=ours), _system(experiment=theirs)
    several = target_types.MULTI_LABEL
    source.publish(store_samples.state(source, "scenes", target=several))
    with pytest.raises(errors.UsageError, match=words) as caught:
        merge.merge(target, source)
    assert "\n" not in str(caught.value)
    assert target.tasks() == {}
    again = _system(experiment=theirs)
    assert merge.merge(again, source).tasks == ("scenes",)
    plain = _system(experiment=theirs)
    plain.publish(store_samples.state(plain, "digits"))
    assert merge.merge(target, plain).tasks == ("digits",)
