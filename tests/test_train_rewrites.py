"""What `train/rewrites.py` asks of TensorFlow's passes over graphs."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from keras_munet.train import rewrites


def test_what_is_unsearched_names_an_operation_that_returns_a_reference():
    traced = tf.function(rewrites.unsearched).get_concrete_function(
        tf.TensorSpec([2], tf.float32)
    )
    named = [
        op.get_attr(rewrites.ATTRIBUTE).name
        for op in traced.graph.get_operations()
        if rewrites.ATTRIBUTE in op.node_def.attr
    ]
    assert len(named) == 1
    # Where TensorFlow drops such operations, its search is to be seen anew.
    assert op_def_registry.get(named[0]).output_arg[0].is_ref


def test_a_graph_of_calls_computes_the_same_unsearched():
    weight = tf.Variable([[0.5, 2.0], [1.0, -1.0]])
    called = tf.function(
        lambda x, w: tf.tanh(x @ w),
        experimental_attributes={"_noinline": True},
    )

    def loss_and_gradient(x):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(called(called(x, weight), weight))
        return y, tape.gradient(y, weight)

    x = tf.constant([[0.3, -0.7], [1.5, 0.1], [0.0, 2.0]])
    plain = tf.function(loss_and_gradient)(x)
    with rewrites.plain_graphs():
        found = tf.function(
            lambda x: loss_and_gradient(rewrites.unsearched(x))
        )(x)
    for one, other in zip(plain, found, strict=True):
        tf.debugging.assert_near(one, other, rtol=1e-6)


def test_the_process_keeps_its_own_option():
    options = tf.config.optimizer.get_experimental_options
    before = options().get("disable_meta_optimizer", False)
    with rewrites.plain_graphs():
        assert options()["disable_meta_optimizer"]
    assert options().get("disable_meta_optimizer", False) == before
