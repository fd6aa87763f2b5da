"""The tasks of another system, brought in.

Invariant: everything is compared before anything is written, a component that
both systems have is stored once, and after any interruption the system is whole
and the same call continues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.core import class_weights
from keras_munet.core import lineage
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.store import os_errors
from keras_munet.store import settings_diff
from keras_munet.store import system_dir
from keras_munet.store import task_state

_NUM_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class MergeReport:
    """The result of `merge`.

    Attributes:
      tasks: names of the tasks that were brought in.
      num_objects: components that were new.
      num_shared: components that were there already.
    """

    tasks: tuple[str, ...]
    num_objects: int
    num_shared: int


def merge(
    target: system_dir.SystemDir,
    source: system_dir.SystemDir,
    task_name: str | None = None,
) -> MergeReport:
    """Publishes the tasks of `source` in `target`.

    Tasks that `target` has from an earlier, interrupted merge are left as
    they are. Paths keep their ids, scores and lineage; ancestors that belong
    to other tasks of `source` are remembered with each path.

    Args:
      target: the system that grows.
      source: the other one; it is only read.
      task_name: the only task to bring in, by its bare name; None for all.

    Raises:
      UsageError: the systems have another family or root, a name means
        different tasks in them, settings of `target` do not fit the labels
        of a task, there is no such task, or a job works on one of the tasks.
      StoreError: a component of `source` is missing or damaged.
    """
    _check_same_kind(target, source)
    theirs = source.tasks()
    if task_name is not None:
        theirs = {task_name: source.task(task_name)}
    states = _new_states(target, source, theirs)
    for state in states:
        _check_labels(target, source, state)
    copied: set[str] = set()
    num_new = 0
    for state in states:
        with target.lease(state.task), target.naming():
            for ref in state.published.components:
                if ref.id in copied:
                    continue
                copied.add(ref.id)
                num_new += not target.objects.has(ref.id)
                written = target.objects.put(source.objects.get(ref))
                if written != ref:
                    raise errors.StoreError(
                        f"{source.where} has a component {ref.id} that this "
                        f"program would write as {written.id}; evolve and "
                        "merge with the same keras_munet"
                    )
            target.publish(state)
    return MergeReport(
        tuple(state.task for state in states),
        num_new,
        len(copied) - num_new,
    )


def _check_same_kind(
    target: system_dir.SystemDir, source: system_dir.SystemDir
) -> None:
    diffs = settings_diff.differences(target.family_json, source.family_json)
    if diffs:
        raise errors.UsageError(
            f"{source.where} has paths of another family: "
            f"{', '.join(diffs[:_NUM_SHOWN])}; merge systems of one family"
        )
    if target.root.id == source.root.id:
        return
    own = {ref.name: ref.id for ref in target.root.components}
    other = {ref.name: ref.id for ref in source.root.components}
    differ = [
        name
        for name in sorted(own.keys() | other.keys())
        if own.get(name) != other.get(name)
    ]
    what = f"components {', '.join(differ[:_NUM_SHOWN])}" if differ else ""
    raise errors.UsageError(
        f"{source.where} grew from another root "
        f"({os_errors.show(source.root_source)}; other "
        f"{what or 'hyperparameters'}); merge systems of one root"
    )


def _check_labels(
    target: system_dir.SystemDir,
    source: system_dir.SystemDir,
    state: task_state.TaskState,
) -> None:
    """Refuses a task that `target` could neither evolve nor evaluate.

    Raises:
      UsageError: its labels do not fit the settings of `target`, or have
        another measure there than in `source`.
    """
    ours, theirs = (
        state.target.quality_of(
            part.experiment.get("search", {}).get("quality", "accuracy"),
            state.task,
        )
        for part in (target, source)
    )
    if state.target is target_types.SINGLE_LABEL:
        return
    weights = target.experiment.get("data", {}).get(
        "class_weights", class_weights.NONE
    )
    class_weights.check(weights, state.task, state.class_names, state.target)
    if ours != theirs:
        raise errors.UsageError(
            f"task {state.task!r} of {source.where} has the measure {theirs}, "
            f"and such tasks of {target.where} have {ours}; merge systems of "
            "one search.quality"
        )


def _new_states(
    target: system_dir.SystemDir,
    source: system_dir.SystemDir,
    states: Mapping[str, task_state.TaskState],
) -> Sequence[task_state.TaskState]:
    """Returns what is to be published, each with its whole lineage."""
    own = target.tasks()
    own_names = {name.lower(): name for name in [*own, *target.removed()]}
    theirs = source.tasks()
    living = {state.published.id: state.published for state in theirs.values()}
    living[source.root.id] = source.root
    retired: dict[str, str | None] = {}
    for task in source.removed().values():
        retired.update(task.retired)
    for state in theirs.values():
        retired.update(state.retired)
    new, clashes = [], []
    for name, state in states.items():
        if name in own and own[name].published == state.published:
            continue
        if name.lower() in own_names:
            clashes.append(name)
            continue
        new.append(_with_lineage(state, living, retired))
    if clashes:
        raise errors.UsageError(
            f"both systems have had a task {clashes[0]!a}"
            + (f" (and {len(clashes) - 1} more)" if clashes[1:] else "")
            + "; remove it from the one to be merged, or bring in the others "
            "one by one with --task"
        )
    return new


def _with_lineage(
    state: task_state.TaskState,
    living: Mapping[str, specs.PathRecord],
    retired: Mapping[str, str | None],
) -> task_state.TaskState:
    """Returns a state that knows the parents of all ancestors of its path."""
    ancestry = dict(state.retired)
    for ancestor in lineage.ancestors(state.published, living, retired):
        record = living.get(ancestor)
        if record is not None and record.is_root:
            break
        ancestry[ancestor] = record.parent if record else retired.get(ancestor)
    else:
        raise errors.StoreError(
            f"the lineage of {state.task}'s path {state.published.id} does not "
            "lead to the root; restore the system to be merged from a copy"
        )
    return dataclasses.replace(state, retired=ancestry)
