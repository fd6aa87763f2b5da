"""Layers in the form that is served: fewer operations, the same results.

Invariant: scores are within 1e-5 of those of the layers themselves; gradients
are left out. Queries, keys and values are one product whose kernel holds the
scale of the logits, and no operand is transposed: oneDNN takes 50 microseconds
to start a transposition. A layer that has no form of its own here is served as
it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models import path_model

# Counts up where an export computes by other operations than before.
GRAPH = 3
Arrays = Sequence[tuple[str, np.ndarray]]


class ServedLayer(NamedTuple):
    """The form in which a layer is served.

    Attributes:
      pack: returns (name, array) of what is stored, from the weights by name;
        shapes and names depend on the spec alone.
      compute: returns the output, from the input, the stored arrays in order
        and whether the class token alone is computed.
    """

    pack: Callable[[Mapping[str, np.ndarray]], Arrays]
    compute: Callable[[tf.Tensor, Sequence[tf.Tensor], bool], tf.Tensor]


def served(spec: specs.ComponentSpec) -> ServedLayer:
    """Returns the form of a component's layer.

    Args:
      spec: of the component.
    """
    # Mixed precision is for training; here sums are float32.
    layer = layer_factory.make_layer(spec, spec.name, dtype="float32")
    make = _FORMS.get(spec.layer)
    if make is not None:
        return make(layer)

    def compute(x, weights, class_token_only):
        return layer.compute(
            x, weights, **path_model.call_options(class_token_only)
        )

    return ServedLayer(
        lambda weights: [(name, weights[name]) for name, _ in spec.weights],
        compute,
    )


def scope_name(name: str) -> str:
    """Returns a name of operations and of their groups in viewers of graphs.

    Args:
      name: of a component, a weight or a task.
    """
    # TensorFlow has no other characters, and no _ in front.
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "unnamed"


def _encoder_block(layer: Any) -> ServedLayer:
    width, num_heads = layer.width, layer.num_heads
    head_dim = width // num_heads
    names = [name for name, _ in layer.spec_weights]

    def pack(weights):
        scale_0, bias_0, *attention, out_w, out_b = names[:10]
        kernels = [weights[n].reshape(width, width) for n in attention[::2]]
        biases = [weights[n].reshape(width) for n in attention[1::2]]
        share = np.float32(head_dim**-0.5)
        kernels[0], biases[0] = kernels[0] * share, biases[0] * share
        return [
            (scale_0, weights[scale_0]),
            (bias_0, weights[bias_0]),
            ("qkv_kernel", np.concatenate(kernels, 1)),
            ("qkv_bias", np.concatenate(biases)),
            (out_w, weights[out_w].reshape(width, width)),
            (out_b, weights[out_b]),
            *((name, weights[name]) for name in names[10:]),
        ]

    def compute(x, weights, class_token_only):
        scale_0, bias_0, qkv_w, qkv_b, out_w, out_b, *mlp = weights
        scale_1, bias_1, w0, b0, w1, b1 = mlp
        num_tokens = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
        flat = tf.reshape(x, [-1, width])
        normal = _norm(flat, scale_0, bias_0, layer.norm_epsilon)
        if class_token_only:
            tokens = tf.reshape(normal, [-1, num_tokens, width])
            read = _attend_once(tokens, qkv_w, qkv_b, num_heads)
            flat = x[:, 0]
        else:
            parts = _dense(normal, qkv_w, qkv_b)
            parts = tf.reshape(parts, [-1, num_tokens, 3 * width])
            read = tf.reshape(_attend(parts, num_heads), [-1, width])
        flat = flat + _dense(read, out_w, out_b)
        normal = _norm(flat, scale_1, bias_1, layer.norm_epsilon)
        hidden = tf.nn.gelu(
            _dense(normal, w0, b0), approximate=not layer.exact_gelu
        )
        flat = flat + _dense(hidden, w1, b1)
        return tf.reshape(
            flat, [-1, 1 if class_token_only else num_tokens, width]
        )

    return ServedLayer(pack, compute)


def _attend(parts: tf.Tensor, num_heads: int) -> tf.Tensor:
    """Returns what each token reads, `[batch, tokens, width]`.

    Args:
      parts: `[batch, tokens, 3 * width]`, queries, keys and values, each head
        by head.
      num_heads: of each.
    """
    heads = tf.split(parts, 3 * num_heads, -1)
    query, key, value = (
        # Heads are put behind the examples.
        tf.concat(heads[i : i + num_heads], 0)
        for i in range(0, 3 * num_heads, num_heads)
    )
    shares = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
    return tf.concat(tf.split(tf.matmul(shares, value), num_heads), -1)


def _attend_once(
    tokens: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, num_heads: int
) -> tf.Tensor:
    """Returns what the first token reads, `[batch, width]`.

    See `operations.attend_once`, which carries kernels over to the query too.

    Args:
      tokens: `[batch, tokens, width]`, normalised.
      kernel: `[width, 3 * width]` of queries, keys and values.
      bias: `[3 * width]`.
      num_heads: of each.
    """
    kernels = tf.split(kernel, 3 * num_heads, 1)
    biases = tf.split(bias, 3 * num_heads)
    first = tokens[:, 0]
    sought, offsets = [], []
    for head in range(num_heads):
        query = _dense(first, kernels[head], biases[head])
        key = num_heads + head
        sought.append(tf.matmul(query, kernels[key], transpose_b=True))
        offsets.append(tf.linalg.matvec(query, biases[key]))
    logits = tf.matmul(tf.stack(sought, 1), tokens, transpose_b=True)
    shares = tf.nn.softmax(logits + tf.stack(offsets, 1)[:, :, tf.newaxis])
    means = tf.unstack(tf.matmul(shares, tokens), num_heads, 1)
    values = range(2 * num_heads, 3 * num_heads)
    return tf.concat(
        [
            _dense(mean, kernels[value], biases[value])
            for mean, value in zip(means, values, strict=True)
        ],
        -1,
    )


def _patch_embedding(layer: Any) -> ServedLayer:
    kernel, bias = (name for name, _ in layer.spec_weights)
    size, width = layer.patch_size, layer.width

    def pack(weights):
        flat = weights[kernel].reshape(-1, width)
        return [(kernel, flat), (bias, weights[bias])]

    def compute(x, weights, class_token_only):
        del class_token_only
        shape = tf.shape(x) if None in x.shape[1:] else x.shape
        rows, columns = shape[1] // size, shape[2] // size
        line = size * shape[3]
        # `tf.nn.space_to_depth` is slower but for one small picture, and
        # TF.js does not have it.
        x = tf.reshape(x, [-1, rows, size, columns, line])
        x = tf.transpose(x, [0, 1, 3, 2, 4])
        flat = _dense(tf.reshape(x, [-1, size * line]), *weights)
        return tf.reshape(flat, [-1, rows * columns, width])

    return ServedLayer(pack, compute)


def _dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def _norm(
    x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Returns rows normalised, as `operations.layer_norm_of` does."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * scale + bias


_FORMS: Mapping[str, Callable[[Any], ServedLayer]] = {
    "EncoderBlock": _encoder_block,
    "PatchEmbedding": _patch_embedding,
}
