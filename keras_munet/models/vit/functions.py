"""The mathematics of every ViT layer as functions of tensors.

Invariant: a function reads its arguments alone, never a variable. Each layer
kind is ONE module-level `tf.function`, traced once per shape, so that the
graph of a whole generation holds a call per block and not a block per block;
TensorFlow inlines the calls when it runs the graph. Sums run in the dtype of
the activations; norms, softmax and logits in float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_munet.models.vit import operations
from keras_munet.models.vit import xla_ops

# Which gradients a call that stands apart computes.
ALL = "all"
WEIGHTS_ONLY = "weights"
INPUT_ONLY = "input"


def patch_embedding_math(
    images: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    *,
    products: tf.DType | None = None,
) -> tf.Tensor:
    """Returns `[batch, patches, width]`, a product per patch.

    Args:
      images: `[batch, side, side, channels]`, `side` a multiple of the patch.
      kernel: `[patch, patch, channels, width]`.
      bias: `[width]`.
      products: see `operations.dense`.
    """
    patch, _, channels, width = kernel.shape
    rows, columns = (operations.size(images, axis) // patch for axis in (1, 2))
    x = tf.reshape(images, [-1, rows, patch, columns, patch, channels])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    x = tf.reshape(x, [-1, patch * patch * channels])
    kernel = tf.cast(tf.reshape(kernel, [-1, width]), x.dtype)
    y = operations.dense(x, kernel, tf.cast(bias, x.dtype), products)
    return tf.reshape(y, [-1, rows * columns, width])


def class_token_math(x: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, 1 + tokens, width]`, `token` in front of `x`."""
    token = tf.cast(token, x.dtype)
    tokens = tf.broadcast_to(token, [operations.size(x, 0), 1, token.shape[-1]])
    return tf.concat([tokens, x], 1)


