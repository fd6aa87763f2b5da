"""A generation starts from what is published, whoever published it."""

from __future__ import annotations

import contextlib

import pytest
import store_samples

from keras_munet.store import system_dir
from keras_munet.store.gcs import publications
from keras_munet.system import population_view
from keras_munet.system import task_iteration

_PLACE = "gs://bucket/some/system"


class _Search:
    """Stands for an iteration of a task that has the path of `a` as parent."""

    task = "own"

    def __init__(self, population):
        self.population = population

    def renew(self, population):
        self.population = population

    def parent(self):
        return self.population.published.get("a", self.population.root)


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_parent_that_an_older_version_replaced_is_chosen_again(
    bucket, is_removed
):
    other = store_samples.create(_PLACE)
    other.publish(store_samples.state(other, "a"))
    directory = system_dir.SystemDir.open(_PLACE)
    newest = population_view.Newest(directory)
    search = _Search(newest.population)
    state = store_samples.state(other, "a", num_iterations_done=2)
    with pytest.MonkeyPatch.context() as patched:
        # Older versions do not announce what they publish.
        patched.setattr(
            publications.Publications,
            "publication",
            lambda *_: contextlib.nullcontext(),
        )
        if is_removed:
            other.remove("a")
        else:
            other.publish(state)
    assert newest() is None
    with directory.naming():
        parent = task_iteration._chosen(
            search, directory, newest, search.parent, lambda path: {path.task}
        )
    assert parent == (directory.root if is_removed else state.published)
