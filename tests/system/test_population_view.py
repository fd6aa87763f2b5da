"""A view that follows publications says what a look at all records says."""

from __future__ import annotations

import random

import memory_files
import pytest
import store_samples

from keras_munet.core import specs
from keras_munet.search import population as population_lib
from keras_munet.store import system_dir
from keras_munet.store import task_record_cache
from keras_munet.system import population_view


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "memory":
        return memory_files.MemoryFiles()
    return tmp_path / "system"


def _same(
    followed: population_lib.Population, system: system_dir.SystemDir
) -> None:
    fresh = population_view.read_population(
        system_dir.SystemDir.open(system.files)
    )
    assert followed.published == fresh.published
    assert followed.living == fresh.living
    assert followed.private == fresh.private
    assert followed.retired.items() >= fresh.retired.items()
    assert followed.num_iterations_done == fresh.num_iterations_done
    for task in ("t0", "t1", "absent"):
        assert followed.seeds(task) == fresh.seeds(task)
        for path in fresh.living.values():
            for ref in path.components:
                locks = fresh.locks(ref.id, without=task)
                assert followed.locks(ref.id, without=task) == locks
                assert followed.is_locked(ref.id, without=task) == bool(locks)
            accounted = fresh.accounted_params(task, path.components)
            assert followed.accounted_params(task, path.components) == accounted
            assert followed.ancestors(path) == fresh.ancestors(path)


def _changed(system, rng, number):
    """Publishes or removes a task as some job may."""
    task = f"t{rng.randrange(4)}"
    states = system.tasks()
    if task in states and rng.random() < 0.3:
        system.remove(task)
        return
    before = system.find(task) or system.find_removed(task)
    parents = [system.root, *(s.published for s in states.values())]
    num_done = before.num_iterations_done + 1 if before else 1
    retired = dict(before.retired) if before else {}
    if task in states:
        path = states[task].published
        retired[path.id] = path.parent
    state = store_samples.state(
        system,
        task,
        num_iterations_done=num_done,
        value=float(rng.randrange(3)),
        parent=rng.choice(parents),
        private=rng.random() < 0.3,
        retired=retired,
    )
    system.publish(state)


@pytest.mark.parametrize("seed", range(4))
def test_what_follows_is_what_a_look_at_all_says(place, seed):
    rng = random.Random(seed)
    store_samples.create(place)
    jobs = [system_dir.SystemDir.open(place) for _ in range(3)]
    newest = population_view.Newest(jobs[0])
    _same(newest.population, jobs[0])
    for number in range(25):
        _changed(rng.choice(jobs), rng, number)
        if rng.random() < 0.6:
            assert newest() is newest.population
            assert newest() is None
            _same(newest.population, jobs[0])
            # Collecting by what follows removes what a look at all removes.
            for job in jobs:
                job.tidy()
            fresh = system_dir.SystemDir.open(place)
            assert fresh.check() == []
            assert fresh.collect(dry_run=True).num_objects == 0


def test_a_view_that_fell_far_behind_looks_at_all(place, monkeypatch):
    monkeypatch.setattr(task_record_cache, "_NUM_CHANGES_MAX", 3)
    store_samples.create(place)
    jobs = [system_dir.SystemDir.open(place) for _ in range(2)]
    newest = population_view.Newest(jobs[0])
    rng = random.Random(0)
    for number in range(10):
        _changed(jobs[1], rng, number)
        jobs[0].tasks()
    assert newest() is not None
    _same(newest.population, jobs[0])


def test_a_population_of_a_reader_does_not_change(place):
    system = store_samples.create(place)
    before = population_view.read_population(system)
    state = store_samples.state(system, "t0")
    system.publish(state)
    system.tasks()
    ref = state.published.components[-1]
    assert before.published == {} and before.locks(ref.id) == frozenset()
    after = population_view.read_population(system)
    assert after.locks(ref.id) == {"t0"}
    assert after.locks(system.root.components[0].id) == {
        *("t0", specs.NOT_TRAINABLE),
    }
