"""A config's generation without its data, weights or devices.

Invariant: what is described here is what a job of the config compiles, for
the largest child that its search can give; only values are missing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_munet import errors
from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import qualities
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data.tfds import catalogue
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import keras_state
from keras_munet.models.vit import variants
from keras_munet.roots import build as roots_build
from keras_munet.roots import root as root_lib
from keras_munet.search import baselines
from keras_munet.search import evolution
from keras_munet.search import hparam_ranges
from keras_munet.search import plan as plan_lib
from keras_munet.search import population as population_lib
from keras_munet.train import child_job
from keras_munet.train import matmul_precision
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import sizes

# Of a task that is in no published table.
_NUM_CLASSES = 10
# A component's id has so many characters.
_NUM_ID_CHARS = 64


@keras_state.default_keras_state()
def bucket_of(
    settings: settings_lib.Settings, num_replicas: int
) -> bucket_lib.Bucket:
    """Returns what a job on TPU cores compiles its program for.

    Stored images count as ones of the root's size; a task whose images are
    larger has a program compiled once more.

    Args:
      settings: the experiment.
      num_replicas: cores.

    Raises:
      UsageError: no task is named, or the root is unknown.
    """
    settings = baselines.budgeted(presets.resolve_preset(settings, {}))
    (child, *_) = children_of(settings, fullest=True)
    image_size = int(child.hparams["ds_image_size"])
    group = sizes.group_size(
        num_replicas, settings.children_per_generation, settings.batch_size
    )
    bucket = bucket_lib.bucket_of(child.components, image_size)
    ranges = hparam_ranges.ranges_in_force(
        settings, int(child.hparams["num_layers"])
    )
    possible_values = {
        **{k: [v] for k, v in settings.hparams.items()},
        **ranges,
    }
    return sizes.with_sizes(
        dataclasses.replace(
            bucket,
            batch_size=settings.batch_size // group,
            group=group,
            has_adamw="adamw" in possible_values["opt_name"],
            has_logits=settings.search.quality != qualities.ACCURACY,
            has_colors=any(
                value > 0.0
                for key in ("ds_saturation_delta", "ds_hue_delta")
                for value in possible_values[key]
            ),
        ),
        image_size,
        child_job.Budget.from_settings(settings),
        "TPU",
    )


def num_programs(
    settings: settings_lib.Settings, bucket: bucket_lib.Bucket
) -> int:
    """Returns how many programs a job compiles.

    One for each image size that the search may draw, and where paths have no
    stack of equal blocks, for each depth.

    Args:
      settings: the experiment.
      bucket: of `bucket_of`.
    """
    (child, *_) = children_of(settings, fullest=True)
    depth = int(child.hparams["num_layers"])
    ranges = hparam_ranges.ranges_in_force(settings, depth)
    num_depths = 1 if bucket.block else len(ranges.get("num_layers", (depth,)))
    return num_depths * len(ranges.get("ds_image_size", (bucket.image_size,)))


def products_of(
    settings: settings_lib.Settings,
) -> matmul_precision.MatmulPrecision:
    """Returns which precision a TPU's training steps multiply in."""
    return matmul_precision.choose_precision(settings.compute_dtype, "TPU")


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
        created_in=(0, 0, 0),
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
        ranges = hparam_ranges.ranges_in_force(settings, first["num_layers"])
        widest = max(ranges.get("adapter_dim", (first["adapter_dim"],)))
        largest = child_job.largest_child(
            settings, family, {**first, "adapter_dim": widest}, num_classes
        )
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
