"""Everything that a report says, read from a system directory once.

Invariant: the parameters of a path are counted as the search counts them, so
the accounted parameters of all tasks add up to the parameters in use.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import names
from keras_munet.core import qualities
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.report import events
from keras_munet.report import formatting
from keras_munet.report import lineages
from keras_munet.report import sharing
from keras_munet.search import population as population_lib
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import population_view


@dataclasses.dataclass(frozen=True)
class TaskSummary:
    """One task and its published path.

    Attributes:
      name: the task's bare name.
      private: whether its paths are never seeds for other tasks.
      class_names: one per class, or none.
      num_classes: width of its head.
      num_iterations_done: task iterations behind it.
      path_id: of its published path.
      num_layers: transformer blocks of the path; None if it does not say.
      validation: the quality that decided, in [0, 1]; None if it was not
        measured.
      test: accuracy in [0, 1], or where an image has any number of labels
        the quality; None if it was not measured.
      score: what the search judged it by.
      num_params: parameters of the path, shared or not.
      shared_params: those in components that another task uses too.
      own_params: those in components that no other task uses.
      accounted_params: each parameter divided by the tasks that use it now.
      parent_task: the task of the nearest living ancestor, `NOT_TRAINABLE`
        for the root; None if the records do not lead to one.
      lineage: its ancestors, nearest first, the root last.
      data_notices: what preparing its data said about them.
      test_metrics: what the path answers on test data; None if its record
        does not say.
      target: the type of its labels.
    """

    name: str
    private: bool
    class_names: tuple[str, ...]
    num_classes: int
    num_iterations_done: int
    path_id: str
    num_layers: int | None
    validation: float | None
    test: float | None
    score: float | None
    num_params: int
    shared_params: int
    own_params: int
    accounted_params: float
    parent_task: str | None
    lineage: tuple[lineages.Step, ...]
    data_notices: tuple[str, ...] = ()
    test_metrics: target_types.Metrics | None = None
    target: target_types.TargetType = target_types.SINGLE_LABEL


@dataclasses.dataclass(frozen=True)
class Summary:
    """One system.

    Attributes:
      name: the last part of its directory's path.
      root_source: where the root's values came from.
      root_params: parameters of the root path.
      tasks: in the order of the experiment, others after them.
      tree: who descends from whom, a parent before its children.
      components: the components in use, place by place.
      history: generations and times.
      root: the root path.
      published: the published paths, in the order of `tasks`.
      settings: the experiment as it was created.
      num_iterations_planned: task iterations of the experiment; None if the
        settings do not say.
      notes: what a reader should know first, one line each.
    """

    name: str
    root_source: str
    root_params: int
    tasks: tuple[TaskSummary, ...]
    tree: tuple[lineages.Node, ...]
    components: tuple[sharing.Slot, ...]
    history: events.History
    root: specs.PathRecord
    published: tuple[specs.PathRecord, ...]
    settings: Mapping[str, Any]
    num_iterations_planned: int | None
    notes: tuple[str, ...]

    @property
    def num_iterations_done(self) -> int:
        """Published task iterations over all tasks."""
        return sum(task.num_iterations_done for task in self.tasks)

    @property
    def params_in_use(self) -> int:
        """Parameters of the tasks' paths, each counted once."""
        return sum(
            component.num_params
            for slot in self.components
            for component in slot.components
        )

    @property
    def params_separate(self) -> int:
        """Parameters if every task had a model of its own."""
        return sum(task.num_params for task in self.tasks)

    @property
    def quality(self) -> str:
        """The measure on validation data that decides, in words."""
        search = self.settings.get("search")
        name = search.get("quality") if isinstance(search, Mapping) else None
        if not (isinstance(name, str) and name.isidentifier()):
            name = qualities.ACCURACY
        return name.replace("_", " ")

    @property
    def multi_label_note(self) -> str:
        """The tasks with another measure than accuracy, or nothing."""
        target = target_types.MULTI_LABEL
        tasks = [task.name for task in self.tasks if task.target is target]
        if not tasks:
            return ""
        return (
            "Images have any number of labels, and validation and test are "
            f"the {self.multi_label_measure}, in {', '.join(tasks)}."
        )

    @property
    def multi_label_measure(self) -> str:
        """The measure of tasks whose images have any number of labels."""
        setting = self.quality.replace(" ", "_")
        measure = target_types.MULTI_LABEL.test_measure(setting)
        return measure.replace("_", " ")

    @property
    def measures_of_means(self) -> tuple[str, str]:
        """The measures of the means over tasks: on validation and test data.

        Tasks of both types of labels have a *quality* in common.
        """
        target = target_types.MULTI_LABEL
        types = {task.target is target for task in self.tasks}
        if types == {True}:
            return self.multi_label_measure, self.multi_label_measure
        if types == {True, False}:
            return "quality", "quality"
        return self.quality, qualities.ACCURACY

    @property
    def mean_validation(self) -> float | None:
        """Mean validation quality; None unless every task has one."""
        return _mean([task.validation for task in self.tasks])

    @property
    def mean_test(self) -> float | None:
        """Mean test quality; None unless every task has one."""
        return _mean([task.test for task in self.tasks])

    @property
    def flat_settings(self) -> list[tuple[str, str]]:
        """The settings as (dotted key, value), in the order of their record."""
        return flat(self.settings)


