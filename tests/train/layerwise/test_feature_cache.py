"""Features are kept within a bound and never taken for others."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import tensorflow as tf
import training_samples as samples

from keras_munet.data import types
from keras_munet.train.layerwise import feature_cache

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")
_PREFIX = (16, (("a", False), ("b", True)))


def test_features_are_found_by_all_that_they_follow_from():
    kept = feature_cache.FeatureCache()
    kept.of_batch("task", "validation", 0).put(_PREFIX, tf.ones([2]))
    assert kept.of_batch("task", "validation", 0).get(_PREFIX) is not None
    others = [
        ("task", "validation", 1, _PREFIX),
        ("task", "test", 0, _PREFIX),
        ("other", "validation", 0, _PREFIX),
        ("task", "validation", 0, (16, (("a", False), ("b", False)))),
        ("task", "validation", 0, (16, _PREFIX[1][:1])),
        ("task", "validation", 0, (24, _PREFIX[1])),
    ]
    for *batch, prefix in others:
        assert kept.of_batch(*batch).get(prefix) is None


def test_what_does_not_fit_is_not_kept_and_room_is_given_back():
    kept = feature_cache.FeatureCache(num_bytes_max=8)
    first, second = (kept.of_batch("task", "validation", n) for n in range(2))
    first.put(_PREFIX, tf.ones([2]))
    second.put(_PREFIX, tf.ones([1]))
    assert first.get(_PREFIX) is not None
    assert second.get(_PREFIX) is None
    kept.keep_only("task", {_PREFIX})
    assert first.get(_PREFIX) is not None
    kept.forget_task("other")
    assert first.get(_PREFIX) is not None
    kept.forget_task("task")
    assert first.get(_PREFIX) is None
    first.put(_PREFIX, tf.ones([2]))
    kept.keep_only("task", set())
    second.put(_PREFIX, tf.ones([1]))
    assert second.get(_PREFIX) is not None


def test_a_later_cycle_scores_with_the_features_of_the_first():
    made = samples.trainer(num_cycles=3)
    children = [samples.job(i, 2, _TRUNK) for i in range(2)]
    computed = []
    output = made._engine.layer_functions.output

    def counted(kind, handle, x):
        computed.append(kind.layer)
        return output(kind, handle, x)

    made._engine.layer_functions.output = counted
    samples.train(children, made)
    # A step computes the trunk once, and so does each of the four batches of
    # a validation, in the first cycle alone.
    num_steps = 3 * 6
    assert computed.count("PatchEmbedding") == num_steps + 4


def _answers(made, child, data):
    """Returns what a path answers to the validation examples, as logits."""
    # One, so that batches come in their order.
    made._engine._num_threads = 1
    seen = []
    right = made._engine.layer_functions.num_correct

    def told(logits, labels, mask):
        seen.append(logits.numpy())
        return right(logits, labels, mask)

    made._engine.layer_functions.num_correct = told
    made.evaluate(child.components, data, "validation", 16)
    made._engine.layer_functions.num_correct = right
    return np.array(seen)


def _with_head(child):
    """A job whose head is not zero, as a new one is, so that it answers."""
    *below, head = child.components
    first = head.load()
    rng = np.random.default_rng(1)
    drawn = {
        name: rng.normal(size=value.shape).astype(np.float32)
        for name, value in first.weights.items()
    }
    head = dataclasses.replace(
        head, load=lambda: dataclasses.replace(first, weights=drawn)
    )
    return dataclasses.replace(child, components=(*below, head))


def test_scores_are_the_same_without_features():
    children = [samples.job(i, 2, _TRUNK[: 2 + i]) for i in range(3)]
    results = samples.train(children)
    made = samples.trainer()
    made._engine._features = feature_cache.FeatureCache(num_bytes_max=0)
    for with_features, without in zip(
        results, samples.train(children, made), strict=True
    ):
        assert with_features.scores == without.scores


def test_other_values_and_other_data_have_other_features():
    data = samples.data()
    reversed_data = dataclasses.replace(
        data,
        name="others",
        validation=types.Split(
            data.validation.images[::-1].copy(), data.validation.labels
        ),
    )
    places = tuple(part.spec.name for part in samples.job(0, 2).components)
    children = [
        _with_head(samples.job(0, 2, places[:-1], seed=seed))
        for seed in range(2)
    ]
    made = samples.trainer()
    # Twice, so that the second finds what the first kept.
    together = [
        _answers(made, child, which)
        for _ in range(2)
        for child in children
        for which in (data, reversed_data)
    ]
    apart = [
        _answers(samples.trainer(), child, which)
        for child in children
        for which in (data, reversed_data)
    ]
    for one, other in itertools.combinations(apart, 2):
        assert np.abs(one - other).max() > 0.01
    for found, fresh in zip(together, apart * 2, strict=True):
        np.testing.assert_array_equal(found, fresh)


def test_images_of_another_size_have_other_features():
    def child(image_size):
        # Positions are a child's own, what is below them is published.
        found = samples.job(0, 1, _TRUNK[:2], image_size=image_size)
        return _with_head(found)

    hparams = {"ds_image_size": 24}
    made = samples.trainer()
    samples.train([child(16)], made)
    (second,) = samples.train([child(24)], made, data_hparams=hparams)
    (fresh,) = samples.train([child(24)], data_hparams=hparams)
    assert second.scores == fresh.scores
    samples.assert_close(second, fresh, atol=0.0)
