"""A config's generation without its data, weights or devices.

Invariant: what is traced here are the functions that a job of the config
runs, for the children that its search requests first; only values are missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_munet import errors
from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.data.tfds import catalogue
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import keras_state
from keras_munet.models.vit import variants
from keras_munet.roots import build as roots_build
from keras_munet.roots import root as root_lib
from keras_munet.search import baselines
from keras_munet.search import evolution
from keras_munet.search import plan as plan_lib
from keras_munet.search import population as population_lib
from keras_munet.train import child_job
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train.devices import fake_tpu
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.graph import generation as generation_lib

# Of a task that is in no published table.
_NUM_CLASSES = 10
# A component's id has so many characters.
_NUM_ID_CHARS = 64


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled functions of children that are trained together.

    Attributes:
      train: a training step; trace it with `train_inputs`.
      train_inputs: the shares of one replica; every replica gets the same.
      evaluate: a validation step; trace it with `evaluate_inputs`.
      evaluate_inputs: the same of it.
      children: what is trained.
      batch_size: examples per step over all replicas.
      num_parts: into how many parts, one after the other, a share is divided.
    """

    train: Any
    train_inputs: tuple[Any, ...]
    evaluate: Any
    evaluate_inputs: tuple[Any, ...]
    children: tuple[child_job.ChildJob, ...]
    batch_size: int
    num_parts: int


@keras_state.default_keras_state()
def steps_of(
    settings: settings_lib.Settings,
    strategy: fake_tpu.Strategy,
    *,
    children: Sequence[child_job.ChildJob] | None = None,
    num_parts: int = 1,
    batch_size: int | None = None,
) -> Steps:
    """Returns one generation's functions under a strategy, to be traced.

    Args:
      settings: the experiment.
      strategy: where they would run, e.g. `fake_tpu.tpu_strategy(...)`.
      children: those of one slice or pass; None for `children_of` all.
      num_parts: see `memory.Passes`.
      batch_size: another one than the experiment's.

    Raises:
      UsageError: the batch does not divide over replicas and parts.
    """
    settings = baselines.budgeted(presets.resolve_preset(settings, {}))
    chosen = tuple(children_of(settings) if children is None else children)
    batch_size = batch_size or settings.batch_size
    num_replicas = strategy.num_replicas_in_sync
    if batch_size % (num_replicas * num_parts):
        raise errors.UsageError(
            f"batch_size {batch_size} does not divide over {num_replicas} "
            f"replicas of {num_parts} parts; choose a multiple of "
            f"{num_replicas * num_parts}"
        )
    device_type = strategy_lib.device_type(strategy)
    image_size = int(chosen[0].hparams["ds_image_size"])
    with fake_tpu.without_values():
        graph = generation_lib.GenerationGraph(
            generation_structure.structure_of(chosen, image_size),
            layer_pool.LayerPool(strategy),
            strategy,
            matmul_precision.choose_precision(
                settings.compute_dtype, device_type
            ),
            num_parts,
        )
    share = batch_size // num_replicas
    images = tf.TensorSpec([share, image_size, image_size, 3], tf.uint8)
    labels = tf.TensorSpec([share], tf.int32)
    number = tf.TensorSpec([], tf.float32)
    flag = tf.TensorSpec([], tf.bool)
    augment = preprocessing.AugmentHparams(
        *(flag, number, number, flag),
        *(number, number, number, number, flag, number, number),
    )
    return Steps(
        train=graph.train_shares,
        train_inputs=(
            images,
            labels,
            tf.TensorSpec([preprocessing.NUM_DRAWS, share], tf.float32),
            tf.TensorSpec([len(chosen), 3], tf.float32),
            augment,
            # With jitter a step has more operations, and none less.
            preprocessing.ColorJitter.BEFORE_RESIZE,
        ),
        evaluate=graph.count_shares,
        evaluate_inputs=(images, labels, tf.TensorSpec([share], tf.float32)),
        children=chosen,
        batch_size=batch_size,
        num_parts=num_parts,
    )


def children_of(
    settings: settings_lib.Settings,
    *,
    num_classes: int | None = None,
    fullest: bool = False,
) -> list[child_job.ChildJob]:
    """Returns the children of the first generation of the first task.

    Args:
      settings: the experiment.
      num_classes: of the task; None for those of the published one.
      fullest: whether every child trains all that its search can give it:
        the deepest path, whole.

    Raises:
      UsageError: no task is named, or the root is unknown.
      CheckpointError: the root's file, needed to know its sizes, does not fit.
    """
    if not settings.task_names:
        raise errors.UsageError(
            "config key task_names is empty; name the tasks to evolve"
        )
    # Without data, `auto` is the preset of the fewest.
    settings = presets.resolve_preset(settings, {})
    task = names.bare_name(settings.task_names[0])
    published = catalogue.find(task)
    if num_classes is None:
        num_classes = published.num_classes if published else _NUM_CLASSES
    family, hparams = _root(settings)
    family = adapters_lib.with_adapter(family, settings.search.adapter)
    first = {**settings.hparams, **settings.data.hparams, **hparams}
    root = specs.PathRecord(
        task=specs.NOT_TRAINABLE,
        parent=None,
        born=(0, 0, 0),
        hparams=first,
        components=tuple(
            specs.ComponentRef(
                spec.name,
                spec.spec_id.ljust(_NUM_ID_CHARS, "0"),
                spec.spec_id,
                spec.num_params,
            )
            for spec in family.layout(first, root_lib.NUM_CLASSES)
        ),
    )
    search = evolution.TaskIteration(
        baselines.budgeted(settings),
        family,
        population_lib.Population(root),
        task,
        num_classes=num_classes,
        iteration=0,
    )
    children = [
        _job(child, settings)
        for child in search.ask().children
        if not child.is_solved
    ]
    if fullest:
        largest = child_job.largest_child(settings, family, first, num_classes)
        children = [
            dataclasses.replace(largest, index=child.index)
            for child in children
        ]
    return children


def _root(
    settings: settings_lib.Settings,
) -> tuple[architecture.Family, dict[str, Any]]:
    """Returns the root's family and hyperparameters; reads no weights."""
    root = settings.root
    variant = roots_build.find(root.source).traced_variant(root)
    if not variant:
        built = roots_build.build(root, num_layers_max=settings.num_layers_max)
        return built.family, dict(built.hparams)
    vit_variant = variants.variant(variant)
    depth = root.num_layers
    if depth == settings_lib.ALL_LAYERS:
        depth = vit_variant.num_layers
    deepest = max(depth, settings.num_layers_max or depth)
    family = hybrid.family_of(vit_variant, deepest, 0)
    return family, {"num_layers": depth, "ds_image_size": root.image_size}


def _job(
    child: plan_lib.ChildPlan, settings: settings_lib.Settings
) -> child_job.ChildJob:
    return child_job.ChildJob(
        index=child.index,
        components=tuple(
            child_job.JobComponent(
                part.spec,
                _no_values,
                None if part.is_new else part.known_source().id,
                part.trainable,
                child_job.factor_depth(settings, part.spec),
            )
            for part in child.components
        ),
        hparams=child.hparams,
    )


def _no_values() -> specs.Component:
    raise AssertionError("a rehearsal loads nothing")
