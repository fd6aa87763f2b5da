"""Computes a chain of layers forward and backward, for every child at a time.

Invariant: what is computed for a child is what `layerwise` computes for it,
with the same functions of layers; every array has an axis of children.

The loops over the stack are written by hand: TensorFlow's own gradient of a
loop needs a static bound, keeps all that a layer computes, and computes the
gradients of frozen weights. Forward, the input of each block is kept;
backward, a block is computed once more, down to the lowest that is trained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_munet.models import path_model
from keras_munet.train import losses as losses_lib
from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data


class Chain:
    """The layers of a bucket."""

    def __init__(
        self,
        bucket: bucket_lib.Bucket,
        products: matmul_precision.MatmulPrecision,
    ):
        """Prepares the layers; traces nothing.

        Args:
          bucket: the shapes.
          products: which precision a training step multiplies in.
        """
        self._bucket = bucket
        self._products = products
        layers = [p.layer for p in (*bucket.stack[-1:], *bucket.above)]
        # Of a stack the top block computes token 0 alone, and so does what
        # stands above it.
        flags = path_model.class_token_flags(layers)
        self._token_flags = flags[len(flags) - len(bucket.above) :]

    def block(self, is_scored: bool = False) -> Callable[..., Any]:
        """Returns what the forward loop does once.

        Args:
          is_scored: whether in validation, not in a training step.

        Returns:
          A function of (tokens, arrays of the stack, whether there are
          adapters) of every child.
        """
        exact = matmul_precision.FLOAT32
        products = exact if is_scored else self._products
        return functools.partial(
            self._each, functools.partial(self._unit, products=products)
        )

    def block_gradients(self, is_trained: bool) -> Callable[..., Any]:
        """Returns what the backward loop does once.

        Args:
          is_trained: whether the block is.

        Returns:
          A function of what `block` takes and the gradient of its output.
        """
        return functools.partial(self._each, self._pulled(is_trained))

    def _layer(
        self,
        chain_layer: bucket_lib.ChainLayer,
        x: tf.Tensor,
        arrays: Mapping[str, tf.Tensor],
        products: matmul_precision.MatmulPrecision,
        class_token_only: bool = False,
    ) -> tf.Tensor:
        """Returns a layer's output for one child."""
        return chain_layer.layer.compute_weights(
            path_model.as_layer_input(chain_layer.layer, x),
            chain_layer.contracted(arrays),
            products.of(chain_layer.spec),
            **path_model.call_options(class_token_only),
        )

    def _unit(
        self,
        x: tf.Tensor,
        arrays: call_data.Tensors,
        present: tf.Tensor,
        products: matmul_precision.MatmulPrecision,
        class_token_only: bool = False,
    ) -> tf.Tensor:
        """Returns what a block and its adapter make of one child's tokens."""
        bucket = self._bucket
        if bucket.adapter is not None:
            y = self._layer(
                bucket.adapter, x, arrays[bucket.adapter.key], products
            )
            x = tf.where(present, y, x)
        assert bucket.block is not None
        return self._layer(
            bucket.block,
            x,
            arrays[bucket.block.key],
            products,
            class_token_only,
        )

    def _singles(
        self,
        chain_layers: Sequence[bucket_lib.ChainLayer],
        class_token_only: Sequence[bool],
        x: tf.Tensor,
        arrays: call_data.Tensors,
        present: Mapping[str, tf.Tensor],
        products: matmul_precision.MatmulPrecision,
    ) -> tf.Tensor:
        """Returns what layers that stand alone make of one child's input."""
        for chain_layer, only in zip(
            chain_layers, class_token_only, strict=True
        ):
            y = self._layer(
                chain_layer, x, arrays[chain_layer.key], products, only
            )
            x = (
                tf.where(present[chain_layer.key], y, x)
                if chain_layer.is_adapter
                else y
            )
        return x

    def _top(
        self,
        x: tf.Tensor,
        arrays: call_data.Tensors,
        present: Mapping[str, tf.Tensor],
        has_block: tf.Tensor,
        products: matmul_precision.MatmulPrecision,
    ) -> tf.Tensor:
        """Returns one child's logits from what its top block reads."""
        if self._bucket.block is not None:
            here = present.get(bucket_lib.ADAPTER, tf.constant(False))
            y = self._unit(x, arrays, here, products, class_token_only=True)
            x = tf.where(has_block, y, x[:, :1])
        return self._singles(
            self._bucket.above, self._token_flags, x, arrays, present, products
        )

    def _below(
        self,
        images: tf.Tensor,
        arrays: call_data.Tensors,
        present: Mapping[str, tf.Tensor],
        products: matmul_precision.MatmulPrecision,
    ) -> tf.Tensor:
        """Returns what the lowest block reads of one child's images."""
        below = self._bucket.below
        class_token_only = [False] * len(below)
        return self._singles(
            below, class_token_only, images, arrays, present, products
        )

    def _each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function of one child returns, for every child."""
        if self._bucket.children > 1:
            return tf.vectorized_map(lambda a: function(*a), arguments)
        one = function(*tf.nest.map_structure(lambda v: v[0], arguments))
        return tf.nest.map_structure(lambda v: v[None], one)

    def _images(self, images: tf.Tensor) -> tf.Tensor:
        """Returns a batch for each child."""
        children = self._bucket.children
        return tf.broadcast_to(images[None], [children, *images.shape])

    def _of_layer(self, arrays: Any, layer: tf.Tensor) -> Any:
        """Returns one position of the stack's arrays."""
        return {
            chain_layer.key: tf.nest.map_structure(
                lambda v: tf.gather(v, layer), arrays[chain_layer.key]
            )
            for chain_layer in self._bucket.stack
        }

    def _of_top(self, arrays: Any, plan: call_data.Plan) -> Any:
        """Returns what each child's top block and all above it have."""
        top = tf.maximum(plan.num_layers - 1, 0)
        result = {
            p.key: arrays[p.key] for p in self._bucket.above if p.key in arrays
        }
        for chain_layer in self._bucket.stack:
            if chain_layer.key in arrays:
                result[chain_layer.key] = tf.nest.map_structure(
                    lambda v: tf.stack(
                        [
                            tf.gather(v[:, child], top[child])
                            for child in range(self._bucket.children)
                        ]
                    ),
                    arrays[chain_layer.key],
                )
        return result

    def _stack_present(self, plan: call_data.Plan) -> tf.Tensor:
        """Returns `[layers, children] bool`, where there are adapters."""
        bucket = self._bucket
        if bucket.adapter is None:
            return tf.zeros([bucket.depth, bucket.children], tf.bool)
        return plan.present[bucket.adapter.key]

    def forward(
        self,
        weights: call_data.Tensors,
        plan: call_data.Plan,
        images: tf.Tensor,
        products: matmul_precision.MatmulPrecision,
        keeps: bool,
    ) -> tuple[tf.Tensor, Any]:
        """Returns what each child's top block reads, and all blocks' inputs."""
        bucket = self._bucket
        x = self._each(
            functools.partial(self._below, products=products),
            *(self._images(images), _of(weights, bucket.below)),
            _of(plan.present, bucket.below),
        )
        if bucket.depth < 2:
            return x, None
        kept_inputs: Any = ()
        if keeps:
            kept_inputs = tf.TensorArray(
                x.dtype,
                bucket.depth - 1,
                element_shape=x.shape,
                clear_after_read=False,
            )
        present = self._stack_present(plan)
        top = plan.num_layers - 1

        def layer(number: tf.Tensor, x: tf.Tensor, kept_inputs: Any) -> Any:
            y = self._each(
                functools.partial(self._unit, products=products),
                *(x, self._of_layer(weights, number), present[number]),
            )
            if bucket.children > 1:
                y = tf.where(wide(number < top, x), y, x)
            if keeps:
                kept_inputs = kept_inputs.write(number, x)
            return number + 1, y, kept_inputs

        last = tf.reduce_max(top)
        _, x, kept_inputs = tf.while_loop(
            lambda number, *_: number < last,
            layer,
            (tf.constant(0), x, kept_inputs),
            parallel_iterations=1,
        )
        return x, kept_inputs

    def logits(
        self, weights: call_data.Tensors, plan: call_data.Plan, x: tf.Tensor
    ) -> tf.Tensor:
        """Returns `[children, batch, classes]` logits, to be scored.

        Args:
          weights: of all layers.
          plan: of the call.
          x: from `forward`.
        """
        exact = matmul_precision.FLOAT32
        return self._each(
            functools.partial(self._top, products=exact),
            *(x, self._of_top(weights, plan)),
            *(self._of_top(plan.present, plan), plan.num_layers > 0),
        )

    def gradients(
        self,
        weights: call_data.Tensors,
        plan: call_data.Plan,
        images: tf.Tensor,
        labels: losses_lib.Labels,
    ) -> tuple[tf.Tensor, Any]:
        """Returns what a batch adds to `[children]` losses, and gradients.

        Args:
          weights: of all layers.
          plan: of the call.
          images: `[batch, size, size, 3] float32`.
          labels: as of `losses.training_loss`.
        """
        bucket, products = self._bucket, self._products
        x, kept_inputs = self.forward(
            weights, plan, images, products, keeps=True
        )

        def top(
            x: tf.Tensor,
            arrays: Any,
            present: Any,
            has_block: tf.Tensor,
            smoothing: tf.Tensor,
        ) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch((x, arrays))
                logits = self._top(x, arrays, present, has_block, products)
                losses = losses_lib.training_loss(
                    logits,
                    labels,
                    smoothing,
                    plan.class_weights,
                    plan.num_classes,
                )
            num_examples = images.shape[0] * bucket.group
            share = tf.ones_like(losses) / num_examples
            dx, gradients = tape.gradient(losses, (x, arrays), share, "zero")
            return tf.reduce_sum(losses) / num_examples, dx, gradients

        losses, dx, gradients = self._each(
            *(top, x, self._of_top(weights, plan)),
            *(self._of_top(plan.present, plan), plan.num_layers > 0),
            plan.smoothing,
        )
        if bucket.block is not None:
            dx, sums = self._back_through_stack(
                weights, plan, kept_inputs, dx, gradients
            )
            gradients |= sums
            gradients |= self._back_to_images(weights, plan, images, dx)
        return losses, gradients

    def _back_through_stack(
        self,
        weights: call_data.Tensors,
        plan: call_data.Plan,
        kept_inputs: Any,
        dx: tf.Tensor,
        top: Any,
    ) -> tuple[tf.Tensor, Any]:
        """Returns gradients of what the lowest block reads, and of the stack.

        Args:
          weights: of all layers.
          plan: of the call.
          kept_inputs: the input of each block but the top one.
          dx: gradient of what the top block reads.
          top: gradients of the top block's arrays.
        """
        bucket = self._bucket
        layers = tf.range(bucket.depth)[:, None]
        at_top = layers == tf.maximum(plan.num_layers - 1, 0)
        sums = {
            chain_layer.key: {
                name: tf.where(wide(at_top, value, 1), value[None], 0.0)
                for name, value in top[chain_layer.key].items()
            }
            for chain_layer in bucket.stack
        }
        if bucket.depth < 2:
            return dx, sums
        arrays = tf.nest.map_structure(
            lambda v: tf.TensorArray(
                v.dtype, bucket.depth, element_shape=v.shape[1:]
            ).unstack(v),
            sums,
        )
        present, top_layer = self._stack_present(plan), plan.num_layers - 1

        def layer(number: tf.Tensor, dx: tf.Tensor, arrays: Any) -> Any:
            x, here = kept_inputs.read(number), present[number]
            mine = self._of_layer(weights, number)
            if bucket.children > 1:
                up = tf.where(wide(number < top_layer, dx), dx, 0.0)
            else:
                up = dx
            below, gradients = tf.cond(
                tf.reduce_any(plan.trained[bucket_lib.BLOCK][number]),
                lambda: self._each(self._pulled(True), x, mine, here, up),
                lambda: self._each(self._pulled(False), x, mine, here, up),
            )
            if bucket.children > 1:
                below = tf.where(wide(number < top_layer, dx), below, dx)
                gradients = {
                    key: {
                        name: tf.where(
                            wide(number == top_layer, value),
                            sums[key][name][number],
                            value,
                        )
                        for name, value in values.items()
                    }
                    for key, values in gradients.items()
                }
            arrays = {
                key: {
                    name: array.write(number, gradients[key][name])
                    for name, array in values.items()
                }
                for key, values in arrays.items()
            }
            return number - 1, below, arrays

        lowest = tf.reduce_min(plan.lowest)
        _, dx, arrays = tf.while_loop(
            lambda number, *_: number >= lowest,
            layer,
            (tf.reduce_max(top_layer) - 1, dx, arrays),
            parallel_iterations=1,
        )
        return dx, tf.nest.map_structure(lambda array: array.stack(), arrays)

    def _pulled(self, with_block: bool) -> Callable[..., Any]:
        """Returns what pulls a gradient through a block of one child.

        Args:
          with_block: whether the gradients of the block's arrays are computed
            or zeros.
        """

        def pulled(
            x: tf.Tensor, arrays: Any, present: tf.Tensor, dy: tf.Tensor
        ) -> Any:
            sources = arrays
            if not with_block:
                sources = {
                    key: values
                    for key, values in arrays.items()
                    if key != bucket_lib.BLOCK
                }
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch((x, sources))
                y = self._unit(x, arrays, present, self._products)
            dx, gradients = tape.gradient(y, (x, sources), dy, "zero")
            zeros = tf.nest.map_structure(tf.zeros_like, arrays)
            return dx, {**zeros, **gradients}

        return pulled

    def _back_to_images(
        self,
        weights: call_data.Tensors,
        plan: call_data.Plan,
        images: tf.Tensor,
        dx: tf.Tensor,
    ) -> Any:
        """Returns the gradients of what stands below the stack."""
        below = self._bucket.below
        mine = _of(weights, below)

        def one(images: tf.Tensor, arrays: Any, present: Any, dx: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(arrays)
                x = self._below(images, arrays, present, self._products)
            return tape.gradient(x, arrays, dx, "zero")

        return tf.cond(
            tf.reduce_any(
                [plan.trained[chain_layer.key] for chain_layer in below]
            ),
            lambda: self._each(
                one, self._images(images), mine, _of(plan.present, below), dx
            ),
            lambda: tf.nest.map_structure(tf.zeros_like, mine),
        )


def _of(
    values: Mapping[str, Any], chain_layers: Sequence[bucket_lib.ChainLayer]
) -> Any:
    return {p.key: values[p.key] for p in chain_layers if p.key in values}


def wide(flags: tf.Tensor, like: tf.Tensor, more: int = 0) -> tf.Tensor:
    """Returns flags with the rank of a tensor, less `more`, axes at its end."""
    num_ones = like.shape.rank + more - flags.shape.rank
    return tf.reshape(flags, [*flags.shape, *[1] * num_ones])
