"""The mathematics of every ViT layer as functions of tensors.

Invariant: a function reads its arguments alone, never a variable. Each layer
kind is ONE module-level `tf.function`, traced once per shape, so that the
graph of a whole generation holds a call per block and not a block per block;
TensorFlow inlines the calls when it runs the graph. Sums run in the dtype of
the activations; norms, softmax and logits in float32.

What makes it fast on a CPU: products are two-dimensional, query, key and
value are one product, and the gradients of GELU, layer norm and bias are
written by hand to pass over memory fewer times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Which gradients a call that stands apart computes.
ALL = "all"
WEIGHTS_ONLY = "weights"
INPUT_ONLY = "input"

LAYER_NORM_EPSILON = 1e-6
# GELU by its tanh approximation is x * sigmoid(x * (A + B * x**2)) with
# A = 2 * sqrt(2 / pi) and B = 0.044715 * A.
_GELU_A = 1.5957691216057308
_GELU_B = 0.07135481282052493


@tf.custom_gradient
def gelu(x: tf.Tensor):
    """Returns GELU by the tanh approximation, the shape and dtype of `x`."""
    square = tf.square(x)
    gate = tf.sigmoid(x * (square * _GELU_B + _GELU_A))
    y = x * gate

    def grad(dy: tf.Tensor) -> tf.Tensor:
        slope = square * (3.0 * _GELU_B) + _GELU_A
        return dy * (gate + (y - y * gate) * slope)

    return y, grad


@tf.custom_gradient
def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor):
    """Returns `x @ kernel + bias`.

    Args:
      x: `[rows, inputs]`.
      kernel: `[inputs, outputs]`, the dtype of `x`.
      bias: `[outputs]`, the dtype of `x`.

    Returns:
      `[rows, outputs]`, the dtype of `x`.
    """
    y = tf.nn.bias_add(tf.matmul(x, kernel), bias)

    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (
            tf.matmul(dy, kernel, transpose_b=True),
            tf.matmul(x, dy, transpose_a=True),
            _column_sums(dy),
        )

    return y, grad


@functools.cache
def layer_norm_of(epsilon: float):
    """Returns `layer_norm` with `epsilon` added to the variance."""

    @tf.custom_gradient
    def normalise(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor):
        return _layer_norm(x, scale, bias, epsilon)

    return normalise


def layer_norm(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `x` normalised over its last axis, then scaled and shifted.

    Args:
      x: `[rows, width]`; statistics are float32 whatever its dtype.
      scale: `[width] float32`.
      bias: `[width] float32`.

    Returns:
      `[rows, width]`, the dtype of `x`.
    """
    return layer_norm_of(LAYER_NORM_EPSILON)(x, scale, bias)


def _layer_norm(x, scale, bias, epsilon: float):
    """Returns (what `layer_norm` does, its gradient)."""
    wide = tf.cast(x, tf.float32)
    centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    inverse = tf.math.rsqrt(variance + epsilon)
    normal = centred * inverse
    y = tf.cast(normal * scale + bias, x.dtype)

    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        dy = tf.cast(dy, tf.float32)
        product = dy * normal
        # The two means over the width of dy * scale and of its product with
        # the normalised values, as products with a column.
        column = scale[:, tf.newaxis] / tf.cast(tf.size(scale), tf.float32)
        dx = (
            dy * scale
            - tf.matmul(dy, column)
            - normal * tf.matmul(product, column)
        ) * inverse
        dscale, dbias = _column_sums(product), _column_sums(dy)
        return tf.cast(dx, x.dtype), dscale, dbias

    return y, grad


def _column_sums(x: tf.Tensor) -> tf.Tensor:
    """Returns `[columns]`; a product is faster than TensorFlow's own sum."""
    ones = tf.ones([1, _size(x, 0)], x.dtype)
    return tf.reshape(tf.matmul(ones, x), [-1])


