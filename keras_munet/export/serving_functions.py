"""Published paths as TensorFlow functions that share what paths share.

Invariant: a component is evaluated once per call for the tasks that apply it
to the same tensor, and its function does not depend on the other tasks, so
another task in the export changes no bit of a task's results.

Where paths part is a fork. What leads from one fork to the next is one
function, what leads from a task's last fork to its logits another: a
signature is a few calls of these.
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

import tensorflow as tf

from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import picture_decoder
from keras_munet.data import preprocessing
from keras_munet.export import options as options_lib
from keras_munet.export import weight_buffer
from keras_munet.models import layer_factory
from keras_munet.models import path_model

# What `tf.function` returns.
Function: TypeAlias = tf.types.experimental.PolymorphicFunction
# What a serialised `tf.Example` of a classify request holds.
EXAMPLE_KEY = "image/encoded"
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
_ENCODED = tf.TensorSpec([None], tf.string, name="encoded")
_EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


class _Step(NamedTuple):
    """One component in a path; `narrow`: for the class token alone."""

    component_id: str
    narrow: bool


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


class _Module(tf.Module):
    """Holds for TensorFlow each variable and each function once."""

    def __init__(self, pool: weight_buffer.Pool):
        super().__init__(name="keras_munet")
        self.values = pool.values
        if pool.kernels is not None:
            self.kernels = pool.kernels


def labels(class_names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Returns a label per class: its name, or its number without names."""
    return tuple(class_names) or tuple(map(str, range(num_classes)))


class Served:
    """The functions of an export.

    Attributes:
      module: holds the variables that they read.
    """

    def __init__(
        self,
        paths: Mapping[str, specs.PathRecord],
        inputs: Mapping[str, preprocessing.ModelInput],
        get: Callable[[specs.ComponentRef], specs.Component],
        options: options_lib.Options,
        thresholds: Mapping[str, Sequence[float]] | None = None,
    ):
        """Packs the weights.

        Args:
          paths: task -> its path.
          inputs: task -> what pictures become.
          get: returns a component by its reference.
          options: how weights are stored, and which files are decoded.
          thresholds: task whose images have any number of labels -> of each
            class the score from which an image has it.
        """
        self._thresholds = dict(thresholds or {})
        targets = {
            task: target_types.MULTI_LABEL
            if task in self._thresholds
            else target_types.SINGLE_LABEL
            for task in paths
        }
        pool = weight_buffer.Pool(options.weights)
        self._graph = _Graph(paths, inputs, get, pool, options.webp, targets)
        pool.close()
        self.module = _Module(pool)

    def predict(self, task: str) -> Function:
        """Returns images -> `logits`, `scores`.

        Where an image has any number of labels, also `thresholds`.
        """
        graph = self._graph

        def predict(images):
            answer = graph.answer(task, graph.from_images, images)
            return self._outputs(task, answer)

        return _function(predict, _IMAGES)

    def predict_bytes(self, task: str) -> Function:
        """Returns the bytes of picture files -> what `predict` does."""
        graph = self._graph

        def predict_bytes(encoded):
            answer = graph.answer(task, graph.from_bytes, encoded)
            return self._outputs(task, answer)

        return _function(predict_bytes, _ENCODED)

    def features(
        self, keys: Mapping[str, str], component: str | None
    ) -> Function:
        """Returns images -> `<key>_features`; see `options.Options`."""
        graph = self._graph

        def features(images):
            if component is not None:
                outputs = graph.component_outputs(
                    component, graph.from_images, images
                )
            else:
                outputs = ((t, a.features) for t, a in graph.answers(images))
            return {f"{keys[task]}_features": value for task, value in outputs}

        return _function(features, _IMAGES)

    def features_bytes(self, task: str, component: str | None) -> Function:
        """Returns the bytes of picture files -> `features` of one task.

        Args:
          task: its name.
          component: the place whose whole output is returned; None for what
            the head reads.
        """
        graph = self._graph

        def features_bytes(encoded):
            if component is None:
                answer = graph.answer(task, graph.from_bytes, encoded)
                return {"features": answer.features}
            outputs = graph.component_outputs(
                component, graph.from_bytes, encoded
            )
            return {"features": dict(outputs)[task]}

        return _function(features_bytes, _ENCODED)

    def all_tasks(self, keys: Mapping[str, str]) -> Function:
        """Returns images -> what `predict` does, of each task.

        The outputs are `<key>_logits`, `<key>_scores` and, where `predict` has
        them, `<key>_thresholds`.
        """
        graph = self._graph

        def all_tasks(images):
            outputs = {}
            for task, answer in graph.answers(images):
                for name, value in self._outputs(task, answer).items():
                    outputs[f"{keys[task]}_{name}"] = value
            return outputs

        return _function(all_tasks, _IMAGES)

    def _outputs(self, task: str, answer: Answer) -> dict[str, tf.Tensor]:
        """Returns the outputs of a task, of one length as servers need it."""
        outputs = {"logits": answer.logits, "scores": answer.scores}
        if task in self._thresholds:
            row = tf.constant(self._thresholds[task], tf.float32)
            outputs["thresholds"] = tf.zeros_like(answer.scores) + row
        return outputs

    def classify(self, task: str, labels: Sequence[str]) -> Function:
        """Returns serialised examples -> `classes`, `scores`."""
        graph = self._graph

        def classify(inputs):
            parsed = tf.io.parse_example(
                inputs, {EXAMPLE_KEY: tf.io.FixedLenFeature([], tf.string)}
            )
            encoded = parsed[EXAMPLE_KEY]
            scores = graph.answer(task, graph.from_bytes, encoded).scores
            classes = tf.constant(labels, tf.string)[tf.newaxis]
            return {
                "classes": tf.tile(classes, [tf.shape(scores)[0], 1]),
                "scores": scores,
            }

        return _function(classify, _EXAMPLES)


