"""The graph of published paths, which computes what they share once.

Invariant: a component is evaluated once per call for the tasks that apply it
to the same tensor, and its function does not depend on the other tasks, so
another task in the export changes no bit of a task's results.

What has one structure, a chain of components of the same specs, is one
function, whose places in the pool are an argument: functions are made for each
structure and not for each task. Where paths part is a fork; all tasks
together are computed from fork to fork.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.data import picture_decoder
from keras_munet.data import preprocessing
from keras_munet.export import served_layers
from keras_munet.export import weight_buffer
from keras_munet.models import layer_factory
from keras_munet.models import path_model

# What `tf.function` returns.
Function: TypeAlias = tf.types.experimental.PolymorphicFunction
Source: TypeAlias = Callable[[preprocessing.ModelInput], Any]
# The constant by which the functions of one structure differ.
OFFSETS = "offsets"
IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
ENCODED = tf.TensorSpec([None], tf.string, name="encoded")


class _Kind(NamedTuple):
    """Holds what a component's function depends on.

    Attributes:
      spec_id: of its spec.
      class_token_only: whether the class token alone is computed.
    """

    spec_id: str
    class_token_only: bool


class _Step(NamedTuple):
    """One component in a path."""

    component_id: str
    layer_kind: _Kind


class Structure(NamedTuple):
    """Holds what the functions of a task depend on, but for constants.

    Attributes:
      model_input: what the images become.
      kinds: of the path's components.
      activation: the name of what makes scores of logits.
    """

    model_input: preprocessing.ModelInput
    kinds: tuple[_Kind, ...]
    activation: str


# What the images become and the steps so far.
_Prefix = tuple[preprocessing.ModelInput, tuple[_Step, ...]]


class Answer(NamedTuple):
    """The outputs of a path.

    Attributes:
      logits: `[batch, num_classes] float32`.
      scores: the same, as shares that add up to 1; or each from 0 to 1, where
        an image has any number of labels.
      features: `[batch, width] float32`, what the head reads.
    """

    logits: tf.Tensor
    scores: tf.Tensor
    features: tf.Tensor


class Graph:
    """Makes each function at its first request and caches it."""

    def __init__(
        self,
        paths: Mapping[str, specs.PathRecord],
        inputs: Mapping[str, preprocessing.ModelInput],
        get: Callable[[specs.ComponentRef], specs.Component],
        pool: weight_buffer.Pool,
        webp: bool,
        activations: Mapping[str, str],
    ):
        """Packs the weights.

        Args:
          paths: task -> its path.
          inputs: task -> what pictures become.
          get: returns a component by its reference.
          pool: gets the weights.
          webp: whether WebP files are decoded.
          activations: task -> the name of what makes scores of its logits.
        """
        self._pool = pool
        self._paths = paths
        self._inputs = inputs
        self._webp = webp
        self._activations = activations
        self._functions: dict[Any, Any] = {}
        self._specs: dict[str, specs.ComponentSpec] = {}
        self._layers: dict[str, served_layers.ServedLayer] = {}
        self._shapes: dict[str, weight_buffer.Shapes] = {}
        spec_ids: dict[str, str] = {}
        for path in paths.values():
            for ref in path.components:
                if ref.id not in spec_ids:
                    spec_ids[ref.id] = self._add(ref.id, get(ref))
        flags: dict[tuple[str, ...], list[bool]] = {}
        self._steps = {}
        for task, path in paths.items():
            kinds = tuple(spec_ids[ref.id] for ref in path.components)
            if kinds not in flags:
                chain = [self._layer(spec_id) for spec_id in kinds]
                flags[kinds] = path_model.class_token_flags(chain)
            self._steps[task] = tuple(
                _Step(ref.id, _Kind(spec_id, class_token_only))
                for ref, spec_id, class_token_only in zip(
                    path.components, kinds, flags[kinds], strict=True
                )
            )
        self._forks = _forks(
            {task: (inputs[task], self._steps[task]) for task in paths}
        )
        # Fork -> the fork before it.
        self._below = {
            fork: below
            for forks in self._forks.values()
            for below, fork in itertools.pairwise(forks)
        }

    def _add(self, ref_id: str, component: specs.Component) -> str:
        """Packs a component and returns the id of its spec."""
        spec_id = component.spec.spec_id
        if spec_id not in self._specs:
            self._specs[spec_id] = component.spec
            self._layers[spec_id] = served_layers.served(component.spec)
        arrays = self._layers[spec_id].pack(component.weights)
        self._shapes[spec_id] = [(name, a.shape) for name, a in arrays]
        self._pool.add(ref_id, arrays)
        return spec_id

    def structure(self, task: str) -> Structure:
        """Returns what a task's functions depend on but constants."""
        kinds = _kinds(self._steps[task])
        return Structure(self._inputs[task], kinds, self._activations[task])

    def offsets(self, task: str) -> np.ndarray:
        """Returns the constant `OFFSETS` of a task's signatures."""
        return self._offsets(self._steps[task])

    def from_images(self, model_input: preprocessing.ModelInput) -> Function:
        """Returns the function from pixels of any size to a model's input.

        Args:
          model_input: how the task prepares pictures.

        Returns:
          From `[batch, height, width, 3] uint8` to `[batch, size, size, 3]
          float32`.
        """

        def from_images(images):
            # A server does not check what it feeds; images of one channel
            # would be read as a third as many.
            images = tf.ensure_shape(images, IMAGES.shape)
            return model_input.of(images)

        return self._cached_function(
            ("images", model_input), from_images, IMAGES
        )

    def from_bytes(self, model_input: preprocessing.ModelInput) -> Function:
        """Returns the function from picture files to a model's input.

        Args:
          model_input: how the task prepares pictures.

        Returns:
          From `[batch] string` to `[batch, size, size, 3] float32`.
        """
        size = model_input.image_size

        def decode(data):
            image = picture_decoder.decoded(data, webp=self._webp)
            return model_input.of(image[tf.newaxis])[0]

        def from_bytes(encoded):
            return tf.map_fn(
                decode,
                encoded,
                fn_output_signature=tf.TensorSpec([size, size, 3]),
                # One picture in memory at a time, however many a request has:
                # a file of 0.2 MB may state millions of pixels.
                parallel_iterations=1,
            )

        return self._cached_function(
            ("bytes", model_input), from_bytes, ENCODED
        )

    def answer(self, task: str, source: Source, inputs: tf.Tensor) -> Answer:
        """Returns one task's answer to images or bytes."""
        model_input, kinds, activation = structure = self.structure(task)

        def path(inputs, pools, offsets):
            tensor = source(model_input)(inputs)
            return self._answer(kinds, activation, tensor, pools, offsets)

        key = ("path", source.__name__, structure)
        return self._call(key, path, inputs, self._steps[task])

    def answers(self, images: tf.Tensor) -> Iterator[tuple[str, Answer]]:
        """Yields (task, its answer), computing what is shared once."""
        tensors: dict[_Prefix, tf.Tensor] = {}

        def reach(prefix: _Prefix) -> tf.Tensor:
            if prefix not in tensors:
                model_input, steps = prefix
                if steps:
                    below = self._below[prefix]
                    own = steps[len(below[1]) :]
                    tensors[prefix] = self._segment(own, reach(below))
                else:
                    tensors[prefix] = self.from_images(model_input)(images)
            return tensors[prefix]

        for task, steps in self._steps.items():
            fork = self._forks[task][-1]
            own = steps[len(fork[1]) :]
            activation = self._activations[task]
            tensor = reach(fork)
            with tf.name_scope(served_layers.scope_name(task)):
                answer = self._rest(own, activation, tensor)
            yield task, answer

    def component_outputs(
        self, component: str, source: Source, inputs: tf.Tensor
    ) -> Iterator[tuple[str, tf.Tensor]]:
        """Yields (task, the whole output of its component of that name)."""
        tensors: dict[_Prefix, tf.Tensor] = {}
        for task, path in self._paths.items():
            model_input = self._inputs[task]
            end = path_model.position(path, component) + 1
            # Not the path's own steps: these may compute the class token
            # alone.
            steps = tuple(
                _Step(step.component_id, _Kind(step.layer_kind.spec_id, False))
                for step in self._steps[task][:end]
            )
            tensor = source(model_input)(inputs)
            for i in range(end):
                prefix = (model_input, steps[: i + 1])
                if prefix not in tensors:
                    tensors[prefix] = self._segment(steps[i : i + 1], tensor)
                tensor = tensors[prefix]
            yield task, tensor

    def _segment(self, steps: Sequence[_Step], tensor: tf.Tensor) -> tf.Tensor:
        """Returns what some components of a path make of a tensor."""
        kinds = _kinds(steps)

        def segment(tensor, pools, offsets):
            places = self._places(offsets, len(kinds))
            return self._run(kinds, tensor, pools, places)

        return self._call(("segment", kinds), segment, tensor, steps)

    def _rest(
        self, steps: Sequence[_Step], activation: str, tensor: tf.Tensor
    ) -> Answer:
        """Returns what the last components of a path answer to a tensor."""
        kinds = _kinds(steps)

        def rest(tensor, pools, offsets):
            return self._answer(kinds, activation, tensor, pools, offsets)

        return self._call(("rest", kinds, activation), rest, tensor, steps)

    def _answer(
        self,
        kinds: Sequence[_Kind],
        activation: str,
        tensor: tf.Tensor,
        pools: list[tf.Tensor],
        offsets: tf.Tensor,
    ) -> Answer:
        *below, head = self._places(offsets, len(kinds))
        tensor = self._run(kinds[:-1], tensor, pools, below)
        logits = self._run(kinds[-1:], tensor, pools, [head])
        head_layer = self._layer(kinds[-1].spec_id)
        return Answer(
            logits,
            getattr(tf.nn, activation)(logits),
            path_model.read_by_head(head_layer, tensor),
        )

    def _run(
        self,
        kinds: Sequence[_Kind],
        tensor: tf.Tensor,
        pools: list[tf.Tensor],
        places: Sequence[list[tf.Tensor]],
    ) -> tf.Tensor:
        for layer_kind, starts in zip(kinds, places, strict=True):
            spec = self._specs[layer_kind.spec_id]
            with tf.name_scope(served_layers.scope_name(spec.name)):
                layer_function = self._layer_function(layer_kind)
                tensor = layer_function(tensor, pools, starts)
        return tensor

    def _layer_function(self, layer_kind: _Kind) -> Function:
        """Returns the function of all components of one spec."""
        layer, shapes = (
            self._layers[layer_kind.spec_id],
            self._shapes[layer_kind.spec_id],
        )

        def component(tensor, pools, places):
            weights = self._pool.read(shapes, pools, places)
            return layer.compute(tensor, weights, layer_kind.class_token_only)

        spec = self._specs[layer_kind.spec_id]
        component.__name__ = served_layers.scope_name(spec.name)
        return self._cached_function(("layer", layer_kind), component)

    def _layer(self, spec_id: str):
        spec = self._specs[spec_id]
        return layer_factory.make_layer(spec, spec.name, dtype="float32")

    def _call(
        self,
        key: Any,
        function: Callable,
        inputs: tf.Tensor,
        steps: Sequence[_Step],
    ):
        """Returns what the function of a structure makes of steps' weights."""
        offsets = tf.constant(self._offsets(steps), tf.int64, name=OFFSETS)
        cached = self._cached_function(key, function)
        return cached(inputs, self._pool.tensors(), offsets)

    def _offsets(self, steps: Sequence[_Step]) -> np.ndarray:
        """Returns where components begin, pool by pool within each."""
        num_pools = self._pool.num_pools
        return np.array(
            [
                start
                for step in steps
                for start in self._pool.offsets(step.component_id)[:num_pools]
            ],
            np.int64,
        )

    def _places(
        self, offsets: tf.Tensor, num_components: int
    ) -> list[list[tf.Tensor]]:
        """Returns the offsets of each component, `[1]` in each pool."""
        num_pools = self._pool.num_pools
        starts = tf.split(offsets, num_components * num_pools)
        return [
            starts[i : i + num_pools] for i in range(0, len(starts), num_pools)
        ]

    def _cached_function(
        self, key: Any, function: Callable, *signature: tf.TensorSpec
    ) -> Function:
        if key not in self._functions:
            self._functions[key] = make_function(function, *signature)
        return self._functions[key]


def make_function(function: Callable, *signature: tf.TensorSpec) -> Function:
    """Returns a `tf.function` of a signature, or of what it is called with."""
    return tf.function(
        function, autograph=False, input_signature=signature or None
    )


def _kinds(steps: Sequence[_Step]) -> tuple[_Kind, ...]:
    return tuple(step.layer_kind for step in steps)


def _forks(
    prefixes: Mapping[str, _Prefix],
) -> dict[str, list[_Prefix]]:
    """Returns each task's forks, the image alone first.

    A fork is where the paths of several tasks part, the head at the latest.
    """
    nexts: dict[_Prefix, set[_Step]] = collections.defaultdict(set)
    for model_input, steps in prefixes.values():
        for i, step in enumerate(steps):
            nexts[model_input, steps[:i]].add(step)
    return {
        task: [
            (model_input, steps[:i])
            for i in range(len(steps))
            if i == 0 or len(nexts[model_input, steps[:i]]) > 1
        ]
        for task, (model_input, steps) in prefixes.items()
    }
