from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.core import lineage
from keras_munet.core import specs


def _path(parent, task="mnist"):
    return specs.PathRecord(task, parent, (1, 0, 0), {}, ())


def _living(*parents):
    """Returns living paths by the names that the tests give them."""
    return {name: _path(parent, name) for name, parent in parents}


def test_a_living_parent_is_found_at_once():
    living = _living(("a", None))
    assert lineage.living_parent(_path("a"), living, {"a": "b"}) == "a"


def test_dead_parents_are_walked_to_the_nearest_living_ancestor():
    retired = {"a": "b", "b": "c", "c": "x", "d": None}
    living = _living(("c", "d"), ("d", None))
    assert lineage.living_parent(_path("a"), living, retired) == "c"


def test_ancestors_pass_through_the_living_and_the_dead():
    retired = {"a": "b", "c": "d"}
    living = _living(("b", "c"), ("d", None))
    found = list(lineage.ancestors(_path("a"), living, retired))
    assert found == ["a", "b", "c", "d"]


def test_a_root_has_no_living_parent():
    assert lineage.living_parent(_path(None), _living(("a", None)), {}) is None


@pytest.mark.parametrize("retired", [{}, {"a": "b"}, {"a": None}])
def test_a_lineage_that_ends_has_no_living_parent(retired):
    living = _living(("z", None))
    assert lineage.living_parent(_path("a"), living, retired) is None


@pytest.mark.parametrize("retired", [{"a": "a"}, {"a": "b", "b": "a"}])
def test_a_lineage_in_a_circle_is_an_error(retired):
    with pytest.raises(errors.StoreError, match="comes back"):
        list(lineage.ancestors(_path("a"), {}, retired))


def test_a_path_that_descends_from_itself_is_an_error():
    path = _path("a")
    with pytest.raises(errors.StoreError, match="comes back"):
        lineage.living_parent(path, {path.id: path}, {"a": path.id})
