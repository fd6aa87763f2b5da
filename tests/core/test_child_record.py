"""What an event says of how a child came to be, written and read again."""

from __future__ import annotations

import copy
import json

import hypothesis
import pytest
import report_samples
from hypothesis import strategies as st

from keras_munet.core import child_record

RECORD = report_samples.RECORD
_ID = report_samples.OBJECT_ID


def _changed(path, value):
    """The record as JSON, with another value at a path of keys."""
    record = copy.deepcopy(RECORD.to_json())
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return record


def test_a_record_survives_its_json():
    text = json.dumps(RECORD.to_json(), allow_nan=False)
    assert child_record.ChildRecord.from_json(json.loads(text)) == RECORD
    assert RECORD.num_by_init == {
        "share": 1,
        "copy": 1,
        "resample": 1,
        "fresh": 1,
        "solved": 0,
    }


@pytest.mark.parametrize(
    ("origin", "is_read"),
    [
        (["head", "solved", False, 7, None, None], True),
        (["head", "solved", True, 7, None, None], False),
        (["head", "solved", False, 7, _ID, None], False),
        (["head", "solved", False, 7, None, "birds"], False),
    ],
)
def test_a_solved_head_has_no_source_and_is_not_trained(origin, is_read):
    record = _changed(("components",), [origin])
    if is_read:
        read = child_record.ChildRecord.from_json(record)
        assert read.num_by_init["solved"] == 1
        assert read.to_json() == record
    else:
        with pytest.raises(ValueError):
            child_record.ChildRecord.from_json(record)


def test_keys_of_later_versions_are_passed_over():
    later = {**RECORD.to_json(), "weather": "fine"}
    assert child_record.ChildRecord.from_json(later) == RECORD


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("quality",), float("nan")),
        (("quality",), True),
        (("quality",), "0.5"),
        (("size_factor",), float("inf")),
        (("size_factor",), None),
        (("accounted_params",), -1),
        (("accounted_params",), 10**400),
        (("duplicate_of",), 1.0),
        (("duplicate_of",), -1),
        (("mutations",), {"opt_lr": [1, 2]}),
        (("mutations", 0), ["opt_lr", 1]),
        (("mutations", 0, 0), "opt\x1b[2J"),
        (("mutations", 0, 1), [1]),
        (("mutations", 1, 2), float("nan")),
        (("mutations", 1, 2), 10**400),
        (("mutations", 1, 2), "two\nlines"),
        (("adapters_inserted",), "abc"),
        (("adapters_removed", 0), "a\u202eb"),
        (("components",), None),
        (("components", 0), "share"),
        (("components", 0, 0), 7),
        (("components", 0, 0), "a\nb"),
        (("components", 0, 1), "cloned"),
        (("components", 0, 1), ["share"]),
        (("components", 0, 2), 0),
        (("components", 0, 2), True),
        (("components", 0, 3), -1),
        (("components", 0, 3), True),
        (("components", 0, 4), None),
        (("components", 0, 4), _ID.upper()),
        (("components", 0, 5), None),
        (("components", 3, 4), _ID),
        (("components", 3, 5), "birds"),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_in_one_line(path, value):
    with pytest.raises(ValueError) as refused:
        child_record.ChildRecord.from_json(_changed(path, value))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("key", sorted(RECORD.to_json()))
def test_a_record_without_one_of_its_keys_is_refused(key):
    record = RECORD.to_json()
    del record[key]
    with pytest.raises(ValueError, match=key):
        child_record.ChildRecord.from_json(record)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@hypothesis.given(st.sampled_from(sorted(RECORD.to_json())), _JSON)
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_is_read_as_it_is_or_refused(key, value):
    record = {**RECORD.to_json(), key: value}
    try:
        read = child_record.ChildRecord.from_json(record)
    except ValueError:
        return
    assert json.loads(json.dumps(read.to_json(), allow_nan=False)) == record


def test_what_the_parent_lacks_is_no_mutation():
    found = child_record.mutations_between(
        {"opt_lr": 0.1, "mu": 0.2, "old": 1},
        {"opt_lr": 0.2, "mu": 0.2, "new": 3},
    )
    assert found == (child_record.Mutation("opt_lr", 0.1, 0.2),)
