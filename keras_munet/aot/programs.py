"""Pure functions of a program and of its parts, as a TPU core runs them.

Invariant: a function is the one that a job runs; its arguments are what lies
in variables of a core, and what the host gives with a call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import chain as chain_lib
from keras_munet.train.program import program as program_lib

FORWARD = "forward"
BACKWARD = "backward"
BACKWARD_TO_INPUT = "backward_to_input"
SCORED = "scored"


@dataclasses.dataclass(frozen=True)
class Program:
    """One pure function that every core runs.

    Attributes:
      function: from the flat arguments to the flat outputs, all tensors.
      arguments: its arguments.
      aliases: argument number -> number of the output that takes its memory.
      variable_bytes: what a core holds between calls.
      reduced_bytes: what a core puts in sums over the cores of its group, each
        step.
    """

    function: Callable[..., list[tf.Tensor]]
    arguments: tuple[tf.TensorSpec, ...]
    aliases: Mapping[int, int]
    variable_bytes: int
    reduced_bytes: int


def child_program(
    bucket: bucket_lib.Bucket,
    products: matmul_precision.MatmulPrecision,
    num_replicas: int,
) -> Program:
    """Returns the program that trains every child of a bucket.

    Args:
      bucket: the shapes.
      products: which precision a training step multiplies in.
      num_replicas: that run it at one time.
    """
    program = program_lib.ChildProgram(bucket, products, num_replicas)
    state = call_data.state_specs(bucket)
    pool = call_data.pool_specs(bucket)
    weights = sum(map(_num_bytes, tf.nest.flatten(state.weights)))
    flat = _flat(program.run, (state, call_data.plan_specs(bucket), pool))
    return dataclasses.replace(
        flat,
        aliases={i: i for i in range(len(tf.nest.flatten(state)))},
        variable_bytes=sum(map(_num_bytes, tf.nest.flatten((state, pool)))),
        reduced_bytes=weights if bucket.group > 1 else 0,
    )


def block_programs(
    bucket: bucket_lib.Bucket, products: matmul_precision.MatmulPrecision
) -> dict[str, Program]:
    """Returns what the loops of a program do once for each block.

    Args:
      bucket: the shapes; it has a stack.
      products: which precision a training step multiplies in.

    Returns:
      `forward`, `backward` (a block that is trained), `backward_to_input` (one
      that is not) and `scored` -> the function of it.
    """
    chain = chain_lib.Chain(bucket, products)
    children, share = bucket.children, bucket.batch_size
    x = tf.TensorSpec((children, share, *_tokens(bucket)), tf.float32)
    arrays = {
        chain_layer.key: {
            name: tf.TensorSpec((children, *shape), tf.float32)
            for name, shape in chain_layer.arrays
        }
        for chain_layer in bucket.stack
    }
    present = tf.TensorSpec([children], tf.bool)
    forward = x, arrays, present
    return {
        FORWARD: _flat(chain.block(), forward),
        BACKWARD: _flat(chain.block_gradients(True), (*forward, x)),
        BACKWARD_TO_INPUT: _flat(chain.block_gradients(False), (*forward, x)),
        SCORED: _flat(chain.block(is_scored=True), forward),
    }


def _tokens(bucket: bucket_lib.Bucket) -> tuple[int, ...]:
    """Returns the shape of what a block reads of one example."""
    shape: tuple[int | None, ...] = (1, *[bucket.image_size] * 2, 3)
    for chain_layer in bucket.below:
        shape = chain_layer.layer.compute_output_shape(shape)
    return tuple(side or 1 for side in shape[1:])


def _flat(function: Callable[..., Any], structure: tuple[Any, ...]) -> Program:
    """Returns a function of a structure as one of its flat tensors."""

    def run(*flat: tf.Tensor) -> list[tf.Tensor]:
        arguments = tf.nest.pack_sequence_as(structure, flat)
        return tf.nest.flatten(function(*arguments))

    return Program(run, tuple(tf.nest.flatten(structure)), {}, 0, 0)


def _num_bytes(tensor: tf.TensorSpec) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size
