"""A system directory that is open: what every use of it needs.

Invariant: nothing is written before all that can be refused was refused, and
what the directory is never changes; what is still to come may.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import TypeVar

from keras_munet import errors
from keras_munet import living
from keras_munet import preflight
from keras_munet import task_data as task_data_lib
from keras_munet.core import adapters as adapters_lib
from keras_munet.core import devices as devices_lib
from keras_munet.core import family as family_lib
from keras_munet.core import keras_backend
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import records
from keras_munet.roots import build as roots_build
from keras_munet.roots import root as root_lib
from keras_munet.search import baselines
from keras_munet.search import population as population_lib
from keras_munet.store import collecting
from keras_munet.store import interface
from keras_munet.store import system_dir
from keras_munet.store import task_state

if TYPE_CHECKING:
    from keras_munet import crew as crew_lib

PathLike = str | os.PathLike[str]
_Opened = TypeVar("_Opened", bound="OpenedSystem")
_Read = TypeVar("_Read")
# How long a job waits for another one that creates the system.
_CREATION_SECS_MAX = 60.0


class OpenedSystem:
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
        loader: task_data_lib.TaskDataLoader | None = None,
    ):
        """Wraps an open directory; use `create` or `open` instead.

        Args:
          directory: of the system.
          data: where data lie on this machine.
          loader: of the same data, which may hold some already.
        """
        self._dir = directory
        recorded = baselines.budgeted(
            settings_lib.Settings.from_dict(
                {**settings_lib.LATER_KEYS, **directory.experiment}
            )
        )
        self.settings = dataclasses.replace(
            recorded,
            data=dataclasses.replace(
                data or settings_lib.DataSettings(),
                antialias=recorded.data.antialias,
            ),
        )
        self.family = adapters_lib.with_adapter(
            family_lib.from_json(directory.family_json),
            self.settings.search.adapter,
        )
        self._crews: dict[devices_lib.Devices, crew_lib.Crew] = {}
        self._loader = loader or task_data_lib.TaskDataLoader(self.settings)

    @classmethod
    def create(
        cls: type[_Opened],
        workdir: PathLike,
        settings: settings_lib.Settings,
        root: root_lib.Root | None = None,
    ) -> _Opened:
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
        # Before anything is written: what cannot be had leaves nothing.
        keras_backend.require_tensorflow()
        loader = task_data_lib.TaskDataLoader(settings)
        loader.check(settings.task_names)
        settings = presets.resolved(settings, loader.sizes(settings.task_names))
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
            root_hparams={
                **settings.hparams,
                **settings.data.hparams,
                **root.hparams,
            },
            root_source=root.source,
        )
        return cls(directory, settings.data, loader)

    @classmethod
    def open(
        cls: type[_Opened],
        workdir: PathLike,
        data: settings_lib.DataSettings | None = None,
    ) -> _Opened:
        """Returns the system that a directory holds.

        Raises:
          UsageError: there is none.
          StoreError: it is damaged or of a newer format.
        """
        return cls(system_dir.SystemDir.open(workdir), data)

    @classmethod
    def create_or_open(
        cls: type[_Opened], workdir: PathLike, settings: settings_lib.Settings
    ) -> _Opened:
        """Returns the system of an experiment, new or as it was left.

        A finished system continues with other tasks or more rounds: these
        are what is still to come and no part of what it is.

        Raises:
          UsageError: the directory holds another experiment; the message
            names the settings that differ.
          DataError: the data of a task that is new to it are missing.
        """
        started = time.monotonic()
        while not system_dir.SystemDir.is_system(workdir):
            try:
                return cls.create(workdir, settings)
            except errors.UsageError as error:
                # Of several jobs that begin at once, one creates it.
                held = isinstance(error.__cause__, interface.LockHeldError)
                waited = time.monotonic() - started > _CREATION_SECS_MAX
                if system_dir.SystemDir.is_system(workdir):
                    break
                if waited or not held:
                    raise
                time.sleep(0.1)
        directory = system_dir.SystemDir.open(workdir)
        settings = presets.recorded(settings, directory.experiment)
        asked = settings.to_json()
        directory.compare_experiment(
            asked,
            besides=_plan_keys(settings),
            earlier=settings_lib.LATER_KEYS,
        )
        if directory.experiment == asked:
            return cls(directory, settings.data)
        loader = task_data_lib.TaskDataLoader(settings)
        loader.check(settings.task_names, directory.tasks)
        directory.change_experiment(asked)
        return cls(directory, settings.data, loader)

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

    def data(self, task_name: str) -> records.TaskData:
        """Returns a task's data.

        Large ones are freed when another task's are loaded, unless the caller
        holds them.

        Raises:
          UsageError: there is no such task.
          DataError: its data are missing or damaged, or are not those that
            its published path was trained on.
        """
        name, _ = names.split_private(task_name)
        data = self._loader.load(name)
        self._loader.refuse_other_data(name, self.tasks.get(name))
        return data

    def _crew(self, strategy: str | devices_lib.Devices) -> crew_lib.Crew:
        asked = devices_lib.Devices.of(strategy)
        if asked not in self._crews:
            # TensorFlow is imported only where something trains.
            from keras_munet import crew

            self._crews[asked] = crew.make(
                self._dir, self.family, self.settings, asked
            )
        return self._crews[asked]

    @contextlib.contextmanager
    def _led(self, strategy: str | devices_lib.Devices) -> Iterator[bool]:
        """Yields whether this process leads, and not another worker's.

        Where another does, this one has carried its orders out by then.
        """
        if devices_lib.Devices.of(strategy).strategy != "multi_worker":
            yield True
            return
        from keras_munet import crew as crew_lib

        crew = self._crew(strategy)
        if crew.trainer.workers.is_chief:
            with crew_lib.leading(crew.trainer.workers):
                yield True
        else:
            crew.follow(self.data)
            yield False

    def _todo(self) -> list[tuple[int, str]]:
        """Returns (round, task) of every task iteration that is left."""
        states = self.tasks
        done = {
            task_name: num_rounds(states.get(names.split_private(task_name)[0]))
            for task_name in self.settings.task_names
        }
        return [
            (number, task_name)
            for number in range(self.settings.num_task_iters)
            for task_name in self.settings.task_names
            if done[task_name] <= number
        ]


def num_rounds(state: task_state.TaskState | None) -> int:
    """Returns how many rounds a task has had since it was added."""
    if state is None:
        return 0
    return state.num_iterations_done - state.num_iterations_before


def _plan_keys(settings: settings_lib.Settings) -> tuple[str, ...]:
    """Returns the settings that say what is still to come."""
    if settings.search.policy == "evolve":
        return "task_names", "num_task_iters"
    # A baseline's rounds are the length of its one training.
    return ("task_names",)
