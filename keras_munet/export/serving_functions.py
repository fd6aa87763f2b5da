"""The signatures of published paths as TensorFlow functions.

Invariant: the signatures of two tasks of one structure differ by constants
alone, see `Served.constants`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_munet.core import names
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.export import options as options_lib
from keras_munet.export import serving_graph
from keras_munet.export import weight_buffer

Function = serving_graph.Function
# What a serialised `tf.Example` of a classify request holds.
EXAMPLE_KEY = "image/encoded"
_LABELS, _THRESHOLDS = "labels", "thresholds"
_EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


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
        activations = {
            task: (
                target_types.MULTI_LABEL
                if task in self._thresholds
                else target_types.SINGLE_LABEL
            ).activation
            for task in paths
        }
        pool = weight_buffer.Pool(options.weights)
        self._graph = serving_graph.Graph(
            *(paths, inputs, get, pool, options.webp), activations
        )
        pool.close()
        self.module = _Module(pool)

    def structure(self, task: str) -> serving_graph.Structure:
        """Returns what the signatures of a task depend on but constants."""
        return self._graph.structure(task)

    def constants(
        self, task: str, labels: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Returns name -> value of the constants of a task's signatures.

        Args:
          task: its name.
          labels: what `classify` answers with.
        """
        return {
            serving_graph.OFFSETS: self._graph.offsets(task),
            _LABELS: np.array([text.encode() for text in labels], object),
            _THRESHOLDS: np.array(self._thresholds.get(task, ()), np.float32),
        }

    def predict(self, task: str) -> Function:
        """Returns images -> `logits`, `scores`.

        Where an image has any number of labels, also `thresholds`.
        """
        graph = self._graph

        def predict(images):
            answer = graph.answer(task, graph.from_images, images)
            return self._outputs(task, answer)

        predict.__name__ += f"_{names.signature_name(task)}"
        return serving_graph.make_function(predict, serving_graph.IMAGES)

    def predict_bytes(self, task: str) -> Function:
        """Returns the bytes of picture files -> what `predict` does."""
        graph = self._graph

        def predict_bytes(encoded):
            answer = graph.answer(task, graph.from_bytes, encoded)
            return self._outputs(task, answer)

        predict_bytes.__name__ += f"_{names.signature_name(task)}"
        return serving_graph.make_function(predict_bytes, serving_graph.ENCODED)

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

        return serving_graph.make_function(features, serving_graph.IMAGES)

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

        return serving_graph.make_function(
            features_bytes, serving_graph.ENCODED
        )

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

        return serving_graph.make_function(all_tasks, serving_graph.IMAGES)

    def _outputs(
        self, task: str, answer: serving_graph.Answer
    ) -> dict[str, tf.Tensor]:
        """Returns the outputs of a task, of one length as servers need it."""
        outputs = {"logits": answer.logits, "scores": answer.scores}
        if task in self._thresholds:
            row = tf.constant(
                self._thresholds[task], tf.float32, name=_THRESHOLDS
            )
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
            classes = tf.constant(labels, tf.string, name=_LABELS)
            shape = tf.stack([tf.shape(scores)[0], len(labels)])
            return {
                "classes": tf.broadcast_to(classes, shape),
                "scores": scores,
            }

        return serving_graph.make_function(classify, _EXAMPLES)


def example(encoded: bytes) -> bytes:
    """Returns the serialised `tf.Example` of one picture file."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={EXAMPLE_KEY: feature})
    return tf.train.Example(features=features).SerializeToString()
