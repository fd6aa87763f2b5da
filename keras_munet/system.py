"""The facade: a system that learns tasks one after another and forgets none.

Invariant: what a published path relies on is immutable; a task iteration
ends in one atomic publication, and running it again after any interruption
gives the same population bit for bit.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from keras_munet import errors
from keras_munet import living
from keras_munet import preflight
from keras_munet import progress as progress_lib
from keras_munet.core import family as family_lib
from keras_munet.core import names
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import records
from keras_munet.roots import build as roots_build
from keras_munet.roots import root as root_lib
from keras_munet.search import baselines
from keras_munet.search import evolution
from keras_munet.search import population as population_lib
from keras_munet.store import collecting
from keras_munet.store import interface
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.store import task_state

if TYPE_CHECKING:
    import keras

    from keras_munet.train import trainer as trainer_lib

PathLike = str | os.PathLike[str]
_Read = TypeVar("_Read")
# Between two looks at whether other jobs have ended.
_PAUSE_SECS_MAX = 5.0


class System:
    """A multitask image system in a directory.

    Attributes:
      settings: the experiment that the directory holds; of a baseline, with
        its budget in one training.
      family: what paths of its root look like.
    """

    def __init__(
        self,
        directory: system_dir.SystemDir,
        data: settings_lib.DataSettings | None = None,
        task_data: Mapping[str, records.TaskData] | None = None,
    ):
        """Wraps an open directory; use `create` or `open` instead.

        Args:
          directory: of the system.
          data: where data lie on this machine.
          task_data: data that were loaded before, by bare task name.
        """
        self._dir = directory
        self.settings = dataclasses.replace(
            baselines.budgeted(
                settings_lib.Settings.from_dict(directory.experiment)
            ),
            data=data or settings_lib.DataSettings(),
        )
        self.family = family_lib.from_json(directory.family_json)
        self._trainers: dict[str, trainer_lib.Trainer] = {}
        self._task_data = dict(task_data or {})

    @classmethod
    def create(
        cls,
        workdir: PathLike,
        settings: settings_lib.Settings,
        root: root_lib.Root | None = None,
    ) -> System:
        """Returns a new system in an empty or absent directory.

        Args:
          workdir: where it lives.
          settings: the experiment; nothing about it changes later.
          root: the first components; None builds what `settings.root` says.

        Raises:
          UsageError: the directory holds something else, or a task is
            unknown.
          DataError: a task's data are missing or damaged.
          CheckpointError: the root's file does not fit.
          StoreError: the directory cannot be written.
        """
        # Before anything is written: a task that cannot be had leaves nothing.
        task_data = preflight.load_tasks(settings.task_names, settings.data)
        root = root or roots_build.build(
            settings.root,
            num_layers_max=settings.num_layers_max,
        )
        preflight.check_reach(settings, root)
        directory = system_dir.SystemDir.create(
            workdir,
            experiment=settings.to_json(),
            family=root.family.to_json(),
            root_components=root.components,
            root_hparams={**settings.hparams, **root.hparams},
            root_source=root.source,
        )
        return cls(directory, settings.data, task_data)

    @classmethod
    def open(
        cls, workdir: PathLike, data: settings_lib.DataSettings | None = None
    ) -> System:
        """Returns the system that a directory holds.

        Raises:
          UsageError: there is none.
          StoreError: it is damaged or of a newer format.
        """
        return cls(system_dir.SystemDir.open(workdir), data)

    @classmethod
    def create_or_open(
        cls, workdir: PathLike, settings: settings_lib.Settings
    ) -> System:
        """Returns the system of an experiment, new or as it was left.

        A finished system continues with other tasks or more rounds: these
        are what is still to come and no part of what it is.

        Raises:
          UsageError: the directory holds another experiment; the message
            names the settings that differ.
          DataError: the data of a task that is new to it are missing.
        """
        if not system_dir.SystemDir.is_system(workdir):
            return cls.create(workdir, settings)
        directory = system_dir.SystemDir.open(workdir)
        asked = settings.to_json()
        directory.compare_experiment(asked, besides=_plan_keys(settings))
        if directory.experiment == asked:
            return cls(directory, settings.data)
        task_data = preflight.load_tasks(settings.task_names, settings.data)
        directory.change_experiment(asked)
        return cls(directory, settings.data, task_data)

    @property
    def tasks(self) -> dict[str, task_state.TaskState]:
        """The published state of every task, by name."""
        return self._dir.tasks()

    @property
    def root(self) -> specs.PathRecord:
        """The root path."""
        return self._dir.root

    def population(self) -> population_lib.Population:
        """Returns the living paths as the search sees them."""
        return living.read(self._dir)

    def run(
        self,
        *,
        strategy: str = "auto",
        progress: progress_lib.Progress | None = None,
    ) -> bool:
        """Runs what is left of the experiment: every round over every task.

        Several jobs may run one experiment: each takes the first task
        iteration whose task nobody works on, and waits while there is none.
        What they end in depends on who was where first; only a job that is
        alone ends in the same population bit for bit whenever it is repeated.

        Args:
          strategy: which devices train; see `train.strategy.make`.
          progress: is told what happens.

        Returns:
          False if nothing was left to do.

        Raises:
          UsageError: no task is named, or a task is unknown.
          DataError: a task's data are missing or damaged.
        """
        progress = progress or progress_lib.Progress(quiet=True)
        if not self.settings.task_names:
            raise errors.UsageError(
                "config key task_names is empty; name the tasks to evolve"
            )
        todo = self._todo()
        if not todo:
            return False
        # A missing file is found now and not after hours.
        for name in self.settings.task_names:
            self._data(name)
        progress.plan(len(todo) * self.settings.num_generations)
        pause_secs = 0.0
        while todo:
            if self._run_one(todo, strategy, progress):
                pause_secs = 0.0
            else:
                if not pause_secs:
                    held = dict.fromkeys(name for _, name in todo)
                    progress.line(
                        f"other jobs work on {', '.join(held)}; waiting"
                    )
                pause_secs = min(2 * pause_secs + 0.1, _PAUSE_SECS_MAX)
                time.sleep(pause_secs)
            todo = self._todo()
        return True

    def _run_one(
        self,
        todo: Sequence[tuple[int, str]],
        strategy: str,
        progress: progress_lib.Progress,
    ) -> bool:
        """Runs the first task iteration that no other job holds.

        Returns:
          False if other jobs hold them all.
        """
        held = set()
        for number, task_name in todo:
            name, _ = names.split_private(task_name)
            if name in held:
                continue
            try:
                with self._dir.lease(name):
                    # Another job may have done it since `todo` was made.
                    if (number, task_name) in self._todo():
                        progress.line(
                            f"round {number + 1}/"
                            f"{self.settings.num_task_iters}: {task_name}"
                        )
                        self._evolve(task_name, strategy, progress)
            except leases.TaskHeldError:
                held.add(name)
            except leases.LeaseLostError as error:
                progress.line(str(error))
                return True
            else:
                return True
        return False

    def evolve(
        self,
        task_name: str,
        *,
        strategy: str = "auto",
        progress: progress_lib.Progress | None = None,
    ) -> specs.PathRecord:
        """Spends one task iteration on a task and publishes its best path.

        Args:
          task_name: the task; `private:NAME` keeps its paths to itself.
          strategy: which devices train.
          progress: is told what happens.

        Returns:
          The published path.

        Raises:
          UsageError: the task is unknown or another job works on it.
          LeaseLostError: this job stood still for so long that another one
            took the task over.
          DataError: the task's data are missing or damaged.
          ChildError: no child of the task could be trained.
        """
        name, _ = names.split_private(task_name)
        with self._dir.lease(name):
            return self._evolve(
                task_name,
                strategy,
                progress or progress_lib.Progress(quiet=True),
            )

    def _evolve(
        self,
        task_name: str,
        strategy: str,
        progress: progress_lib.Progress,
    ) -> specs.PathRecord:
        """Does what `evolve` says; the caller has the task's lease."""
        # TensorFlow is imported only where something trains.
        from keras_munet import iteration

        data = self._data(task_name)
        name, private = names.split_private(task_name)
        newest = living.Newest(self._dir)
        others = self.tasks
        state = others.pop(name, None)
        before = state or self._dir.removed().get(name)
        counts: collections.Counter[str] = collections.Counter()
        if self.settings.search.version == "munet":
            for other in others.values():
                counts.update(other.child_counts)
        search = evolution.TaskIteration(
            self.settings,
            self.family,
            newest.population,
            name,
            num_classes=data.num_classes,
            iteration=before.num_iterations_done if before else 0,
            num_children=state.child_counts if state else {},
            num_children_of_others=counts,
        )
        trainer = self._make_trainer(strategy)
        best, outcome = iteration.run(
            search,
            data,
            self._dir,
            self.family,
            self.settings,
            trainer,
            progress,
            newest,
        )
        trainer.forget(name)
        retired = dict(before.retired) if before else {}
        if state is not None:
            num_before = state.num_iterations_before
        else:
            num_before = search.iteration
        self._dir.publish(
            task_state.TaskState(
                task=name,
                # Once private, always private: its paths were promised so.
                private=private or (state is not None and state.private),
                num_classes=data.num_classes,
                class_names=data.class_names,
                num_iterations_done=search.iteration + 1,
                num_iterations_before=num_before,
                published=best,
                retired={**retired, **outcome.retired},
                child_counts=dict(outcome.num_children),
            )
        )
        self._dir.tidy()
        return best

    def remove(self, task_name: str) -> None:
        """Takes a task out of the system; the others keep what they share.

        Args:
          task_name: the task, with or without `private:`.

        Raises:
          UsageError: the system has no such task, or another job works on
            it.
          StoreError: the directory cannot be written.
        """
        name, _ = names.split_private(task_name)
        # Before the lease, which could not name what there is.
        self._dir.task(name)
        with self._dir.lease(name):
            self._dir.load_progress(name)
            self._dir.remove(name)
            self._dir.tidy()

    def check(self) -> list[str]:
        """Returns the problems of the directory, one line each.

        Every hash, reference and rule is verified; none is reported if the
        system is whole.
        """
        return self._dir.check()

    def collect(self, *, dry_run: bool = False) -> collecting.CollectReport:
        """Removes what nothing references; returns what that was.

        Args:
          dry_run: whether to report only.

        Raises:
          UsageError: other jobs do not stop storing components.
          StoreError: a record cannot be read; nothing is removed then.
        """
        return self._dir.collect(dry_run=dry_run)

    def evaluate(
        self,
        task_names: Sequence[str] | None = None,
        *,
        strategy: str = "auto",
    ) -> dict[str, Any]:
        """Measures published paths on their validation and test data.

        Args:
          task_names: which tasks; None for all.
          strategy: which devices compute.

        Returns:
          Task name -> `path_id`, `validation_accuracy`, `test_accuracy`,
          `score`, `num_params`, `accounted_params`, `num_layers`.

        Raises:
          UsageError: a task is not in the system.
        """
        from keras_munet import iteration

        trainer = self._make_trainer(strategy)
        return {
            name: self._current(
                lambda name=name: iteration.measure(
                    name,
                    self.population(),
                    self._data(name),
                    self._dir,
                    self.settings,
                    trainer,
                )
            )
            for name in preflight.published_names(task_names, self.tasks)
        }

    def model(self, task_names: str | Sequence[str]) -> keras.Model:
        """Returns a plain functional Keras model of one or several tasks.

        Args:
          task_names: one task, or several that share what they can.

        Returns:
          A model from `[batch, size, size, 3] float32` images in [-1, 1] to
          `[batch, num_classes] float32` logits; a dict of these by task
          where several tasks were asked for. It is a copy: training it
          never changes the system.

        Raises:
          UsageError: a task is not in the system, or the tasks were
            evolved at different image sizes.
        """
        from keras_munet.graph import builder

        one = isinstance(task_names, str)
        asked = preflight.published_names(
            [task_names] if isinstance(task_names, str) else task_names,
            self.tasks,
        )
        return self._current(
            lambda: builder.path_model(
                {name: self.tasks[name].published for name in asked},
                self._dir.objects.get,
                single=one,
            )
        )

    def features(
        self, task_name: str, component: str | None = None
    ) -> keras.Model:
        """Returns what a task's path computes below its head, as a model.

        Args:
          task_name: the task.
          component: the place whose whole output is wanted, e.g.
            `encoderblock_0`; None for what the head reads.

        Returns:
          A model from `[batch, size, size, 3] float32` images in [-1, 1] to
          `[batch, width] float32`, or to the component's output, of a ViT
          `[batch, tokens, width]`. It is a copy, as of `model`.

        Raises:
          UsageError: the system has no such task, or its path no such
            component.
        """
        from keras_munet.graph import builder

        (name,) = preflight.published_names([task_name], self.tasks)
        return self._current(
            lambda: builder.feature_model(
                self.tasks[name].published, self._dir.objects.get, component
            )
        )

    def export(
        self,
        out: PathLike,
        task_names: Sequence[str] | None = None,
        **options: Any,
    ) -> str:
        """Writes one SavedModel that serves tasks; see `export.saved_model`.

        Args:
          out: the folder to make; it must not exist or be empty.
          task_names: which tasks; None for all.
          **options: those of `export.options.Options`, e.g. `weights="int8"`
            or `versioned=True`.

        Returns:
          The folder of the SavedModel.

        Raises:
          UsageError: a task is not in the system, or `out` is not empty.
          StoreError: `out` cannot be written.
        """
        from keras_munet.export import options as options_lib
        from keras_munet.export import saved_model

        asked = options_lib.Options(**options)

        def write() -> str:
            states = self.tasks
            population = self.population()
            served = {
                name: states[name]
                for name in preflight.published_names(task_names, states)
            }
            lineages = {
                name: [p.task for p in population.ancestors(state.published)]
                for name, state in served.items()
            }
            return saved_model.export(
                out, served, self._dir.objects.get, asked, lineages
            )

        return self._current(write)

    def _current(self, read: Callable[..., _Read]) -> _Read:
        """Returns what `read` makes of the published state.

        Another job may publish or remove a task meanwhile, and with it what
        only the state before needed; then `read` is asked once more.

        Raises:
          StoreError: a file is missing though nothing was published.
        """
        while True:
            before = {n: s.published.id for n, s in self.tasks.items()}
            try:
                return read()
            except interface.MissingFileError:
                after = {n: s.published.id for n, s in self.tasks.items()}
                if after == before:
                    raise

    def _todo(self) -> list[tuple[int, str]]:
        """Returns (round, task) of every task iteration that is left."""
        states = self.tasks
        todo = []
        for number in range(self.settings.num_task_iters):
            for task_name in self.settings.task_names:
                name, _ = names.split_private(task_name)
                state = states.get(name)
                done = 0
                if state is not None:
                    done = state.num_iterations_done
                    done -= state.num_iterations_before
                if done <= number:
                    todo.append((number, task_name))
        return todo

    def _data(self, task_name: str) -> records.TaskData:
        name, _ = names.split_private(task_name)
        if name not in self._task_data:
            self._task_data.update(
                preflight.load_tasks([name], self.settings.data)
            )
        return self._task_data[name]

    def _make_trainer(self, strategy: str) -> trainer_lib.Trainer:
        if strategy not in self._trainers:
            from keras_munet import iteration

            self._trainers[strategy] = iteration.make_trainer(
                self.settings, strategy
            )
        return self._trainers[strategy]


def _plan_keys(settings: settings_lib.Settings) -> tuple[str, ...]:
    """Returns the settings that say what is still to come."""
    if settings.search.policy == "evolve":
        return "task_names", "num_task_iters"
    # A baseline's rounds are the length of its one training.
    return ("task_names",)