def position_embedding_math(x: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns `x + positions`, `[batch, tokens, width]`."""
    return x + tf.cast(positions, x.dtype)


def residual_adapter_math(
    x: tf.Tensor, *weights: tf.Tensor, products: tf.DType | None = None
) -> tf.Tensor:
    """Returns `x + dense_1(gelu(dense_0(norm(x))))`.

    Args:
      x: `[batch, tokens, width]`.
      *weights: in the order of `shapes.weights("ResidualAdapter", ...)`.
      products: see `operations.dense`.
    """
    scale, bias, *dense_weights = weights
    width, num_tokens = scale.shape[0], operations.size(x, 1)
    w0, b0, w1, b1 = (tf.cast(w, x.dtype) for w in dense_weights)
    flat = tf.reshape(x, [-1, width])
    normal = operations.layer_norm(flat, scale, bias)
    y = flat + _mlp(normal, (w0, w1), (b0, b1), products)
    return tf.reshape(y, [-1, num_tokens, width])


def encoder_block_math(
    x: tf.Tensor,
    *weights: tf.Tensor,
    class_token_only: bool = False,
    exact_gelu: bool = False,
    norm_epsilon: float = operations.LAYER_NORM_EPSILON,
    products: tf.DType | None = None,
) -> tf.Tensor:
    """Returns one block's output: attention, then an MLP, each added to `x`.

    Args:
      x: `[batch, tokens, width]`.
      *weights: in the order of `shapes.weights("EncoderBlock", ...)`.
      class_token_only: compute what token 0 reads and nothing else.
      exact_gelu: GELU by the error function, not by tanh.
      norm_epsilon: what both norms add to the variance.
      products: see `operations.dense`.

    Returns:
      `[batch, tokens, width]`, or `[batch, 1, width]` of token 0.
    """
    scale_0, bias_0, *attention, scale_1, bias_1, w0, b0, w1, b1 = weights
    width, num_heads, head_dim = attention[0].shape
    num_tokens = operations.size(x, 1)
    flat = tf.reshape(x, [-1, width])
    norm = operations.layer_norm_of(norm_epsilon)
    normal = norm(flat, scale_0, bias_0)
    # Scaling the query's kernel is cheaper than scaling queries or logits. In
    # bfloat16 it may only be done by a power of two, which rounds nothing.
    share, remaining_scale = head_dim**-0.5, 1.0
    if x.dtype != tf.float32 and math.frexp(share)[0] != 0.5:
        share, remaining_scale = 1.0, share
    query_w, query_b = (w * share for w in attention[:2])
    kernels = [
        tf.cast(tf.reshape(w, [width, width]), x.dtype)
        for w in (query_w, *attention[2:8:2])
    ]
    biases = [
        tf.cast(tf.reshape(b, [width]), x.dtype)
        for b in (query_b, *attention[3:8:2])
    ]
    project = functools.partial(operations.dense, products=products)

    def heads(y: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        parts = project(y, kernel, bias)
        return tf.reshape(parts, [-1, num_tokens, num_heads, head_dim])

    def projected(parts: tf.Tensor) -> tf.Tensor:
        return project(tf.reshape(parts, [-1, width]), kernels[3], biases[3])

    num_queries = 1 if class_token_only else num_tokens
    if class_token_only:
        flat = operations.first_token(x)
        tokens = tf.reshape(normal, [-1, num_tokens, width])
        query = project(operations.first_token(tokens), kernels[0], biases[0])
        query = tf.reshape(query, [-1, num_heads, head_dim])
        read = projected(
            operations.attend_once(
                query, tokens, attention[2:6], remaining_scale
            )
        )
    elif (
        products is not None
        and x.dtype == tf.float32
        and isinstance(num_tokens, int)
    ):
        read = xla_ops.attention(
            normal, kernels, biases, num_tokens, num_heads, products
        )
    else:
        query, key, value = (
            heads(normal, kernel, bias)
            for kernel, bias in zip(kernels[:3], biases[:3], strict=True)
        )
        read = projected(operations.attend(query, key, value, remaining_scale))
    flat = flat + read
    w0, b0, w1, b1 = (tf.cast(w, x.dtype) for w in (w0, b0, w1, b1))
    normal = norm(flat, scale_1, bias_1)
    if exact_gelu:
        hidden = tf.nn.gelu(project(normal, w0, b0))
        y = flat + project(hidden, w1, b1)
    else:
        y = flat + _mlp(normal, (w0, w1), (b0, b1), products)
    return tf.reshape(y, [-1, num_queries, width])


def _mlp(x, kernels, biases, products: tf.DType | None):
    """Returns the MLP of operations that can be saved, or of a step's."""
    if products is None:
        return operations.mlp(x, kernels, biases)
    return xla_ops.mlp(x, kernels, biases, products)


def encoder_norm_math(
    x: tf.Tensor,
    scale: tf.Tensor,
    bias: tf.Tensor,
    *,
    class_token_only: bool = False,
    norm_epsilon: float = operations.LAYER_NORM_EPSILON,
) -> tf.Tensor:
    """Returns `x` normalised, or `[batch, 1, width]` of token 0 alone."""
    x = x[:, :1] if class_token_only else x
    num_tokens, width = operations.size(x, 1), scale.shape[0]
    y = operations.layer_norm_of(norm_epsilon)(
        tf.reshape(x, [-1, width]), scale, bias
    )
    return tf.reshape(y, [-1, num_tokens, width])


def pre_logits_math(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Returns `tanh(dense(token 0))`, `[batch, 1, representation]`."""
    kernel, bias = tf.cast(kernel, x.dtype), tf.cast(bias, x.dtype)
    return tf.tanh(operations.dense(x[:, 0], kernel, bias))[:, tf.newaxis]


def head_math(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, classes] float32` logits, read from token 0."""
    return operations.dense(tf.cast(x[:, 0], tf.float32), kernel, bias)


def _traced_once(math):
    return tf.function(math, autograph=False)


@functools.cache
def noinline(
    function: Any, gradients: str, shapes: tuple[tuple[int, ...], ...]
) -> tf.types.experimental.PolymorphicFunction:
    """Returns `function` compiled once, never inlined, on one flat weight.

    A graph of many such calls is optimised in a fraction of the time, since
    TensorFlow sees a call and not its operations, and a call with one weight
    and not with sixteen; what a call computes is the same. As the backward
    call cannot be pruned from outside, the unneeded gradients are
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
        part if len(shape) == 1 else tf.reshape(part, shape)
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
