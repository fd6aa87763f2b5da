from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import lineage


def _path(parent):
    return specs.PathRecord("mnist", parent, (1, 0, 0), {}, ())


def test_a_living_parent_is_found_at_once():
    assert lineage.living_parent(_path("a"), {"a"}, {"a": "b"}) == "a"


def test_dead_parents_are_walked_to_the_nearest_living_ancestor():
    retired = {"a": "b", "b": "c", "c": "d", "d": None}
    assert lineage.living_parent(_path("a"), {"c", "d"}, retired) == "c"


def test_a_root_has_no_living_parent():
    assert lineage.living_parent(_path(None), {"a"}, {}) is None


@pytest.mark.parametrize("retired", [{}, {"a": "b"}, {"a": None}])
def test_a_lineage_that_ends_has_no_living_parent(retired):
    assert lineage.living_parent(_path("a"), {"z"}, retired) is None


@pytest.mark.parametrize("retired", [{"a": "a"}, {"a": "b", "b": "a"}])
def test_a_lineage_in_a_circle_is_an_error(retired):
    with pytest.raises(errors.StoreError, match="older than"):
        lineage.living_parent(_path("a"), set(), retired)


def test_a_path_that_descends_from_itself_is_an_error():
    path = _path("a")
    with pytest.raises(errors.StoreError, match="own ancestor"):
        lineage.living_parent(path, {path.id}, {"a": path.id})
    with pytest.raises(errors.StoreError, match="comes back"):
        lineage.living_parent(path, set(), {"a": path.id})
