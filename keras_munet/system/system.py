"""The facade: a system that learns tasks one after another and forgets none.

Invariant: what a published path relies on is immutable, and what the
directory is never changes; nothing is written before all that can be refused
was refused. A task iteration ends in one atomic publication, and running it
again after any interruption gives the same population bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar
from typing import overload

from keras_munet import errors
from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import progress as progress_lib
from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import devices
from keras_munet.core import keras_backend
from keras_munet.core import names
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.roots import build as roots_build
from keras_munet.roots import root as root_lib
from keras_munet.search import baselines
from keras_munet.search import population as population_lib
from keras_munet.store import files as files_lib
from keras_munet.store import garbage_collection
from keras_munet.store import storage
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import inference
from keras_munet.system import population_view
from keras_munet.system import records
from keras_munet.system import task_data
from keras_munet.system import task_runner
from keras_munet.system import validation

if TYPE_CHECKING:
    import keras

PathLike = str | os.PathLike[str]
_Self = TypeVar("_Self", bound="System")
_Read = TypeVar("_Read")
# How long a job waits for another one that creates the system.
_CREATION_SECS_MAX = 60.0


class System:
    """A multitask image system in a directory; `create` or `open` one.

    Attributes:
      settings: the experiment that the directory holds; of a baseline, with
        its budget in one training.
      family: what paths of its root look like.
    """

    # Of the path that `predict` used last, by its id.
    _classifier: tuple[str, inference.Classifier] | None = None

    def __init__(
        self,
        directory: system_dir.SystemDir,
        data: settings_lib.DataSettings | None = None,
        loader: task_data.TaskDataLoader | None = None,
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
                class_weights=recorded.data.class_weights,
            ),
        )
        self.family = adapters_lib.with_adapter(
            architecture.from_json(directory.family_json),
            self.settings.search.adapter,
        )
        self._runner = task_runner.TaskRunner(
            directory,
            self.family,
            self.settings,
            loader or task_data.TaskDataLoader(self.settings),
        )

    @classmethod
    def create(
        cls: type[_Self],
        workdir: PathLike,
        settings: settings_lib.Settings,
        root: root_lib.Root | None = None,
    ) -> _Self:
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
        loader = task_data.TaskDataLoader(settings)
        loader.check(settings.task_names)
        settings = presets.resolve_preset(
            settings, loader.sizes(settings.task_names)
        )
        root = root or roots_build.build(
            settings.root,
            num_layers_max=settings.num_layers_max,
        )
        validation.check_reach(settings, root)
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
        cls: type[_Self],
        workdir: PathLike,
        data: settings_lib.DataSettings | None = None,
    ) -> _Self:
        """Returns the system that a directory holds.

        Raises:
          UsageError: there is none.
          StoreError: it is damaged or of a newer format.
        """
        return cls(system_dir.SystemDir.open(workdir), data)

    @classmethod
    def create_or_open(
        cls: type[_Self], workdir: PathLike, settings: settings_lib.Settings
    ) -> _Self:
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
                is_locked = isinstance(error.__cause__, storage.LockHeldError)
                waited = time.monotonic() - started > _CREATION_SECS_MAX
                if system_dir.SystemDir.is_system(workdir):
                    break
                if waited or not is_locked:
                    raise
                time.sleep(0.1)
        directory = system_dir.SystemDir.open(workdir)
        settings = presets.recorded_settings(settings, directory.experiment)
        experiment = settings.to_json()
        directory.compare_experiment(
            experiment,
            besides=baselines.changeable_keys(settings),
            earlier=settings_lib.LATER_KEYS,
        )
        if directory.experiment == experiment:
            return cls(directory, settings.data)
        loader = task_data.TaskDataLoader(settings)
        loader.check(settings.task_names, directory.find)
        directory.change_experiment(experiment)
        return cls(directory, settings.data, loader)

    @property
    def tasks(self) -> dict[str, task_state.TaskState]:
        """The published state of every task, by name."""
        return self._dir.tasks()

    @property
    def root(self) -> specs.PathRecord:
        """The root path."""
        return self._dir.root

    def __repr__(self) -> str:
        states = self.tasks
        names = [*list(states)[:4], *(["..."] if len(states) > 4 else [])]
        tasks = f"{len(states)} task{'s' * (len(states) != 1)}"
        listed = f": {', '.join(names)}" if names else ""
        return f"<System {self._dir.where}, {tasks}{listed}>"

    def _repr_html_(self) -> str:
        return records.leaderboard_html(
            repr(self)[1:-1],
            [self[name] for name in self],
            self.settings.search.quality.replace("_", " "),
        )

    @property
    def workdir(self) -> str:
        """Returns the directory, an absolute path or `gs://BUCKET/FOLDER`."""
        return self._dir.files.location

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        # A system without a task is one all the same.
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __contains__(self, task_name: object) -> bool:
        return task_name in self.tasks

    def __getitem__(self, task_name: str) -> records.TaskInfo:
        """Returns the record of a published task.

        Raises:
          UsageError: the system has no such task.

        Example:
          >>> system["digits"].num_classes, "greek" in system, list(system)
          (10, False, ['digits'])
        """
        state = self._dir.task(names.bare_name(task_name))
        return records.task_info(
            state, self.population(), self.settings.search.quality
        )

    def history(self) -> list[dict[str, Any]]:
        """Returns a record of plain values per child, in order of training.

        `pandas.DataFrame(system.history())` is the table of all children.

        Example:
          >>> best = max(system.history(), key=lambda child: child["score"])
          >>> best["task"], best["score"] > 0.9
          ('digits', True)
        """
        return records.history(self._dir)

    def sharing(self) -> list[dict[str, Any]]:
        """Returns a record of plain values per component in use.

        Each has `place`, `component_id`, `num_params`, `from_root` and
        `tasks`, the names of those that use it.

        Example:
          >>> places = {c["place"]: c["tasks"] for c in system.sharing()}
          >>> "digits" in places["head"]
          True
        """
        return records.sharing(self.population())

    def population(self) -> population_lib.Population:
        """Returns the living paths as the search sees them."""
        return population_view.read_population(self._dir)

    def check(self) -> list[str]:
        """Returns the problems of the directory, one line each.

        Every hash, reference and rule is verified; none is reported if the
        system is whole.
        """
        return self._dir.check()

    def collect(
        self, *, dry_run: bool = False
    ) -> garbage_collection.CollectReport:
        """Removes what nothing references; returns what that was.

        Args:
          dry_run: whether to report only.

        Raises:
          UsageError: other jobs do not stop storing components.
          StoreError: a record cannot be read; nothing is removed then.
        """
        return self._dir.collect(dry_run=dry_run)

    def data(self, task_name: str) -> types.TaskData:
        """Returns a task's data.

        Large ones are freed when another task's are loaded, unless the caller
        holds them.

        Raises:
          UsageError: there is no such task.
          DataError: its data are missing or damaged, or are not those that
            its published path was trained on.
        """
        return self._runner.data(task_name)

    def run(
        self,
        *,
        strategy: str | devices.Devices = "auto",
        progress: progress_lib.Progress | None = None,
        callbacks: Iterable[callback_lib.Callback] = (),
    ) -> bool:
        """Runs what is left of the experiment: every round over every task.

        Several jobs may run one experiment: each takes the first task
        iteration whose task no job works on, and waits while there is none.
        What they end in depends on who was where first; only a job that is
        alone ends in the same population bit for bit whenever it is repeated.

        Args:
          strategy: which devices train: a name or `core.devices.Devices`.
          progress: records and shows what happens; the caller closes it. None
            for a quiet one that records in the system's folder.
          callbacks: follow the job.

        Returns:
          False if nothing was left to do.

        Raises:
          UsageError: no task is named, or a task is unknown.
          DataError: a task's data are missing or damaged.
        """
        with self._runner.led(strategy) as leads:
            # What others lead is done when they say so.
            if not leads:
                return True
            with self._followed(progress, callbacks) as followed:
                return self._runner.run(strategy, followed)

    @contextlib.contextmanager
    def _followed(
        self,
        progress: progress_lib.Progress | None,
        callbacks: Iterable[callback_lib.Callback],
    ) -> Iterator[progress_lib.Progress]:
        """Yields the progress of a job; closes it if it is made here."""
        if progress is not None:
            progress.add(callbacks)
            yield progress
            return
        with progress_lib.Progress(
            self._dir.where, quiet=True, callbacks=callbacks
        ) as reporter:
            yield reporter

    def evolve(
        self,
        task_name: str,
        *,
        strategy: str | devices.Devices = "auto",
        progress: progress_lib.Progress | None = None,
        callbacks: Iterable[callback_lib.Callback] = (),
    ) -> specs.PathRecord:
        """Spends one task iteration on a task and publishes its best path.

        Args:
          task_name: the task; `private:NAME` keeps its paths to itself.
          strategy: which devices train.
          progress: see `run`.
          callbacks: see `run`.

        Returns:
          The published path.

        Raises:
          UsageError: the task is unknown or another job works on it.
          LeaseLostError: this job stood still for so long that another one
            took the task over.
          DataError: the task's data are missing or damaged.
          ChildError: no child of the task could be trained.
        """
        name = names.bare_name(task_name)
        with self._runner.led(strategy) as leads:
            if leads:
                with (
                    self._dir.lease(name),
                    self._followed(progress, callbacks) as followed,
                ):
                    self._runner.begin_run(followed, num_task_iterations=1)
                    return self._runner.evolve(task_name, strategy, followed)
        return self._dir.task(name).published

    def remove(self, task_name: str) -> None:
        """Takes a task out of the system; the others keep what they share.

        Of a task without a published path, its unfinished iteration goes.

        Args:
          task_name: the task, with or without `private:`.

        Raises:
          UsageError: the system has no such task, or another job works on
            it.
          StoreError: the directory cannot be written.
        """
        name = names.bare_name(task_name)
        is_begun = name not in self.tasks and self._dir.load_progress(name)
        if not is_begun:
            # Before the lease, which could not name what there is.
            self._dir.task(name)
        with self._dir.lease(name):
            self._dir.load_progress(name)
            if name in self.tasks:
                self._dir.remove(name)
            else:
                self._dir.clear_progress(name)
            self._dir.tidy()

    def evaluate(
        self,
        task_names: Sequence[str] | None = None,
        *,
        strategy: str | devices.Devices = "auto",
    ) -> dict[str, records.Evaluation]:
        """Measures published paths on their validation and test data.

        Args:
          task_names: which tasks; None for all.
          strategy: which devices compute.

        Returns:
          Task name -> its measures.

        Raises:
          UsageError: a task is not in the system.

        Example:
          >>> measured = system.evaluate()["digits"]
          >>> measured.test_accuracy == system["digits"].test_accuracy
          True
        """
        from keras_munet.system import task_iteration

        crew = self._runner.executor(strategy)
        measured: dict[str, Any] | None = None
        with self._runner.led(strategy) as leads:
            if leads:
                measured = {}
                for name in validation.published_names(task_names, self.tasks):
                    measured[name] = self._current(
                        lambda name=name: task_iteration.measure_path(
                            name,
                            self.population(),
                            self.data(name),
                            self.settings,
                            crew,
                        )
                    )
                    crew.forget(name)
        shared = crew.trainer.workers.broadcast(measured)
        return {name: records.Evaluation(**m) for name, m in shared.items()}

    def model(
        self,
        task_names: str | Sequence[str],
        *,
        include_preprocessing: bool = False,
    ) -> keras.Model:
        """Returns a plain functional Keras model of one or several tasks.

        Args:
          task_names: one task, or several that share what they can.
          include_preprocessing: whether the model takes raw pictures,
            `[batch, height, width, 3] uint8` of any size, which it decodes
            no further and resizes as training and evaluation do.

        Returns:
          A model from `[batch, size, size, 3] float32` images in [-1, 1] to
          `[batch, num_classes] float32` logits; a dict of these by task
          where several tasks were requested. Its `class_names` are a tuple
          in the order of the logits, or a dict of these. It is a copy:
          training it never changes the system.

        Raises:
          UsageError: a task is not in the system, or the tasks were
            evolved at different image sizes, or prepare pictures in
            different ways and preprocessing is to be included.
        """
        from keras_munet.data import preprocessing
        from keras_munet.data import preprocessing_layer
        from keras_munet.export import serving_functions
        from keras_munet.models import path_model

        one = isinstance(task_names, str)
        chosen = validation.published_names(
            [task_names] if isinstance(task_names, str) else task_names,
            self.tasks,
        )

        def build() -> keras.Model:
            states = {name: self.tasks[name] for name in chosen}
            layer = None
            if include_preprocessing:
                layer = preprocessing_layer.shared(
                    {
                        name: preprocessing.task_input(
                            state.published.hparams, state.data
                        )
                        for name, state in states.items()
                    }
                )
            model = path_model.path_model(
                {name: state.published for name, state in states.items()},
                self._dir.objects.get,
                single=one,
                preprocessing=layer,
            )
            class_names = {
                name: serving_functions.labels(
                    state.class_names, state.num_classes
                )
                for name, state in states.items()
            }
            model.class_names = class_names[chosen[0]] if one else class_names
            thresholds = {name: s.thresholds for name, s in states.items()}
            model.thresholds = thresholds[chosen[0]] if one else thresholds
            return model

        return self._current(build)

    def predict(
        self,
        task_name: str | None,
        images_or_paths: Any,
        batch_size: int = inference.BATCH_SIZE,
    ) -> list[inference.Prediction]:
        """Returns the labels of pictures, with scores.

        A file is decoded and resized as training and evaluation do.

        Args:
          task_name: the task; None for the only one.
          images_or_paths: paths of files, folders or patterns; an array
            `[n, height, width, 1 or 3] uint8`; or a list of arrays of any
            sizes.
          batch_size: how many pictures the model answers at once.

        Returns:
          One prediction per picture, in order. That of a file that cannot be
          read has no label and says why.

        Raises:
          UsageError: the system has no such task, or several and none is
            named, or an array is of another kind.

        Example:
          >>> pictures = np.zeros([2, 8, 8, 1], np.uint8)
          >>> answers = system.predict("digits", pictures)
          >>> answers[0].scores[answers[0].label] == answers[0].score
          True
          >>> system.predict("digits", "absent.jpg")[0].reason
          'cannot be read: No such file or directory'
        """

        def load() -> inference.Classifier:
            states = self.tasks
            name = validation.only_task(task_name, states)
            key = states[name].published.id
            # Making one takes seconds.
            if self._classifier is None or self._classifier[0] != key:
                self._classifier = (
                    key,
                    inference.classifier(
                        name, states[name], self._dir.objects.get
                    ),
                )
            return self._classifier[1]

        return inference.predict(
            self._current(load), images_or_paths, batch_size
        )

    @overload
    def features(
        self, task_name: str, component: str | None = None
    ) -> keras.Model: ...

    @overload
    def features(
        self,
        task_name: str,
        component: str | None = None,
        *,
        images_or_paths: Any,
        batch_size: int = inference.BATCH_SIZE,
    ) -> list[inference.PictureFeatures]: ...

    def features(
        self,
        task_name: str,
        component: str | None = None,
        *,
        images_or_paths: Any = None,
        batch_size: int = inference.BATCH_SIZE,
    ) -> keras.Model | list[inference.PictureFeatures]:
        """Returns what a task's path computes below its head.

        Args:
          task_name: the task.
          component: the place whose whole output is wanted, e.g.
            `encoderblock_0`; None for what the head reads.
          images_or_paths: pictures, as `predict` takes them; None for a
            model.
          batch_size: how many pictures are computed at once.

        Returns:
          The features of each picture, in order. Without pictures a model
          from `[batch, size, size, 3] float32` images in [-1, 1] to `[batch,
          width] float32`, or to the component's output, of a ViT `[batch,
          tokens, width]`. It is a copy, as of `model`.

        Raises:
          UsageError: the system has no such task, or its path no such
            component; or as of `predict`.

        Example:
          >>> raw = np.zeros([2, 8, 8, 1], np.uint8)
          >>> pictures = system.features("digits", images_or_paths=raw)
          >>> np.stack([p.values for p in pictures]).shape
          (2, 64)
        """
        (name,) = validation.published_names([task_name], self.tasks)
        get = self._dir.objects.get
        if images_or_paths is None:
            from keras_munet.models import path_model

            return self._current(
                lambda: path_model.feature_model(
                    self.tasks[name].published, get, component
                )
            )
        function = self._current(
            lambda: inference.feature_extractor(
                name, self.tasks[name], get, component
            )
        )
        return inference.features(function, images_or_paths, batch_size)

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
          DataError: the prepared images of a task are at hand and are not
            those that it was trained on.
          StoreError: `out` cannot be written.
        """
        from keras_munet.export import options as options_lib
        from keras_munet.export import saved_model

        files_lib.require_local(out, "an export")
        export_options = options_lib.Options.of(options)

        def write() -> str:
            states = self.tasks
            population = self.population()
            served = {
                name: states[name]
                for name in validation.published_names(task_names, states)
            }
            task_data.refuse_other_prepared(served, self.settings.data)
            lineages = population.lineages(
                {name: s.published for name, s in served.items()}
            )
            return saved_model.export(
                out,
                served,
                self._dir.objects.get,
                export_options,
                lineages,
                roots_build.described(self._dir.root_source),
                task_data.originals(served, self.settings.data),
            )

        return self._current(write)

    def push(self, url: str, **options: Any) -> str:
        """Uploads what is published to the Hugging Face Hub.

        Args:
          url: `hf://OWNER/NAME`, with `@BRANCH` behind it for a branch.
          **options: those of `hugging_face_hub.push`, e.g.
            `license_id="apache-2.0"`.

        Returns:
          The URL of the commit.

        Raises:
          UsageError: `url` or an option is none, or nothing is published.
          StoreError: the Hub refuses or does not answer.
        """
        from keras_munet.system import hugging_face_hub

        return hugging_face_hub.push(self._dir, url, **options)

    @classmethod
    def pull(cls: type[_Self], url: str, workdir: PathLike) -> _Self:
        """Returns a system that `push` uploaded, in a new folder.

        Raises:
          UsageError: `url` is none, or the folder holds something already.
          StoreError: the Hub refuses or does not answer, or what it gave is
            damaged; then nothing was written.
        """
        from keras_munet.system import hugging_face_hub

        return cls(hugging_face_hub.pull(url, workdir))

    def _current(self, read: Callable[..., _Read]) -> _Read:
        """Returns what `read` makes of the published state.

        Another job may publish or remove a task meanwhile, and with it what
        only the state before needed; then `read` is retried.

        Raises:
          StoreError: a file is missing though nothing was published.
        """
        while True:
            before = {n: s.published.id for n, s in self.tasks.items()}
            try:
                return read()
            except storage.MissingFileError:
                after = {n: s.published.id for n, s in self.tasks.items()}
                if after == before:
                    raise
