"""Tells numbers from other values in JSON that others wrote."""

from __future__ import annotations

import doctest

import pytest

from keras_munet.core import json_fields


def test_the_example_holds():
    assert doctest.testmod(json_fields).failed == 0


@pytest.mark.parametrize(
    ("value", "whole", "count", "number"),
    [
        (0, True, True, True),
        (-3, True, False, True),
        (2**63 - 1, True, True, True),
        (2**63, False, False, False),
        (-(2**63), False, False, False),
        (1.5, False, False, True),
        (1e300, False, False, True),
        (float("nan"), False, False, False),
        (float("-inf"), False, False, False),
        (True, False, False, False),
        ("3", False, False, False),
        (None, False, False, False),
        ([3], False, False, False),
    ],
)
def test_a_value_is_whole_a_count_or_a_number(value, whole, count, number):
    assert json_fields.is_whole(value) is whole
    assert json_fields.is_count(value) is count
    assert json_fields.is_number(value) is number
