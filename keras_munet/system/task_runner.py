"""Runs the task iterations that are left, each under its task's lease.

Invariant: nothing is trained before all that can be refused was refused; an
iteration ends in one atomic publication.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_munet import errors
from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import progress as progress_lib
from keras_munet.core import architecture
from keras_munet.core import devices
from keras_munet.core import names
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.search import evolution
from keras_munet.store import leases
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import population_view
from keras_munet.system import task_data
from keras_munet.system import validation

if TYPE_CHECKING:
    from keras_munet.system import executor

# The longest pause between two checks whether other jobs have ended.
_PAUSE_SECS_MAX = 2.0


class TaskRunner:
    """Evolves the tasks of one system on the devices of this job."""

    def __init__(
        self,
        directory: system_dir.SystemDir,
        family: architecture.Family,
        settings: settings_lib.Settings,
        loader: task_data.TaskDataLoader,
    ):
        """Takes what every task iteration needs.

        Args:
          directory: of the system.
          family: the layout of its paths.
          settings: the experiment.
          loader: of the tasks' data.
        """
        self._dir = directory
        self._family = family
        self._settings = settings
        self._loader = loader
        self._crews: dict[devices.Devices, executor.Executor] = {}
        self._newest: population_view.Newest | None = None
        # The task whose turn comes after the one that runs.
        self._next_name: str | None = None

    def data(self, task_name: str) -> types.TaskData:
        """Returns a task's data; see `System.data`."""
        name = names.bare_name(task_name)
        data = self._loader.load(name)
        self._loader.refuse_other_data(name, self._dir.find(name))
        return data

    def executor(self, strategy: str | devices.Devices) -> executor.Executor:
        """Returns the executor of a strategy, made once.

        Args:
          strategy: the devices, or the name of a strategy.
        """
        config = devices.Devices.of(strategy)
        if config not in self._crews:
            # TensorFlow is imported only where something trains.
            from keras_munet.system import executor

            self._crews[config] = executor.make_executor(
                self._dir, self._family, self._settings, config
            )
        return self._crews[config]

    @contextlib.contextmanager
    def led(self, strategy: str | devices.Devices) -> Iterator[bool]:
        """Yields whether this process leads, and not another worker's.

        Where another does, this one has carried its orders out by then.

        Args:
          strategy: the devices, or the name of a strategy.
        """
        if devices.Devices.of(strategy).strategy != "multi_worker":
            yield True
            return
        from keras_munet.system import executor

        crew = self.executor(strategy)
        if crew.trainer.workers.is_chief:
            with executor.leading(crew.trainer.workers):
                yield True
        else:
            crew.follow(self.data)
            yield False

    def run(
        self,
        strategy: str | devices.Devices,
        progress: progress_lib.Progress,
    ) -> bool:
        """Does what `System.run` says, on the worker that leads.

        Args:
          strategy: the devices that train.
          progress: receives lines and events.

        Returns:
          False if nothing was left to do.

        Raises:
          UsageError: no task is named.
          StoppedError: the job was to stop while it waited for others.
        """
        if not self._settings.task_names:
            raise errors.UsageError(
                "config key task_names is empty; name the tasks to evolve"
            )
        todo = self._todo()
        if not todo:
            # A job that was killed at its very end may have left something.
            self._dir.tidy()
            return False
        # A missing file is found now and not after hours.
        self._loader.check(self._settings.task_names, self._dir.find)
        self.begin_run(progress, len(todo))
        sizes = self._loader.sizes({name for _, name in todo})
        if notice := validation.budget_notice(
            self._settings, sizes, self._family, self._dir.root
        ):
            progress.line(notice)
        pause_secs = 0.0
        while todo:
            if self._run_one(todo, strategy, progress):
                pause_secs = 0.0
            else:
                if not pause_secs:
                    busy_tasks = dict.fromkeys(name for _, name in todo)
                    progress.line(
                        f"other jobs work on {', '.join(busy_tasks)}; waiting"
                    )
                pause_secs = min(2 * pause_secs + 0.1, _PAUSE_SECS_MAX)
                time.sleep(pause_secs)
                if progress.terminated():
                    raise errors.StoppedError(
                        "stopped as asked, while other jobs had all tasks; "
                        "run the same command to continue"
                    )
            todo = self._todo()
        return True

    def begin_run(
        self, progress: progress_lib.Progress, num_task_iterations: int
    ) -> None:
        """Reports a job of some task iterations, once locks are tried.

        Args:
          progress: passes it on.
          num_task_iterations: of the job.

        Raises:
          UsageError: the locks of the system's file system do nothing.
        """
        self._dir.files.require_locks()
        progress.begin_run(
            callback_lib.Run(
                workdir=self._dir.where,
                settings=self._settings,
                num_generations=num_task_iterations
                * self._settings.num_generations,
                num_task_iterations=num_task_iterations,
            )
        )

    def evolve(
        self,
        task_name: str,
        strategy: str | devices.Devices,
        progress: progress_lib.Progress,
    ) -> specs.PathRecord:
        """Does what `System.evolve` says; the caller has the task's lease.

        Args:
          task_name: the task; `private:NAME` keeps its paths to itself.
          strategy: the devices that train.
          progress: receives lines and events.
        """
        # TensorFlow is imported only where something trains.
        from keras_munet.system import task_iteration

        data = self.data(task_name)
        if self._next_name is not None:
            self._loader.prefetch(self._next_name)
        if notice := validation.input_notice(
            data, self._settings, self._family, self._dir.root
        ):
            progress.line(notice)
        name, private = names.split_private(task_name)
        fingerprint = self._loader.fingerprints[name]
        if self._newest is None:
            self._newest = population_view.Newest(self._dir)
        newest = self._newest
        newest()
        state = self._dir.find(name)
        before = state or self._dir.find_removed(name)
        if state is not None and state.data is None:
            progress.line(
                f"{name}: its record has no fingerprint of its data; this "
                "iteration records that of the data at hand"
            )
        counts: collections.Counter[str] = collections.Counter()
        if self._settings.search.version == "munet":
            for other in self._dir.tasks().values():
                if other.task != name:
                    counts.update(other.child_counts)
        search = evolution.TaskIteration(
            self._settings,
            self._family,
            newest.population,
            name,
            num_classes=data.num_classes,
            iteration=before.num_iterations_done if before else 0,
            num_children=state.child_counts if state else {},
            num_children_of_others=counts,
            num_validation_examples=min(
                len(data.validation), self._settings.num_validation_examples_max
            ),
            quality_name=data.target.quality_of(
                self._settings.search.quality, name
            ),
        )
        crew = self.executor(strategy)
        best, outcome = task_iteration.run(
            search,
            data,
            fingerprint,
            self._dir,
            crew,
            self._settings,
            progress,
            newest,
        )
        test_metrics = crew.test_metrics(best, data)
        crew.forget(name)
        retired = dict(before.retired) if before else {}
        num_before = state.num_iterations_before if state else search.iteration
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
                data=fingerprint,
                test_metrics=test_metrics,
                target=data.target,
            )
        )
        self._dir.tidy()
        return best

    def _run_one(
        self,
        todo: Sequence[tuple[int, str]],
        strategy: str | devices.Devices,
        progress: progress_lib.Progress,
    ) -> bool:
        """Runs the first task iteration that no other job holds.

        Returns:
          False if other jobs hold them all.
        """
        busy = set()
        for position, (number, task_name) in enumerate(todo):
            name = names.bare_name(task_name)
            if name in busy:
                continue
            try:
                with self._dir.lease(name):
                    # Another job may have done it since `todo` was made.
                    state = self._dir.find(name)
                    if state is None or state.num_rounds <= number:
                        progress.line(
                            f"round {number + 1}/"
                            f"{self._settings.num_task_iters}: {task_name}"
                        )
                        self._next_name = _next_name(name, todo[position:])
                        self.evolve(task_name, strategy, progress)
            except leases.TaskHeldError:
                busy.add(name)
            except leases.LeaseLostError as error:
                progress.line(str(error))
                return True
            else:
                return True
        return False

    def _todo(self) -> list[tuple[int, str]]:
        """Returns (round, task) of every task iteration that is left."""
        num_rounds = {}
        for task_name in self._settings.task_names:
            name = names.bare_name(task_name)
            state = self._dir.find(name)
            num_rounds[name] = state.num_rounds if state else 0
        return [
            (number, task_name)
            for number in range(self._settings.num_task_iters)
            for task_name in self._settings.task_names
            if num_rounds[names.bare_name(task_name)] <= number
        ]


def _next_name(name: str, todo: Sequence[tuple[int, str]]) -> str | None:
    """Returns the first task after one of this name, or None."""
    bare_names = (names.bare_name(task_name) for _, task_name in todo)
    return next((other for other in bare_names if other != name), None)
