"""Holds what a program takes and returns, and the shapes of it in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.train.program import bucket as bucket_lib

# Of each layer, name -> tensor.
Tensors = Mapping[str, Mapping[str, tf.Tensor]]


class State(NamedTuple):
    """Holds what training changes.

    Attributes:
      weights: `[layers, children, ...] float32` of layers in the stack, else
        `[children, ...]`.
      momenta: the same, bfloat16.
      second: AdamW's second moments, float32; empty without AdamW.
    """

    weights: Tensors
    momenta: Tensors
    second: Tensors


class Pool(NamedTuple):
    """Examples that lie on a device.

    Attributes:
      images: `[pool, side * side * 3] uint8`, each in the upper left corner
        of a square; a TPU would pad an axis of three channels.
      labels: `[pool] int32`, or `[pool, classes] int32` of 0 and 1.
    """

    images: tf.Tensor
    labels: tf.Tensor


class Plan(NamedTuple):
    """Says what children do in a call.

    Attributes:
      num_layers: `[children] int32`, blocks.
      lowest: `[children] int32`, the lowest block that a gradient reaches.
      trained: layer -> `[layers, children]` or `[children]` bool.
      present: layer -> the same, of adapters: whether there is one.
      num_classes: int32 scalar.
      class_weights: `[classes] float32`; see `losses.cross_entropy`.
      smoothing: `[children] float32`; see `losses.cross_entropy`.
      uses_adamw: `[children] bool`.
      num_steps: int32 scalar, training steps.
      rates: `[steps, children, 3] float32`, `optimizer.Rates` of each step.
      indices: `[steps, batch] int32`, examples of the pool.
      draws: `[steps, 13, batch] float32`, of the augmentation.
      augment: `preprocessing.AugmentHparams` of scalars.
      jitter: int32 scalar: off, before or after resizing.
      sides: `[2] float32`, rows and columns of training images.
      num_batches: int32 scalar, validation batches.
      held_indices: `[batches, batch] int32`, examples of the pool.
      held_mask: `[batches, batch] float32`, 0 where padded.
      held_sides: `[2] float32`, rows and columns of validation images.
    """

    num_layers: Any
    lowest: Any
    trained: Any
    present: Any
    num_classes: Any
    class_weights: Any
    smoothing: Any
    uses_adamw: Any
    num_steps: Any
    rates: Any
    indices: Any
    draws: Any
    augment: Any
    jitter: Any
    sides: Any
    num_batches: Any
    held_indices: Any
    held_mask: Any
    held_sides: Any


class Sums(NamedTuple):
    """Holds what a call counts.

    Attributes:
      losses: `[children] float32`, the sum over steps, nats.
      right: `[children] float32`, right answers; NaN where a logit is not
        finite.
      logits: `[batches, children, batch, classes] float32` of validation
        examples; of no batch unless the bucket has logits.
    """

    losses: Any
    right: Any
    logits: Any


def state_specs(bucket: bucket_lib.Bucket) -> State:
    """Returns the shapes of a bucket's state."""

    def specs(dtype: tf.DType) -> Any:
        return {
            chain_layer.key: {
                name: tf.TensorSpec((*bucket.lead(chain_layer), *shape), dtype)
                for name, shape in chain_layer.arrays
            }
            for chain_layer in bucket.chain_layers
        }

    second = specs(tf.float32) if bucket.has_adamw else {}
    return State(specs(tf.float32), specs(tf.bfloat16), second)


def pool_specs(bucket: bucket_lib.Bucket) -> Pool:
    """Returns the shapes of a bucket's examples."""
    side = bucket.side
    return Pool(
        tf.TensorSpec([bucket.pool, side * side * 3], tf.uint8),
        tf.TensorSpec(label_shape(bucket), tf.int32),
    )


def label_shape(bucket: bucket_lib.Bucket) -> tuple[int, ...]:
    """Returns the shape of a pool's labels."""
    if bucket.is_multi_label:
        return bucket.pool, bucket.num_classes
    return (bucket.pool,)


def plan_specs(bucket: bucket_lib.Bucket) -> Plan:
    """Returns the shapes of a bucket's plan."""
    flags = {
        chain_layer.key: tf.TensorSpec(bucket.lead(chain_layer), tf.bool)
        for chain_layer in bucket.chain_layers
    }
    spec, children = tf.TensorSpec, bucket.children
    number, flag = spec([], tf.float32), spec([], tf.bool)
    whole = spec([], tf.int32)
    steps, batches, share = bucket.steps, bucket.batches, bucket.batch_size
    return Plan(
        num_layers=spec([children], tf.int32),
        lowest=spec([children], tf.int32),
        trained=flags,
        present={
            p.key: flags[p.key] for p in bucket.chain_layers if p.is_adapter
        },
        num_classes=whole,
        class_weights=spec([bucket.num_classes], tf.float32),
        smoothing=spec([children], tf.float32),
        uses_adamw=spec([children], tf.bool),
        num_steps=whole,
        rates=spec([steps, children, 3], tf.float32),
        indices=spec([steps, share], tf.int32),
        draws=spec([steps, preprocessing.NUM_DRAWS, share], tf.float32),
        augment=preprocessing.AugmentHparams(
            *(flag, number, number, flag),
            *(number, number, number, number, flag, number, number, number),
        ),
        jitter=whole,
        sides=spec([2], tf.float32),
        num_batches=whole,
        held_indices=spec([batches, share], tf.int32),
        held_mask=spec([batches, share], tf.float32),
        held_sides=spec([2], tf.float32),
    )