def _size(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Returns a side of `x`: a number where known, else a scalar tensor."""
    return x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]


def _attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns what each query reads; `query` is already scaled.

    Args:
      query: `[batch, queries, heads, dim]`.
      key: `[batch, tokens, heads, dim]`.
      value: as `key`.

    Returns:
      `[batch, queries, heads, dim]`.
    """
    query, key, value = (
        tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, value)
    )
    logits = tf.matmul(query, key, transpose_b=True)
    shares = tf.nn.softmax(tf.cast(logits, tf.float32))
    read = tf.matmul(tf.cast(shares, value.dtype), value)
    return tf.transpose(read, [0, 2, 1, 3])


def patch_embedding_math(
    images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Returns `[batch, patches, width]`, a product per patch.

    Args:
      images: `[batch, side, side, channels]`, `side` a multiple of the patch.
      kernel: `[patch, patch, channels, width]`.
      bias: `[width]`.
    """
    patch, _, channels, width = kernel.shape
    rows, columns = (_size(images, axis) // patch for axis in (1, 2))
    x = tf.reshape(images, [-1, rows, patch, columns, patch, channels])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    x = tf.reshape(x, [-1, patch * patch * channels])
    kernel = tf.cast(tf.reshape(kernel, [-1, width]), x.dtype)
    y = dense(x, kernel, tf.cast(bias, x.dtype))
    return tf.reshape(y, [-1, rows * columns, width])


def class_token_math(x: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, 1 + tokens, width]`, `token` in front of `x`."""
    token = tf.cast(token, x.dtype)
    tokens = tf.broadcast_to(token, [_size(x, 0), 1, token.shape[-1]])
    return tf.concat([tokens, x], 1)


def position_embedding_math(x: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns `x + positions`, `[batch, tokens, width]`."""
    return x + tf.cast(positions, x.dtype)


def residual_adapter_math(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
    """Returns `x + dense_1(gelu(dense_0(norm(x))))`.

    Args:
      x: `[batch, tokens, width]`.
      *weights: in the order of `shapes.weights("ResidualAdapter", ...)`.
    """
    scale, bias, *kernels = weights
    width, num_tokens = scale.shape[0], _size(x, 1)
    kernels = [tf.cast(w, x.dtype) for w in kernels]
    flat = tf.reshape(x, [-1, width])
    hidden = gelu(dense(layer_norm(flat, scale, bias), *kernels[:2]))
    y = flat + dense(hidden, *kernels[2:])
    return tf.reshape(y, [-1, num_tokens, width])


def encoder_block_math(
    x: tf.Tensor,
    *weights: tf.Tensor,
    class_token_only: bool = False,
    exact_gelu: bool = False,
    norm_epsilon: float = LAYER_NORM_EPSILON,
) -> tf.Tensor:
    """Returns one block's output: attention, then an MLP, each added to `x`.

    Args:
      x: `[batch, tokens, width]`.
      *weights: in the order of `shapes.weights("EncoderBlock", ...)`.
      class_token_only: compute what token 0 reads and nothing else.
      exact_gelu: GELU by the error function, not by tanh.
      norm_epsilon: what both norms add to the variance.

    Returns:
      `[batch, tokens, width]`, or `[batch, 1, width]` of token 0.
    """
    scale_0, bias_0, *attention, scale_1, bias_1, w0, b0, w1, b1 = weights
    width, num_heads, head_dim = attention[0].shape
    num_tokens = _size(x, 1)
    flat = tf.reshape(x, [-1, width])
    norm = layer_norm_of(norm_epsilon)
    normal = norm(flat, scale_0, bias_0)
    # Scaling the query's kernel is cheaper than scaling queries or logits.
    share = head_dim**-0.5
    query_w, query_b = (w * share for w in attention[:2])
    query_w, key_w, value_w, out_w = (
        tf.cast(tf.reshape(w, [width, width]), x.dtype)
        for w in (query_w, *attention[2:8:2])
    )
    query_b, key_b, value_b, out_b = (
        tf.cast(tf.reshape(b, [width]), x.dtype)
        for b in (query_b, *attention[3:8:2])
    )

    def split(y: tf.Tensor, num_parts: int, tokens: int | tf.Tensor):
        shape = [-1, tokens, num_heads, head_dim]
        return [tf.reshape(p, shape) for p in tf.split(y, num_parts, -1)]

    if class_token_only:
        flat, num_queries = x[:, 0], 1
        first = tf.reshape(normal, [-1, num_tokens, width])[:, 0]
        (query,) = split(dense(first, query_w, query_b), 1, 1)
        kernel = tf.concat([key_w, value_w], 1)
        both = dense(normal, kernel, tf.concat([key_b, value_b], 0))
        key, value = split(both, 2, num_tokens)
    else:
        num_queries = num_tokens
        kernel = tf.concat([query_w, key_w, value_w], 1)
        bias = tf.concat([query_b, key_b, value_b], 0)
        query, key, value = split(dense(normal, kernel, bias), 3, num_tokens)
    read = tf.reshape(_attend(query, key, value), [-1, width])
    flat = flat + dense(read, out_w, out_b)
    w0, b0, w1, b1 = (tf.cast(w, x.dtype) for w in (w0, b0, w1, b1))
    hidden = dense(norm(flat, scale_1, bias_1), w0, b0)
    hidden = tf.nn.gelu(hidden) if exact_gelu else gelu(hidden)
    return tf.reshape(flat + dense(hidden, w1, b1), [-1, num_queries, width])


def encoder_norm_math(
    x: tf.Tensor,
    scale: tf.Tensor,
    bias: tf.Tensor,
    *,
    class_token_only: bool = False,
    norm_epsilon: float = LAYER_NORM_EPSILON,
) -> tf.Tensor:
    """Returns `x` normalised, or `[batch, 1, width]` of token 0 alone."""
    x = x[:, :1] if class_token_only else x
    num_tokens, width = _size(x, 1), scale.shape[0]
    y = layer_norm_of(norm_epsilon)(tf.reshape(x, [-1, width]), scale, bias)
    return tf.reshape(y, [-1, num_tokens, width])


def pre_logits_math(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Returns `tanh(dense(token 0))`, `[batch, 1, representation]`."""
    kernel, bias = tf.cast(kernel, x.dtype), tf.cast(bias, x.dtype)
    return tf.tanh(dense(x[:, 0], kernel, bias))[:, tf.newaxis]


def head_math(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, classes] float32` logits, read from token 0."""
    return dense(tf.cast(x[:, 0], tf.float32), kernel, bias)


def _traced_once(math):
    return tf.function(math, autograph=False)


@functools.cache
def apart(function: Any, gradients: str, shapes: tuple[tuple[int, ...], ...]):
    """Returns `function` compiled once, never inlined, on one flat weight.

    A graph of many such calls is optimised in a fraction of the time, since
    TensorFlow sees a call and not its operations, and a call with one weight
    and not with sixteen; what a call computes is the same. As the backward
    call cannot be pruned from outside, the gradients that nobody needs are
    left out here.

    Args:
      function: one of this module's `tf.function`s.
      gradients: `all`, or `weights` or `input` alone.
      shapes: of the weights that `function` takes.

    Returns:
      A `tf.function` of (x, `[n] float32`: the weights end to end).
    """

    def compute(x: tf.Tensor, packed: tf.Tensor, **options: bool) -> tf.Tensor:
        if gradients == WEIGHTS_ONLY:
            x = tf.stop_gradient(x)
        if gradients == INPUT_ONLY:
            packed = tf.stop_gradient(packed)
        weights = unpacked(packed, shapes)
        return function.python_function(x, *weights, **options)

    return tf.function(
        compute, autograph=False, experimental_attributes={"_noinline": True}
    )


def unpacked(
    packed: tf.Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[tf.Tensor]:
    """Returns the tensors of `shapes` that lie end to end in `packed`."""
    parts = tf.split(packed, [math.prod(shape) for shape in shapes])
    return [
        tf.reshape(part, shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]


patch_embedding = _traced_once(patch_embedding_math)
class_token = _traced_once(class_token_math)
position_embedding = _traced_once(position_embedding_math)
residual_adapter = _traced_once(residual_adapter_math)
encoder_block = _traced_once(encoder_block_math)
encoder_norm = _traced_once(encoder_norm_math)
pre_logits = _traced_once(pre_logits_math)
head = _traced_once(head_math)
