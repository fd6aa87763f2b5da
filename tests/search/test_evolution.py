"""Asking, telling, saving and restoring a task iteration, on records alone."""

from __future__ import annotations

import json

import pytest
import search_samples as samples

from keras_munet.core import settings as settings_lib


@pytest.mark.parametrize("draws", settings_lib.DRAWS)
@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_a_resumed_iteration_asks_for_the_same_children(version, draws):
    population = samples.neighbours(3)
    settings = samples.settings(search={"version": version, "draws": draws})

    def run(interrupt):
        search = samples.iteration(population, experiment=settings)
        asked = []
        while not search.is_done:
            if interrupt:
                state = json.loads(json.dumps(search.to_json()))
                search = samples.iteration(population, experiment=settings)
                search.restore(state)
            plan = search.ask()
            asked.append(plan)
            samples.tell(search, plan, lambda child: child.index / 10)
        return asked, search.finish()

    assert run(False) == run(True)


def test_asking_twice_gives_the_same_children():
    search = samples.iteration(samples.population())
    assert search.ask() == search.ask()


def test_results_of_other_children_are_refused():
    search = samples.iteration(samples.population())
    plan = search.ask()
    search.ask()
    with pytest.raises(ValueError, match="do not belong"):
        search.tell([])
    samples.tell(search, plan, lambda child: 0.5)


def test_progress_is_not_restored_into_another_iteration():
    root = samples.root()
    search = samples.iteration(samples.population(origin=root))
    samples.tell(search, search.ask(), lambda child: 0.5)
    state = search.to_json()
    again = samples.iteration(samples.population(origin=root))
    assert again.can_restore(state)
    later = samples.iteration(samples.population(origin=root), number=1)
    assert not later.can_restore(state)


@pytest.mark.parametrize("restores", [False, True])
def test_a_path_that_another_job_publishes_becomes_a_seed(restores):
    root = samples.root()
    alone = samples.population(origin=root)
    search = samples.iteration(alone)
    samples.tell(search, search.ask(), lambda child: 0.5)
    active = search.active
    other = samples.path("b", root.id, score=0.5)
    population = samples.population(other, origin=root)
    if restores:
        state = search.to_json()
        search = samples.iteration(population)
        search.restore(state)
    else:
        search.renew(population)
    assert {p.id for p in search.seeds} == {root.id, other.id}
    assert search.active == active
    assert search.generation == 1
    search.ask()


def test_saved_progress_does_not_grow_with_the_number_of_tasks():
    def num_bytes(num_tasks):
        search = samples.iteration(samples.neighbours(num_tasks))
        samples.tell(search, search.ask(), lambda child: None)
        return len(json.dumps(search.to_json()))

    assert num_bytes(60) <= num_bytes(3) + 8
