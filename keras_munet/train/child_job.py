"""Defines the input and output of training, free of search records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import class_weights
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types

# Of a path whose task is not known; a head is the least part of it.
_NUM_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class JobComponent:
    """One component of a child in training.

    Attributes:
      spec: what it is.
      load: returns its first values; called only when they are not at hand.
      shared_id: the published id if it is shared frozen, else None.
      trainable: whether the child trains it.
      factor_depth: how many square factors the products have that its dense
        kernels are trained as; 0 for kernels that are trained as they are.
    """

    spec: specs.ComponentSpec
    load: Callable[[], specs.Component]
    shared_id: str | None
    trainable: bool
    factor_depth: int = 0


@dataclasses.dataclass(frozen=True)
class ChildJob:
    """One child to train.

    Attributes:
      index: its number within the task iteration.
      components: its components, input first.
      hparams: reads the `opt_*` hyperparameters.
      size_factor: score = quality * size_factor.
      score_to_beat: the first snapshot must reach it.
    """

    index: int
    components: tuple[JobComponent, ...]
    hparams: Mapping[str, Any]
    size_factor: float = 1.0
    score_to_beat: float = -float("inf")

    @property
    def uses_adamw(self) -> bool:
        """Returns whether its optimizer is AdamW; older paths have SGD."""
        return self.hparams.get("opt_name", "sgd") == "adamw"

    @property
    def label_smoothing(self) -> float:
        """The share of each label that all classes have; see `losses`."""
        return float(self.hparams.get("opt_label_smoothing", 0.0))


@dataclasses.dataclass(frozen=True)
class TrainedChild:
    """A child after its training.

    Attributes:
      index: its number within the task iteration.
      scores: the score after each cycle.
      losses: the mean training loss of each cycle, nats.
      quality: validation accuracy of the best snapshot; None without one.
      components: place -> its own components as the best snapshot left them.
    """

    index: int
    scores: tuple[float, ...]
    losses: tuple[float, ...]
    quality: float | None
    components: Mapping[str, specs.Component]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The length of every child's training.

    Attributes:
      num_cycles: validations per child.
      batch_size: examples per step over all replicas.
      num_train_examples_max: bound of one cycle, examples.
      num_validation_examples_max: bound of one validation, examples.
      quality: a name of `qualities.QUALITIES`, which validation
        measures; see `quality_of`.
      class_weights: weights of classes in the loss; see
        `core.class_weights.normalize`.
    """

    num_cycles: int
    batch_size: int
    num_train_examples_max: int
    num_validation_examples_max: int
    quality: str = "accuracy"
    class_weights: str = class_weights.NONE

    @classmethod
    def from_settings(cls, settings: settings_lib.Settings) -> Budget:
        """Returns the budget of an experiment."""
        return cls(
            num_cycles=settings.num_validations_per_path_training,
            batch_size=settings.batch_size,
            num_train_examples_max=(
                settings.num_train_examples_between_validations_max
            ),
            num_validation_examples_max=settings.num_validation_examples_max,
            quality=settings.search.quality,
            class_weights=str(settings.data.class_weights),
        )

    def weights_of(self, data: types.TaskData) -> tuple[float, ...]:
        """Returns the weight of each class; see `losses.cross_entropy`."""
        return class_weights.of_classes(
            self.class_weights, data.class_names, data.class_counts.tolist()
        )

    def quality_of(self, data: types.TaskData) -> str:
        """Returns the name of the quality that decides for a task."""
        return data.target.quality_of(self.quality, data.name)

    def num_steps_per_cycle(self, num_train_examples: int) -> int:
        """Returns the steps of a cycle over a train split of that size."""
        examples = min(num_train_examples, self.num_train_examples_max)
        return -(-examples // self.batch_size)


def largest_child(
    settings: settings_lib.Settings,
    family: architecture.Family,
    hparams: Mapping[str, Any],
    num_classes: int = _NUM_CLASSES,
) -> ChildJob:
    """Returns the child that takes most: the deepest path, trained whole.

    Args:
      settings: the experiment; reads what its search can reach.
      family: what paths look like.
      hparams: of the root and the experiment.
      num_classes: of the task.
    """
    depth = max(int(hparams["num_layers"]), settings.num_layers_max or 0)
    adapters = range(depth) if settings.search.mutate_adapters else ()
    deepest = {**hparams, "num_layers": depth}
    layout = family.layout(deepest, num_classes, frozenset(adapters))
    return ChildJob(
        index=0,
        components=tuple(
            JobComponent(
                spec, _no_values, None, True, factor_depth(settings, spec)
            )
            for spec in layout
        ),
        hparams=deepest,
    )


def factor_depth(
    settings: settings_lib.Settings, spec: specs.ComponentSpec
) -> int:
    """Returns `JobComponent.factor_depth` of a component."""
    is_adapter = spec.name.startswith(adapters_lib.PREFIX)
    layer_kind = "adapter" if is_adapter else spec.name
    return settings.factor_depth if layer_kind in settings.factorized else 0


def _no_values() -> specs.Component:
    raise AssertionError("a child that is only measured has no values")
