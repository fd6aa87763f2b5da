"""Compiles for a TPU core what a replica of a job runs."""

from __future__ import annotations

import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.aot import programs
from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import stacking

_PRODUCTS = matmul_precision.FLOAT32


def _bucket(**sizes):
    child = samples.job(0, 3, adapters=(0, 1, 2))
    bucket = bucket_lib.bucket_of(child.components, 16)
    return child, bucket_lib.dataclasses.replace(
        bucket, side=16, batch_size=4, **sizes
    )


@pytest.mark.slow
def test_state_is_taken_over_in_place():
    _, bucket = _bucket(pool=8)
    program = programs.child_program(bucket, _PRODUCTS, 2)
    traced = tf.function(program.function).get_concrete_function(
        *program.arguments
    )
    state = tf.nest.flatten(call_data.state_specs(bucket))
    assert sorted(program.aliases) == list(range(len(state)))
    for argument, output in program.aliases.items():
        taken, given = program.arguments[argument], traced.outputs[output]
        assert (taken.shape, taken.dtype) == (given.shape, given.dtype)
    # A float32 weight and a bfloat16 momentum, and the examples.
    weights = [spec for spec in state if spec.dtype == tf.float32]
    num_values = sum(spec.shape.num_elements() for spec in weights)
    assert program.variable_bytes == 6 * num_values + 8 * (16 * 16 * 3 + 4)


@pytest.mark.parametrize("group", [1, 2])
def test_sums_are_counted_where_cores_share_a_child(group):
    _, bucket = _bucket(group=group)
    program = programs.child_program(bucket, _PRODUCTS, 4)
    assert bool(program.reduced_bytes) == (group > 1)


def test_passes_of_a_block_are_those_of_the_program():
    child, bucket = _bucket()
    made = programs.block_programs(bucket, _PRODUCTS)
    stacked = stacking.stack([child], bucket)
    arrays = {
        chain_layer.key: {
            name: tf.constant(value[1])
            for name, value in stacked.weights[chain_layer.key].items()
        }
        for chain_layer in bucket.stack
    }
    (x,) = made[programs.FORWARD].arguments[:0] or (
        tf.random.stateless_normal([1, 4, 5, 64], [1, 2]),
    )
    forward = x, arrays, tf.constant([True])
    flat = tf.nest.flatten(forward)
    (y,) = made[programs.FORWARD].function(*flat)
    (scored,) = made[programs.SCORED].function(*flat)
    tf.debugging.assert_near(y, scored, atol=1e-5)
    dx, *gradients = made[programs.BACKWARD].function(*flat, x)
    to_input, *others = made[programs.BACKWARD_TO_INPUT].function(*flat, x)
    tf.debugging.assert_near(dx, to_input, atol=1e-5)
    assert len(gradients) == len(others)
    moved = [bool(tf.reduce_any(g != 0.0)) for g in others]
    # The adapter's gradients alone are computed.
    assert moved.count(True) <= len(bucket.adapter.arrays)
    assert all(bool(tf.reduce_any(g != 0.0)) for g in gradients[-4:])
