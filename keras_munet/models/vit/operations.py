"""The operations that ViT layers consist of, with their gradients.

Sums run in the dtype of the activations; norms and softmax in float32. What
makes them fast on a CPU: products are two-dimensional, one query reads without
a key or value of any token, and the gradients of GELU, layer norm and bias are
written by hand to pass over memory fewer times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Sequence

import tensorflow as tf

LAYER_NORM_EPSILON = 1e-6
# GELU by its tanh approximation is x * sigmoid(x * (A + B * x**2)) with
# A = 2 * sqrt(2 / pi) and B = 0.044715 * A.
GELU_A = 1.5957691216057308
GELU_B = 0.07135481282052493


@tf.custom_gradient
def gelu(x: tf.Tensor):
    """Returns GELU by the tanh approximation, the shape and dtype of `x`."""
    square = tf.square(x)
    gate = tf.sigmoid(x * (square * GELU_B + GELU_A))
    y = x * gate

    def grad(dy: tf.Tensor) -> tf.Tensor:
        slope = square * (3.0 * GELU_B) + GELU_A
        return dy * (gate + (y - y * gate) * slope)

    return y, grad


def dense(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    products: tf.DType | None = None,
) -> tf.Tensor:
    """Returns `x @ kernel + bias`.

    Args:
      x: `[rows, inputs]`.
      kernel: `[inputs, outputs]`, the dtype of `x`.
      bias: `[outputs]`, the dtype of `x`.
      products: what the factors of this product and of its gradient's are
        rounded to; None for the dtype of `x`. Sums stay in that of `x`.

    Returns:
      `[rows, outputs]`, the dtype of `x`.
    """
    return _dense_of(products or x.dtype)(x, kernel, bias)


@functools.cache
def _dense_of(products: tf.DType):
    """Returns `dense` whose factors are rounded to `products`."""

    @tf.custom_gradient
    def compute(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor):
        left, right = tf.cast(x, products), tf.cast(kernel, products)
        y = tf.nn.bias_add(tf.cast(tf.matmul(left, right), x.dtype), bias)

        def grad(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            up = tf.cast(dy, products)
            return (
                tf.cast(tf.matmul(up, right, transpose_b=True), x.dtype),
                tf.cast(tf.matmul(left, up, transpose_a=True), x.dtype),
                column_sums(dy),
            )

        return y, grad

    return compute


def mlp(
    x: tf.Tensor, kernels: Sequence[tf.Tensor], biases: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Returns `gelu(x @ kernels[0] + biases[0]) @ kernels[1] + biases[1]`.

    Args:
      x: `[rows, width]`.
      kernels: `[width, hidden]` and `[hidden, width]`, the dtype of `x`.
      biases: `[hidden]` and `[width]`, the dtype of `x`.

    Returns:
      `[rows, width]`, the dtype of `x`.
    """
    hidden = gelu(dense(x, kernels[0], biases[0]))
    return dense(hidden, kernels[1], biases[1])


@tf.custom_gradient
def first_token(x: tf.Tensor):
    """Returns token 0, `[batch, width]`, of `[batch, tokens, width]`."""
    num_tokens = size(x, 1)

    def grad(dy: tf.Tensor) -> tf.Tensor:
        # A padding is written once; a slice's own gradient is not.
        return tf.pad(dy[:, tf.newaxis], [[0, 0], [0, num_tokens - 1], [0, 0]])

    return x[:, 0], grad


@functools.cache
def layer_norm_of(epsilon: float) -> Callable[..., tf.Tensor]:
    """Returns `layer_norm` with `epsilon` added to the variance."""

    @tf.custom_gradient
    def normalise(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor):
        return _layer_norm(x, scale, bias, epsilon)

    return normalise


def layer_norm(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `x` normalised over its last axis, then scaled and shifted.

    Args:
      x: `[rows, width]`; statistics are float32 for any dtype.
      scale: `[width] float32`.
      bias: `[width] float32`.

    Returns:
      `[rows, width]`, the dtype of `x`.
    """
    return layer_norm_of(LAYER_NORM_EPSILON)(x, scale, bias)


def _layer_norm(x, scale, bias, epsilon: float):
    """Returns (what `layer_norm` does, its gradient)."""
    wide = tf.cast(x, tf.float32)
    mean = tf.reduce_mean(wide, -1, keepdims=True)
    centred = wide - mean
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    inverse = tf.math.rsqrt(variance + epsilon)
    normal = centred * inverse
    if x.dtype == tf.float32:
        y = normal * scale + bias
    else:
        # In Keras's order: near a rounding step of bfloat16, float32's last
        # digit decides, and layers that came from Keras must round alike.
        gain = inverse * scale
        y = tf.cast(wide * gain + (bias - mean * gain), x.dtype)

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
        dscale, dbias = column_sums(product), column_sums(dy)
        return tf.cast(dx, x.dtype), dscale, dbias

    return y, grad


def column_sums(x: tf.Tensor) -> tf.Tensor:
    """Returns `[columns]`; a product is faster than TensorFlow's own sum."""
    ones = tf.ones([1, size(x, 0)], x.dtype)
    return tf.reshape(tf.matmul(ones, x), [-1])


def size(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Returns a side of `x`: a number where known, else a scalar tensor."""
    return x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]


def attend(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, share: float
) -> tf.Tensor:
    """Returns what each query reads.

    Args:
      query: `[batch, queries, heads, dim]`.
      key: `[batch, tokens, heads, dim]`.
      value: as `key`.
      share: what the logits are still to be multiplied by.

    Returns:
      `[batch, queries, heads, dim]`.
    """
    query, key, value = (
        tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, value)
    )
    logits = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
    shares = tf.nn.softmax(logits if share == 1.0 else logits * share)
    read = tf.matmul(tf.cast(shares, value.dtype), value)
    return tf.transpose(read, [0, 2, 1, 3])


def attend_once(
    query: tf.Tensor,
    tokens: tf.Tensor,
    weights: Sequence[tf.Tensor],
    share: float,
) -> tf.Tensor:
    """Returns what one query reads, without a key or value of any token.

    A logit is query . (kernel token + bias) = (query kernel) . token + query .
    bias, and the shares add up to 1: with one query it is cheaper to carry the
    kernels over to its side than to apply them to every token.

    Args:
      query: `[batch, heads, dim]`.
      tokens: `[batch, tokens, width]`, normalised.
      weights: `[width, heads, dim]` and `[heads, dim]` of the keys, then of
        the values; float32.
      share: what the logits are still to be multiplied by.

    Returns:
      `[batch, heads, dim]`.
    """
    key_w, key_b, value_w, value_b = (tf.cast(w, tokens.dtype) for w in weights)
    by_head = tf.transpose(query, [1, 0, 2])
    sought = tf.matmul(by_head, tf.transpose(key_w, [1, 2, 0]))
    sought = tf.transpose(sought, [1, 0, 2])
    offset = tf.matmul(by_head, key_b[:, :, tf.newaxis])
    logits = tf.matmul(sought, tokens, transpose_b=True)
    logits = tf.cast(logits + tf.transpose(offset, [1, 0, 2]), tf.float32)
    shares = tf.nn.softmax(logits if share == 1.0 else logits * share)
    mean = tf.matmul(tf.cast(shares, tokens.dtype), tokens)
    mean = tf.transpose(mean, [1, 0, 2])
    read = tf.matmul(mean, tf.transpose(value_w, [1, 0, 2]))
    return tf.transpose(read, [1, 0, 2]) + value_b
