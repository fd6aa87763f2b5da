"""Features are kept within a bound and never taken for others."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import training_samples as samples

from keras_munet.train import features as features_lib

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")
_PREFIX = (("a", False), ("b", True))


def test_features_are_found_by_all_that_they_follow_from():
    kept = features_lib.Features()
    kept.of("task", "validation", 0).put(_PREFIX, tf.ones([2]))
    assert kept.of("task", "validation", 0).get(_PREFIX) is not None
    others = [
        ("task", "validation", 1, _PREFIX),
        ("task", "test", 0, _PREFIX),
        ("other", "validation", 0, _PREFIX),
        ("task", "validation", 0, (("a", False), ("b", False))),
        ("task", "validation", 0, _PREFIX[:1]),
    ]
    for *batch, prefix in others:
        assert kept.of(*batch).get(prefix) is None


def test_what_does_not_fit_is_not_kept_and_room_is_given_back():
    kept = features_lib.Features(num_bytes_max=8)
    first, second = (kept.of("task", "validation", n) for n in range(2))
    first.put(_PREFIX, tf.ones([2]))
    second.put(_PREFIX, tf.ones([1]))
    assert first.get(_PREFIX) is not None
    assert second.get(_PREFIX) is None
    kept.keep_only("task", {_PREFIX})
    assert first.get(_PREFIX) is not None
    kept.keep_only("task", set())
    second.put(_PREFIX, tf.ones([1]))
    assert second.get(_PREFIX) is not None


def test_a_later_cycle_scores_with_the_features_of_the_first():
    made = samples.trainer(num_cycles=3)
    children = [samples.job(i, 2, _TRUNK) for i in range(2)]
    computed = []
    output = made._steps._functions.output

    def counted(kind, handle, x):
        computed.append(kind.layer)
        return output(kind, handle, x)

    made._steps._functions.output = counted
    samples.train(children, made)
    # A step computes the trunk once, and so does each of the four batches of
    # a validation, in the first cycle alone.
    num_steps = 3 * 6
    assert computed.count("PatchEmbedding") == num_steps + 4


def test_scores_are_the_same_without_features():
    children = [samples.job(i, 2, _TRUNK[: 2 + i]) for i in range(3)]
    results = samples.train(children)
    made = samples.trainer()
    made._steps._features = features_lib.Features(num_bytes_max=0)
    for with_features, without in zip(
        results, samples.train(children, made), strict=True
    ):
        assert with_features.scores == without.scores


def test_other_values_or_other_data_have_other_features():
    made = samples.trainer()
    first, second = (
        samples.job(
            0,
            2,
            tuple(p.spec.name for p in samples.job(0, 2).components),
            seed=s,
        )
        for s in range(2)
    )
    data = samples.data()
    shuffled = dataclasses.replace(
        data,
        name="others",
        validation=dataclasses.replace(
            data.validation, images=data.validation.images[::-1].copy()
        ),
    )

    def accuracies(trainers):
        return [
            next(trainers).evaluate(child.components, which, "validation", 16)
            for child in (first, second)
            for which in (data, shuffled)
        ]

    fresh = accuracies(samples.trainer() for _ in range(4))
    assert accuracies(iter([made] * 4)) == fresh
    assert np.isfinite(fresh).all()
