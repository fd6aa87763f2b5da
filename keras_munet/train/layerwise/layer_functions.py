"""Caches forward and backward functions per layer signature.

Invariant: a function's weights are its arguments, as the handle of a variable,
so that all layers of a kind share it, of any child, generation and task:
a new structure has nothing to compile once its kinds of layer were seen.

The gradient is traced while the layer is, within it: what it reads of the
layer are its captures, which the layer then returns beside its output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_munet.models.vit import functions
from keras_munet.train import grappler
from keras_munet.train import layer_pool
from keras_munet.train import losses as losses_lib
from keras_munet.train import optimizer
from keras_munet.train.layerwise import layer_signature

_HANDLE = tf.TensorSpec([], tf.resource)
# A task adds three for its head and its loss; only very many image or batch
# sizes come near.
_NUM_MAX = 2048


class TracedCall:
    """A traced function, called without what Python does around one.

    Attributes:
      prepared: whether it was called, so that TensorFlow has built its kernels.
    """

    def __init__(self, traced: tf.types.experimental.ConcreteFunction):
        """Takes a function that reads and moves its arguments alone."""
        self._traced = traced
        self._dtypes = [output.dtype for output in traced.outputs]
        self.prepared = False

    def __call__(self, *args: tf.Tensor) -> list[tf.Tensor]:
        """Returns what the function does, for tensors and handles."""
        # A tenth of the time that the function's own call takes, which binds
        # and checks its arguments.
        return tf.raw_ops.StatefulPartitionedCall(
            args=args,
            Tout=self._dtypes,
            f=self._traced,
            config_proto=grappler.PLAIN,
        )


@dataclasses.dataclass(frozen=True)
class ForwardBackward:
    """A layer's output, and later its gradients.

    Attributes:
      forward: (handle, input) -> the output, then what is kept of it.
      backward: (gradient of the output, what was kept) -> the gradient of the
        input, unless nothing below is trained, and of the layer's values,
        where it is trained.
    """

    forward: TracedCall
    backward: TracedCall


class LayerFunctions:
    """Every function of a trainer, by what it computes and of which shapes."""

    def __init__(self, num_max: int = _NUM_MAX):
        """Begins without any.

        Args:
          num_max: when there are so many, all are dropped; what is needed is
            compiled anew.
        """
        self._calls: dict[Hashable, Any] = {}
        self._num_max = num_max
        # Keras builds, and a function is traced, in one thread at a time.
        self._tracing = threading.Lock()
        self._counting = threading.Lock()
        self._num_compiling = 0
        self._started = self._secs = 0.0

    def compile_secs(self) -> float:
        """Returns for how many seconds functions were compiled so far.

        That is while any thread traced one or called it for the first time,
        not the work of other threads.
        """
        with self._counting:
            if not self._num_compiling:
                return self._secs
            return self._secs + time.perf_counter() - self._started

    def output(
        self,
        signature: layer_signature.LayerSignature,
        handle: tf.Tensor,
        x: tf.Tensor,
    ) -> tf.Tensor:
        """Returns what a layer of `signature` computes.

        Args:
          signature: of the layer.
          handle: of the layer's variable.
          x: the input.
        """

        def traced() -> TracedCall:
            def run(handle: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
                return signature.compute(x, _read(handle, signature.num_values))

            return _call(run, _HANDLE, _like(x))

        return self._run((signature, x.shape, x.dtype), traced, handle, x)[0]

    def forward(
        self,
        signature: layer_signature.LayerSignature,
        gradients: str,
        handle: tf.Tensor,
        x: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        """Returns what a layer computes, and how its gradients are got.

        Args:
          signature: of the layer.
          gradients: which are wanted; see `functions.noinline`.
          handle: of the layer's variable.
          x: the input.

        Returns:
          The output, and a function of its gradient that returns what
          `ForwardBackward.backward` does. It may be called once.
        """
        key = signature, gradients, x.shape, x.dtype
        functions = self._calls.get(key)
        if functions is None:
            functions = self._get(
                key, lambda: _forward_backward(signature, gradients, x)
            )
        y, *saved = self._call(functions.forward, handle, x)
        return y, lambda dy: self._call(functions.backward, dy, *saved)

    def loss(
        self,
        logits: tf.Tensor,
        labels: losses_lib.Labels,
        batch_size: int,
        smoothing: float = 0.0,
        class_weights: tuple[float, ...] = (),
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a child's loss and the gradient of its logits.

        Args:
          logits: `[n, classes]`.
          labels: as of `losses.training_loss`.
          batch_size: examples of the whole batch, of which these are some.
          smoothing: see `losses.cross_entropy`.
          class_weights: see `losses.cross_entropy`.

        Returns:
          What these examples add to the loss, nats, and `[n, classes]`.
        """

        flat_labels = tf.nest.flatten(labels)

        def traced() -> TracedCall:
            def run(logits: tf.Tensor, *flat: tf.Tensor) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(logits)
                    losses = losses_lib.training_loss(
                        logits,
                        tf.nest.pack_sequence_as(labels, flat),
                        smoothing,
                        class_weights,
                    )
                share = tf.ones_like(losses) / batch_size
                total = tf.reduce_sum(losses) / batch_size
                return total, tape.gradient(losses, logits, share)

            return _call(run, _like(logits), *map(_like, flat_labels))

        key = (
            *("loss", logits.shape, logits.dtype, batch_size, smoothing),
            *(class_weights, len(flat_labels), flat_labels[0].shape),
        )
        total, dy = self._run(key, traced, logits, *flat_labels)
        return total, dy

    def update(
        self,
        slot: layer_pool.PooledLayer,
        gradient: tf.Tensor,
        half_square: tf.Tensor,
        rates: tf.Tensor,
    ) -> None:
        """Moves one component by a step; see `optimizer`.

        Args:
          slot: of a component that is trained.
          gradient: `[n] float32`.
          half_square: of all gradients of the child.
          rates: `[3] float32`, in the order of `optimizer.Rates`.
        """
        assert slot.momentum is not None, slot.spec.name
        variables = [slot.variable, slot.momentum]
        move: Callable[..., Any] = optimizer.update
        if slot.second is not None:
            variables.append(slot.second)
            move = optimizer.adamw_update
        dtypes = [variable.dtype for variable in variables]

        def traced() -> TracedCall:
            (num_values,) = gradient.shape

            def run(*args: tf.Tensor) -> None:
                *handles, gradient, half_square, rates = args
                values = (
                    _read(handle, num_values, dtype)
                    for handle, dtype in zip(handles, dtypes, strict=True)
                )
                moved = move(
                    *values, gradient, optimizer.clip_scale(half_square), rates
                )
                for handle, value, dtype in zip(
                    handles, moved, dtypes, strict=True
                ):
                    tf.raw_ops.AssignVariableOp(
                        resource=handle, value=tf.cast(value, dtype)
                    )

            like = (_like(v) for v in (gradient, half_square, rates))
            return _call(run, *[_HANDLE] * len(variables), *like)

        key = "update", gradient.shape, *dtypes
        handles = [variable.handle for variable in variables]
        self._run(key, traced, *handles, gradient, half_square, rates)

    def num_correct(
        self, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns a child's right answers; see `losses.num_correct`."""
        return self._answer(losses_lib.num_correct, logits, labels, mask)

    def scored(
        self, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns a child's logits and labels; see `losses.scored_outputs`."""
        return self._answer(losses_lib.scored_outputs, logits, labels, mask)

    def _answer(
        self, function: Callable[..., tf.Tensor], *args: tf.Tensor
    ) -> tf.Tensor:
        logits, labels, _ = args

        def traced() -> TracedCall:
            return _call(function, *map(_like, args))

        key = function.__name__, logits.shape, logits.dtype, labels.shape
        return self._run(key, traced, *args)[0]

    def _run(
        self, key: Hashable, traced: Callable[[], TracedCall], *args: tf.Tensor
    ) -> list[tf.Tensor]:
        call = self._calls.get(key)
        if call is None:
            call = self._get(key, traced)
        return self._call(call, *args)

    def _get(self, key: Hashable, traced: Callable[[], Any]) -> Any:
        """Returns what is kept under `key`, traced by now."""
        with self._compiling(), self._tracing:
            if key not in self._calls:
                if len(self._calls) >= self._num_max:
                    self._calls.clear()
                self._calls[key] = traced()
            return self._calls[key]

    def _call(self, call: TracedCall, *args: tf.Tensor) -> list[tf.Tensor]:
        """Returns what `call` does; TensorFlow prepares it the first time."""
        if call.prepared:
            return call(*args)
        with self._compiling():
            results = call(*args)
        call.prepared = True
        return results

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        with self._counting:
            if not self._num_compiling:
                self._started = time.perf_counter()
            self._num_compiling += 1
        try:
            yield
        finally:
            with self._counting:
                self._num_compiling -= 1
                if not self._num_compiling:
                    self._secs += time.perf_counter() - self._started


def _forward_backward(
    signature: layer_signature.LayerSignature, gradients: str, x: tf.Tensor
) -> ForwardBackward:
    """Traces a layer of `signature` and the gradients that are wanted of it."""
    backward: list[tf.types.experimental.ConcreteFunction] = []

    def forward(handle: tf.Tensor, x: tf.Tensor) -> list[tf.Tensor]:
        values = _read(handle, signature.num_values)
        sources = []
        if gradients != functions.WEIGHTS_ONLY:
            sources.append(x)
        if gradients != functions.INPUT_ONLY:
            sources.append(values)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            y = signature.compute(x, values)

        def run(dy: tf.Tensor) -> list[tf.Tensor]:
            return tape.gradient(y, sources, dy, "zero")

        # What it reads of this trace becomes its inputs after the first.
        traced = tf.function(run, autograph=False)
        backward.append(traced.get_concrete_function(_like(y)))
        return [y, *backward[0].captured_inputs]

    return ForwardBackward(
        _call(forward, _HANDLE, _like(x)), TracedCall(backward[0])
    )


def _call(function: Callable[..., Any], *like: tf.TensorSpec) -> TracedCall:
    traced = tf.function(function, autograph=False)
    return TracedCall(traced.get_concrete_function(*like))


def _like(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(value.shape, value.dtype)


def _read(
    handle: tf.Tensor, num_values: int, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns the values of a packed layer's variable, `[num_values]`."""
    values = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
    return tf.ensure_shape(values, [num_values])