class _Graph:
    """Makes each function at its first request and caches it."""

    def __init__(
        self,
        paths: Mapping[str, specs.PathRecord],
        inputs: Mapping[str, preprocessing.ModelInput],
        get: Callable[[specs.ComponentRef], specs.Component],
        pool: weight_buffer.Pool,
        webp: bool,
        targets: Mapping[str, target_types.TargetType],
    ):
        self._pool = pool
        self._targets = targets
        self._paths = paths
        self._inputs = inputs
        self._webp = webp
        self._specs: dict[str, specs.ComponentSpec] = {}
        self._functions: dict[Any, Any] = {}
        for path in paths.values():
            for ref in path.components:
                if ref.id not in self._specs:
                    component = get(ref)
                    self._specs[ref.id] = component.spec
                    pool.add(ref.id, component)
        self._steps = {task: self._path_steps(p) for task, p in paths.items()}
        self._forks = _forks(
            {task: (inputs[task], self._steps[task]) for task in paths}
        )
        # Fork -> the fork before it.
        self._below = {
            fork: below
            for forks in self._forks.values()
            for below, fork in itertools.pairwise(forks)
        }

    def from_images(self, model_input: preprocessing.ModelInput):
        """Returns pixels of any size -> the model's input."""

        def from_images(images):
            # A server does not check what it feeds; images of one channel
            # would be read as a third as many.
            images = tf.ensure_shape(images, _IMAGES.shape)
            return model_input.of(images)

        return self._cached_function(
            ("images", model_input), from_images, _IMAGES
        )

    def from_bytes(self, model_input: preprocessing.ModelInput):
        """Returns the bytes of picture files -> the model's input."""
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
            ("bytes", model_input), from_bytes, _ENCODED
        )

    def answer(
        self,
        task: str,
        source: Callable[[preprocessing.ModelInput], Any],
        inputs: tf.Tensor,
    ) -> Answer:
        """Returns one task's answer to images or bytes."""
        return self._rest(task)(self._reach(self._fork(task), source)(inputs))

    def answers(self, images: tf.Tensor) -> Iterator[tuple[str, Answer]]:
        """Yields (task, its answer), computing what is shared once."""
        tensors: dict[_Prefix, tf.Tensor] = {}

        def reach(prefix: _Prefix) -> tf.Tensor:
            if prefix not in tensors:
                model_input, steps = prefix
                tensors[prefix] = (
                    self._segment(prefix)(reach(self._below[prefix]))
                    if steps
                    else self.from_images(model_input)(images)
                )
            return tensors[prefix]

        for task in self._paths:
            yield task, self._rest(task)(reach(self._fork(task)))

    def component_outputs(
        self,
        component: str,
        source: Callable[[preprocessing.ModelInput], Any],
        inputs: tf.Tensor,
    ) -> Iterator[tuple[str, tf.Tensor]]:
        """Yields (task, the whole output of its component of that name)."""
        tensors: dict[_Prefix, tf.Tensor] = {}
        for task, path in self._paths.items():
            model_input = self._inputs[task]
            end = path_model.position(path, component) + 1
            # Not the path's own steps: these may compute the class token
            # alone.
            steps = tuple(_Step(r.id, False) for r in path.components[:end])
            tensor = source(model_input)(inputs)
            for i in range(end):
                prefix = (model_input, steps[: i + 1])
                if prefix not in tensors:
                    tensors[prefix] = self._run(steps[i : i + 1], tensor)
                tensor = tensors[prefix]
            yield task, tensor

    def _fork(self, task: str) -> _Prefix:
        return self._forks[task][-1]

    def _reach(
        self,
        prefix: _Prefix,
        source: Callable[[preprocessing.ModelInput], Any],
    ):
        """Returns the function from images or bytes to a fork."""
        model_input, steps = prefix
        if not steps:
            return source(model_input)
        before = self._reach(self._below[prefix], source)
        segment = self._segment(prefix)

        def reach(inputs):
            return segment(before(inputs))

        key = ("reach", source.__name__, prefix)
        return self._cached_function(key, reach, *before.input_signature)

    def _segment(self, prefix: _Prefix):
        """Returns the function from the fork before to a fork."""
        _, steps = prefix
        num_before = len(self._below[prefix][1])

        def segment(tensor):
            return self._run(steps[num_before:], tensor)

        return self._cached_function(("segment", prefix), segment)

    def _rest(self, task: str):
        """Returns the function from a task's last fork to its answer."""
        *below, head = self._steps[task][len(self._fork(task)[1]) :]
        head_layer = layer_factory.make_layer(
            self._specs[head.component_id], "head"
        )

        activation = getattr(tf.nn, self._targets[task].activation)

        def rest(tensor):
            tensor = self._run(below, tensor)
            logits = self._run([head], tensor)
            return Answer(
                logits,
                activation(logits),
                path_model.read_by_head(head_layer, tensor),
            )

        return self._cached_function(("rest", task), rest)

    def _run(self, steps: Sequence[_Step], tensor: tf.Tensor) -> tf.Tensor:
        if not steps:
            return tensor
        pools = self._pool.tensors()
        for step in steps:
            offsets = self._pool.offsets(step.component_id)[: len(pools)]
            places = [tf.constant([start], tf.int64) for start in offsets]
            tensor = self._layer_function(step)(tensor, pools, places)
        return tensor

    def _layer_function(self, step: _Step):
        """Returns the function of all components of one spec."""
        spec = self._specs[step.component_id]
        options = path_model.call_options(step.narrow)

        def component(tensor, pools, places):
            # Mixed precision is for training; here sums are float32.
            layer = layer_factory.make_layer(spec, spec.name, dtype="float32")
            weights = self._pool.read(spec, pools, places)
            return layer.compute(tensor, weights, **options)

        return self._cached_function(
            ("kind", spec.spec_id, step.narrow), component
        )

    def _path_steps(self, path: specs.PathRecord) -> tuple[_Step, ...]:
        chain = [
            layer_factory.make_layer(self._specs[ref.id], ref.name)
            for ref in path.components
        ]
        return tuple(
            _Step(ref.id, narrow)
            for ref, narrow in zip(
                path.components,
                path_model.class_token_flags(chain),
                strict=True,
            )
        )

    def _cached_function(
        self, key: Any, function: Callable, *signature: tf.TensorSpec
    ):
        if key not in self._functions:
            self._functions[key] = _function(function, *signature)
        return self._functions[key]


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


def _function(function: Callable, *signature: tf.TensorSpec) -> Function:
    return tf.function(
        function, autograph=False, input_signature=signature or None
    )


def example(encoded: bytes) -> bytes:
    """Returns the serialised `tf.Example` of one picture file."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={EXAMPLE_KEY: feature})
    return tf.train.Example(features=features).SerializeToString()