def read_summary(workdir: str | os.PathLike[str]) -> Summary:
    """Returns the summary of the system in a directory.

    Raises:
      UsageError: there is no system.
      StoreError: it is damaged or of a newer format.
    """
    directory = system_dir.SystemDir.open(workdir)
    settings = directory.experiment
    task_names = _task_names(settings)
    states_by_name = directory.tasks()
    states = [
        states_by_name[name] for name in task_names if name in states_by_name
    ]
    named = set(task_names)
    states += [s for name, s in states_by_name.items() if name not in named]
    history = events.read_history(workdir)
    population = population_view.read_population(directory)
    family_tree = lineages.FamilyTree(population, history.path_tasks)
    tasks = tuple(_task(s, population, family_tree) for s in states)
    return Summary(
        name=os.path.basename(os.path.abspath(workdir)),
        root_source=directory.root_source,
        root_params=directory.root.num_params,
        tasks=tasks,
        tree=family_tree.nodes(),
        components=sharing.places(
            directory.root, [s.published for s in states]
        ),
        history=history,
        root=directory.root,
        published=tuple(s.published for s in states),
        settings=settings,
        num_iterations_planned=_num_planned(settings, len(task_names)),
        notes=(*_running(states, history), *history.notes),
    )


def flat(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns settings as (dotted key, value), in the order of their record."""
    return list(_flat("", settings))


def _task(
    state: task_state.TaskState,
    population: population_lib.Population,
    family_tree: lineages.FamilyTree,
) -> TaskSummary:
    path = state.published
    shared = sum(
        ref.num_params
        for ref in path.components
        if population.num_users(ref.id, without=state.task)
    )
    return TaskSummary(
        name=state.task,
        private=state.private,
        class_names=state.class_names,
        num_classes=state.num_classes,
        num_iterations_done=state.num_iterations_done,
        path_id=path.id,
        num_layers=path.hparams.get("num_layers"),
        validation=path.metrics.get("quality"),
        test=path.metrics.get("test_quality"),
        score=path.metrics.get("score"),
        num_params=path.num_params,
        shared_params=shared,
        own_params=path.num_params - shared,
        accounted_params=population.accounted_params(
            state.task, path.components
        ),
        parent_task=family_tree.parent_task(path),
        lineage=family_tree.lineage(path),
        data_notices=state.data.notices if state.data else (),
        test_metrics=state.test_metrics,
        target=state.target,
    )


def _running(
    states: Sequence[task_state.TaskState], history: events.History
) -> list[str]:
    """Returns a note per task iteration that is not published."""
    num_done = {s.task: s.num_iterations_done for s in states}
    newest = {
        (g.task, g.iteration): g.number
        for g in history.generations
        if g.iteration >= num_done.get(g.task, 0)
    }
    return [
        f"task iteration {iteration + 1} of {formatting.plain(task)} is not "
        f"published: {formatting.number_of(number, 'generation')} of it "
        f"{'is' if number == 1 else 'are'} done"
        for (task, iteration), number in newest.items()
    ]


def _task_names(settings: Mapping[str, Any]) -> list[str]:
    """Returns the bare names of the experiment's tasks, in its order."""
    task_names = settings.get("task_names", [])
    if not isinstance(task_names, list) or not all(
        isinstance(name, str) for name in task_names
    ):
        raise errors.StoreError(
            f"the experiment's task_names are {task_names!a}, not a list of "
            "names; restore system.json from a copy of the system"
        )
    return list(dict.fromkeys(map(names.bare_name, task_names)))


def _num_planned(settings: Mapping[str, Any], num_tasks: int) -> int | None:
    num_rounds = settings.get("num_task_iters")
    if num_tasks == 0 or not isinstance(num_rounds, int):
        return None
    return num_rounds * num_tasks


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return sum(numbers) / len(numbers)


def _flat(prefix: str, value: Any):
    """Yields (dotted key, text) of every value that is no mapping."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple):
        yield prefix, ", ".join(str(item) for item in value) or formatting.NONE
    else:
        yield prefix, str(value) if value not in ({}, "") else formatting.NONE
