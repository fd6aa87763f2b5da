"""Validates requests before anything of a system is written.

Invariant: an experiment that cannot run to its end for a reason that can be
known at its start leaves no file behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import commands
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import input_share
from keras_munet.data import tasks as tasks_lib
from keras_munet.data import types
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import flops
from keras_munet.roots import root as root_lib
from keras_munet.search import hparam_ranges
from keras_munet.search import plugins


def load_tasks(
    task_names: Sequence[str], settings: settings_lib.Settings
) -> dict[str, types.TaskData]:
    """Returns the data of tasks by their bare names.

    They are stored for the largest input that the search can reach, which is
    part of the experiment; where they lie is not.

    Raises:
      UsageError: a task is unknown, or a first value lies off its range.
      DataError: its data are missing, damaged or not prepared.
    """
    sizes = hparam_ranges.ranges_in_force(settings, 0).get("ds_image_size", ())
    image_size = max((settings.root.image_size, *sizes))
    return {
        name: tasks_lib.load(
            name,
            data_dir=settings.data.data_dir,
            manual_dir=settings.data.manual_dir,
            image_size=image_size,
        )
        for name in map(names.bare_name, task_names)
    }


def check_reach(settings: settings_lib.Settings, root: root_lib.Root) -> None:
    """Lays out every path shape that mutations can reach, to be refused now.

    Raises:
      UsageError: a first value lies off its range, the root's family cannot
        build a path that a range allows, or a plug-in cannot be had.
    """
    plugins.load_plugins(settings.search)
    family = adapters_lib.with_adapter(root.family, settings.search.adapter)
    ranges = hparam_ranges.ranges_in_force(
        settings, int(root.hparams["num_layers"])
    )
    first = {**settings.hparams, **root.hparams}
    family.layout(first, num_classes=2)
    for key in ("num_layers", "ds_image_size", "adapter_dim"):
        for value in ranges.get(key, ()):
            changed = {**first, key: value}
            adapters = frozenset(range(changed["num_layers"]))
            family.layout(changed, num_classes=2, adapters=adapters)


def budget_notice(
    settings: settings_lib.Settings,
    sizes: Mapping[str, presets.DataSize],
    family: architecture.Family,
    root: specs.PathRecord,
) -> str | None:
    """Returns a line that says how long the rounds of a preset may take.

    Args:
      settings: the experiment, filled.
      sizes: of the tasks that are left, by name.
      family: what paths look like.
      root: the root path.

    Returns:
      None without a preset. What components of a family other than `vit` cost
      is unknown, and no time is named.
    """
    if not settings.preset:
        return None
    children = settings.num_samples_per_task
    text = (
        f"preset {settings.preset}: {children} trained "
        f"{'child' if children == 1 else 'children'} a task of "
        f"{settings.num_validations_per_path_training} cycles of up to "
        f"{settings.num_train_examples_between_validations_max:,} images"
    )
    if isinstance(family, vit_architecture.VitFamily):
        secs = presets.START_SECS + sum(
            presets.expected_secs(
                settings, size, _multiply_adds(settings, family, root)
            )
            for size in sizes.values()
        )
        text += f", about {secs / 60:.1f} CPU minutes a round"
    other_presets = [
        p for p in settings_lib.PRESETS[2:] if p != settings.preset
    ]
    return f"{text}; also: --config.preset={' or '.join(other_presets)}"


def _multiply_adds(
    settings: settings_lib.Settings,
    family: architecture.Family,
    root: specs.PathRecord,
) -> int:
    """Returns those of an image through the root, forward."""
    hparams = {**settings.hparams, **settings.data.hparams, **root.hparams}
    return sum(flops.forward_costs(family.layout(hparams, 2)).values())


def input_notice(
    data: types.TaskData,
    settings: settings_lib.Settings,
    family: architecture.Family,
    root: specs.PathRecord,
) -> str | None:
    """Returns a line if input is estimated to take much of the CPU time.

    What components of a family other than `vit` cost is unknown, and nothing
    is estimated.
    """
    if not isinstance(family, vit_architecture.VitFamily):
        return None
    hparams = {**settings.hparams, **settings.data.hparams, **root.hparams}
    generation = input_share.Generation(
        image_size=int(hparams["ds_image_size"]),
        batch_size=settings.batch_size,
        num_children=settings.children_per_generation,
        multiply_adds=_multiply_adds(settings, family, root),
        hparams=hparams,
    )
    stored = data.train.images.shape[1:]
    if input_share.estimated(stored, generation) <= input_share.SHARE_MAX:
        return None
    return f"{data.name}: input is {input_share.share_text(stored, generation)}"


def published_names(
    requested: Sequence[str] | str | None, published: Iterable[str]
) -> list[str]:
    """Returns the bare names of the requested tasks.

    Args:
      requested: task names, or one, with or without `private:`; None for all.
      published: the tasks that the system has.

    Raises:
      UsageError: one is not in the system, or none is named.
    """
    available = sorted(published)
    if not available:
        raise errors.UsageError(
            "this system has no published task yet; run "
            f"{commands.command('evolve')} first"
        )
    if isinstance(requested, str):
        requested = [requested]
    wrong = [name for name in requested or () if not isinstance(name, str)]
    if wrong:
        raise errors.UsageError(
            f"{wrong[0]!r} is no task's name; it has: {', '.join(available)}"
        )
    bare = list(
        map(names.bare_name, available if requested is None else requested)
    )
    unknown = sorted(set(bare) - set(available))
    if unknown or not bare:
        problem = (
            f"task {unknown[0]!r} is not in this system"
            if unknown
            else "no task is named"
        )
        raise errors.UsageError(f"{problem}; it has: {', '.join(available)}")
    return bare


def only_task(task: str | None, published: Iterable[str]) -> str:
    """Returns the bare name of one task; None stands for the only one.

    Raises:
      UsageError: the task is not in the system, or None was given and there
        are several.
    """
    tasks = published_names(None if task is None else [task], published)
    if len(tasks) > 1:
        raise errors.UsageError(
            f"the system has {len(tasks)} tasks and no task is named; name "
            f"one of: {', '.join(tasks)}"
        )
    return tasks[0]
