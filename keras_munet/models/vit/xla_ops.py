"""Attention and MLP of a training step, with few passes over memory.

Invariant: these compute what `operations` computes, within float tolerance,
with the factors of products rounded as a step asks for. What lies between two
products (biases, GELU, the layout of heads, rounding) is compiled by XLA, so
they serve where a step is traced and not in what is saved.

Within a pass as large as GELU's XLA rounds to bfloat16 several times slower
than TensorFlow does afterwards (docs/measured/platform_notes.md), so that is
left to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_munet.models.vit import operations


def mlp(
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    products: tf.DType,
) -> tf.Tensor:
    """Returns `gelu(x @ kernels[0] + biases[0]) @ kernels[1] + biases[1]`.

    Args:
      x: `[rows, width] float32`.
      kernels: `[width, hidden]` and `[hidden, width]`, float32.
      biases: `[hidden]` and `[width]`, float32.
      products: what factors are rounded to; sums are float32.

    Returns:
      `[rows, width] float32`.
    """
    return _mlp_of(products)(x, *kernels, *biases)


def attention(
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    num_tokens: int,
    num_heads: int,
    products: tf.DType,
) -> tf.Tensor:
    """Returns what each token reads of all, projected.

    Args:
      x: `[batch * num_tokens, width] float32`, normalised.
      kernels: `[width, width] float32` of queries, keys, values and the
        projection; that of the queries holds the scale of the logits.
      biases: `[width] float32` of the same four.
      num_tokens: of an example.
      num_heads: divides the width.
      products: what the factors of products with kernels are rounded to; the
        logits and what is read are float32.

    Returns:
      As `x`; the gradients of the first three biases are sums of what is
      rounded.
    """
    compute = _attention_of(products, num_tokens, num_heads)
    return compute(x, *kernels, *biases)


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, autograph=False, jit_compile=True)


@functools.cache
def _mlp_of(products: tf.DType):
    """Returns `mlp` whose factors are rounded to `products`."""

    @tf.custom_gradient
    def compute(x, kernel_0, kernel_1, bias_0, bias_1):
        left, up, down = (tf.cast(t, products) for t in (x, kernel_0, kernel_1))
        raw = tf.matmul(left, up)
        hidden = tf.cast(_biased_gelu(raw, bias_0), products)
        y = tf.cast(tf.matmul(hidden, down), x.dtype)

        def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            dy_rounded = tf.cast(dy, products)
            draw, dbias_0 = _biased_gelu_grad(
                raw, bias_0, tf.matmul(dy_rounded, down, transpose_b=True)
            )
            dx = tf.matmul(draw, up, transpose_b=True)
            dkernel_0 = tf.matmul(left, draw, transpose_a=True)
            dkernel_1 = tf.matmul(hidden, dy_rounded, transpose_a=True)
            return (
                *(tf.cast(t, x.dtype) for t in (dx, dkernel_0, dkernel_1)),
                dbias_0,
                operations.column_sums(dy),
            )

        return tf.nn.bias_add(y, bias_1), grad

    return compute


@_jit
def _biased_gelu(raw: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `gelu(raw + bias)` in the dtype of `bias`."""
    x = tf.cast(raw, bias.dtype) + bias
    return x * _gelu_gate(x)


@_jit
def _biased_gelu_grad(
    raw: tf.Tensor, bias: tf.Tensor, dy: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of `_biased_gelu`; what it kept is `raw` alone."""
    x = tf.cast(raw, bias.dtype) + bias
    gate = _gelu_gate(x)
    slope = tf.square(x) * (3.0 * operations.GELU_B) + operations.GELU_A
    dx = tf.cast(dy, bias.dtype) * (gate + x * gate * (1.0 - gate) * slope)
    return tf.cast(dx, raw.dtype), tf.reduce_sum(dx, 0)


def _gelu_gate(x: tf.Tensor) -> tf.Tensor:
    """Returns sigmoid(x * (A + B * x**2)), by what XLA has a quick pass for."""
    half = 0.5 * x * (tf.square(x) * operations.GELU_B + operations.GELU_A)
    return 0.5 + 0.5 * tf.tanh(half)


@functools.cache
def _attention_of(products: tf.DType, num_tokens: int, num_heads: int):
    """Returns `attention` for these; queries, keys and values in one product.

    By head: `[batch, heads, tokens, dim]`; by token: `[rows, width]`.
    """

    @_jit
    def by_head(raw, bias):
        parts = tf.cast(raw, tf.float32) + bias
        parts = tf.reshape(parts, [-1, num_tokens, 3, num_heads, _dim(raw, 3)])
        return tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))

    @_jit
    def by_head_grad(*grads):
        parts = tf.stack([tf.transpose(g, [0, 2, 1, 3]) for g in grads], 2)
        width = 3 * num_heads * grads[0].shape[-1]
        return tf.cast(tf.reshape(parts, [-1, width]), products)

    @_jit
    def by_token(read):
        width = num_heads * read.shape[-1]
        tokens = tf.reshape(tf.transpose(read, [0, 2, 1, 3]), [-1, width])
        return tf.cast(tokens, products)

    @_jit
    def by_token_grad(dread):
        parts = [-1, num_tokens, num_heads, _dim(dread, 1)]
        dread = tf.transpose(tf.reshape(dread, parts), [0, 2, 1, 3])
        return tf.cast(dread, tf.float32)

    def _dim(raw, num_parts):
        return raw.shape[1] // (num_parts * num_heads)

    @tf.custom_gradient
    def compute(x, query_w, key_w, value_w, out_w, *biases):
        *head_biases, out_bias = biases
        kernel = tf.cast(tf.concat([query_w, key_w, value_w], 1), products)
        left, out = tf.cast(x, products), tf.cast(out_w, products)
        query, key, value = by_head(
            tf.matmul(left, kernel), tf.concat(head_biases, 0)
        )
        shares = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        read = by_token(tf.matmul(shares, value))
        y = tf.cast(tf.matmul(read, out), x.dtype)

        def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            up = tf.cast(dy, products)
            dread = by_token_grad(tf.matmul(up, out, transpose_b=True))
            dvalue = tf.matmul(shares, dread, transpose_a=True)
            product = tf.matmul(dread, value, transpose_b=True) * shares
            dlogits = product - shares * tf.reduce_sum(product, -1, True)
            draw = by_head_grad(
                tf.matmul(dlogits, key),
                tf.matmul(dlogits, query, transpose_a=True),
                dvalue,
            )
            dx = tf.matmul(draw, kernel, transpose_b=True)
            dkernel = tf.cast(tf.matmul(left, draw, transpose_a=True), x.dtype)
            dbias = tf.cast(operations.column_sums(draw), x.dtype)
            dout = tf.matmul(read, up, transpose_a=True)
            return (
                tf.cast(dx, x.dtype),
                *tf.split(dkernel, 3, 1),
                tf.cast(dout, x.dtype),
                *tf.split(dbias, 3),
                operations.column_sums(dy),
            )

        return tf.nn.bias_add(y, out_bias), grad

    return compute
