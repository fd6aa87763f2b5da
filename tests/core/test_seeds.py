"""Generators of random events."""

from __future__ import annotations

from keras_munet.core import seeds


def test_events_have_independent_generators():
    draws = {
        seeds.generator(0, *event).random()
        for event in [("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1")]
    }
    assert len(draws) == 5


def test_an_event_has_the_same_generator_again():
    first, second = (seeds.generator(7, "child", 3) for _ in range(2))
    assert first.random() == second.random()
