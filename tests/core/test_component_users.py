"""Users of components follow what tasks use, however that came about."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from keras_munet.core import component_users

_IDS = st.sets(st.sampled_from("abcdef"))


@hypothesis.given(st.lists(st.tuples(st.sampled_from("xyz"), _IDS)))
def test_users_are_those_of_the_last_word_of_each_task(steps):
    users = component_users.ComponentUsers()
    used: dict[str, set[str]] = {}
    for task, ids in steps:
        users.replace(task, sorted(used.get(task, ())), sorted(ids))
        used[task] = ids
    for component_id in "abcdef":
        tasks = {task for task, ids in used.items() if component_id in ids}
        assert users.tasks(component_id) == tasks
        assert (component_id in users) == bool(tasks)
        assert users.count(component_id) == len(tasks)
        for task in "xyz":
            expected = len(tasks - {task})
            assert users.count(component_id, without=task) == expected
    assert len(users) == len(set().union(*used.values())) == len(set(users))


def test_a_component_that_a_task_names_twice_has_one_user():
    users = component_users.ComponentUsers()
    users.replace("x", (), ["a", "a"])
    users.replace("y", (), ["a", "a"])
    assert users.count("a") == 2
    users.replace("x", ["a", "a"], ["a", "b"])
    users.replace("y", ["a", "a"], ())
    assert users.tasks("a") == users.tasks("b") == {"x"}


@pytest.mark.parametrize("changes_copy", [False, True])
def test_a_copy_stays_as_it_was_while_the_other_changes(changes_copy):
    users = component_users.ComponentUsers()
    users.replace("birds", (), ["a", "b"])
    users.replace("cats", (), ["b", "c"])
    twin = users.copy()
    changed, other = (twin, users) if changes_copy else (users, twin)
    changed.replace("birds", ["a", "b"], ["c"])
    changed.replace("dogs", (), ["a", "b"])
    assert sorted(other) == ["a", "b", "c"]
    assert other.tasks("a") == {"birds"}
    assert other.tasks("b") == {"birds", "cats"}
    assert other.tasks("c") == {"cats"}
    assert changed.tasks("a") == {"dogs"}
    assert changed.tasks("b") == {"cats", "dogs"}
    assert changed.tasks("c") == {"birds", "cats"}
