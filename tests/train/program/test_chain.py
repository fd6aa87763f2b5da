"""Replicas that share a child compute what one does."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import training_samples as samples

from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import chain
from keras_munet.train.program import stacking


def _gradients(child, images, labels, group):
    bucket = dataclasses.replace(
        bucket_lib.bucket_of(child.components, 16),
        batch_size=len(labels),
        group=group,
    )
    stacked = stacking.stack([child], bucket)
    plan = tf.nest.map_structure(
        lambda spec: np.zeros(spec.shape, spec.dtype.as_numpy_dtype),
        call_data.plan_specs(bucket),
    )
    plan = plan._replace(
        num_layers=stacked.num_layers,
        lowest=stacked.lowest,
        trained=stacked.trained,
        present={"adapter": stacked.present["adapter"]},
        num_classes=np.int32(samples.NUM_CLASSES),
        class_weights=np.ones(bucket.num_classes, np.float32),
    )
    made = chain.Chain(bucket, matmul_precision.FLOAT32)
    values = stacked.weights, plan
    weights, plan = tf.nest.map_structure(tf.constant, values)
    losses, gradients = made.gradients(weights, plan, images, labels)
    return losses, gradients, stacked.trained


def test_shares_of_a_batch_add_up_to_its_losses_and_gradients():
    child = samples.job(0, 3, ("embedding", "encoderblock_1"), adapters=(1,))
    images = tf.random.stateless_normal([8, 16, 16, 3], [3, 4])
    labels = tf.constant([0, 1, 2, 0, 1, 2, 0, 1])
    whole, gradients, trained = _gradients(_with_head(child), images, labels, 1)
    halves = [
        _gradients(_with_head(child), images[rows], labels[rows], 2)
        for rows in (slice(0, 4), slice(4, 8))
    ]
    tf.debugging.assert_near(whole, halves[0][0] + halves[1][0], atol=1e-6)
    for key, values in gradients.items():
        assert trained[key].any() or key == "embedding"
        for name, value in values.items():
            added = halves[0][1][key][name] + halves[1][1][key][name]
            tf.debugging.assert_near(value, added, atol=1e-5)


def test_gradients_of_frozen_blocks_of_the_stack_are_not_computed():
    frozen = "embedding", "cls", "posembed_input", "encoderblock_0"
    child = samples.job(0, 4, (*frozen, "encoderblock_2"), adapters=(3,))
    images = tf.random.stateless_normal([4, 16, 16, 3], [5, 6])
    _, gradients, trained = _gradients(
        _with_head(child), images, tf.constant([0, 1, 2, 0]), 1
    )
    moved = [
        bool(tf.reduce_any(gradients["block"]["mlp_0_kernel"][i] != 0.0))
        for i in range(4)
    ]
    assert moved == trained["block"][:, 0].tolist() == [0, 1, 0, 1]
    assert not tf.reduce_any(gradients["embedding"]["kernel"] != 0.0)


def _with_head(child):
    """A child whose head is not zero, so that gradients pass it."""
    *below, head = child.components

    def load():
        component = head.load()
        rng = np.random.default_rng(0)
        for value in component.weights.values():
            value += rng.normal(size=value.shape)
        return component

    filled = dataclasses.replace(head, load=load)
    return dataclasses.replace(child, components=(*below, filled))
