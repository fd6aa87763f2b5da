"""Computes the frozen prefix that children share once for all.

Invariant: of a batch each layer is called once, whichever children stand on
it; what is scored and was kept is not computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import layer_functions as layer_functions_lib
from keras_munet.train.layerwise import layer_plan
from keras_munet.train.layerwise import task_graph


class SharedPrefixes:
    """The places below what each child has of its own."""

    def __init__(
        self,
        stems: Sequence[list[layer_plan.PlannedLayer]],
        layer_functions: layer_functions_lib.LayerFunctions,
        image: feature_cache.Image,
    ):
        """Takes the places.

        Args:
          stems: of each child, input first.
          layer_functions: keeps what is compiled.
          image: what the input is.
        """
        self._stems = stems
        self._functions = layer_functions
        self._image = image

    @property
    def prefixes(self) -> frozenset[feature_cache.Prefix]:
        """The published components below what a child has of its own."""
        ends = [self._prefixes(stem)[-1:] for stem in self._stems]
        return frozenset(p for end in ends for p in end if p is not None)

    def begin(
        self,
        flow: task_graph.TaskGraph,
        order: task_graph.Order,
        images: tf.Tensor,
        waits: Sequence[task_graph.Future] = (),
        cache: feature_cache.BatchFeatures | None = None,
    ) -> list[task_graph.Future]:
        """Returns of each child the future of what its top reads.

        Args:
          flow: the threads.
          order: of the step.
          images: its batch.
          waits: what is to be done before.
          cache: of what is scored; None for a training step.
        """
        # First of their step: others wait for them.
        order = (*order, -float("inf"))
        begun = flow.add(lambda *_: images, order, waits)
        futures: dict[layer_plan.Stack, task_graph.Future] = {}
        ends = self.prefixes if cache is not None else frozenset()
        features = []
        for stem in self._stems:
            below, rest = begun, stem
            keeps: list[feature_cache.Prefix | None] = [None] * len(stem)
            if cache is not None:
                prefixes = self._prefixes(stem)
                height, cached = _highest(prefixes, cache)
                if cached is not None:
                    below = flow.add(functools.partial(_same, cached), order)
                rest = stem[height:]
                keeps = [p if p in ends else None for p in prefixes[height:]]
            for layer, prefix in zip(rest, keeps, strict=True):
                if layer.stack not in futures:
                    futures[layer.stack] = flow.add(
                        functools.partial(self._feature, layer, cache, prefix),
                        order,
                        [below],
                    )
                below = futures[layer.stack]
            features.append(below)
        return features

    def _feature(
        self,
        layer: layer_plan.PlannedLayer,
        cache: feature_cache.BatchFeatures | None,
        prefix: feature_cache.Prefix | None,
        x: tf.Tensor,
    ) -> tf.Tensor:
        """Returns what a layer of a stem computes; keeps it under `prefix`."""
        if cache is None:
            return self._functions.output(layer.signature, layer.values, x)
        y = self._functions.output(layer.scored, layer.weights, x)
        if prefix is not None:
            cache.put(prefix, y)
        return y

    def _prefixes(
        self, stem: list[layer_plan.PlannedLayer]
    ) -> list[feature_cache.Prefix | None]:
        return layer_plan.prefix_keys(stem, self._image)


def _highest(
    prefixes: list[feature_cache.Prefix | None],
    cache: feature_cache.BatchFeatures,
) -> tuple[int, tf.Tensor | None]:
    """Returns how high the highest kept features of a stem are, and them."""
    for height in range(len(prefixes), 0, -1):
        features = cache.get(prefixes[height - 1])
        if features is not None:
            return height, features
    return 0, None


def _same(x: tf.Tensor) -> tf.Tensor:
    return x
