"""Runs one experiment by several methods under several seeds.

Invariant: each (method, seed) is a system of its own in
`<method>/seed_<seed>`; what is reported is read from these systems, so that
stopping and starting again changes no figure.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet import compare as compare_report
from keras_munet import errors
from keras_munet.callbacks import progress as progress_lib
from keras_munet.compare import methods as methods_lib
from keras_munet.compare import results
from keras_munet.core import devices
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import names
from keras_munet.core import settings as settings_lib
from keras_munet.report import comparison_records
from keras_munet.store import files as files_lib
from keras_munet.store import system_dir
from keras_munet.system import system as system_lib
from keras_munet.system import validation

NOT_STARTED = "not begun before the deadline"
NOT_FINISHED = "begun but not finished before the deadline"
NOT_YET = "not yet run"
FAILED = "failed"
_NUM_BYTES_MAX = 1 << 28

_Key = tuple[str, int]


class Comparison:
    """The runs of one experiment below a directory."""

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        settings: settings_lib.Settings,
        methods: Sequence[methods_lib.Method],
        seeds: Sequence[int],
    ):
        """Looks at what is there; nothing is written.

        Args:
          workdir: holds a folder per method.
          settings: the experiment; each run overrides seed and method.
          methods: what to compare.
          seeds: the root seeds that each method runs under.

        Raises:
          UsageError: a seed is named twice, no task is named, the directory
            is a system itself, or a run in it is of another experiment.
          DataError: a task's data are missing or damaged.
          StoreError: a run is damaged.
        """
        files_lib.require_local(workdir, "a comparison")
        methods_lib.refuse_repeated("seed", list(seeds))
        if not settings.task_names:
            raise errors.UsageError(
                "config key task_names is empty; name the tasks to compare on"
            )
        if system_dir.SystemDir.is_system(workdir):
            raise errors.UsageError(
                f"{os.fspath(workdir)} holds a system itself; choose another "
                "folder for the comparison"
            )
        self._workdir = os.fspath(workdir)
        self._settings = settings
        self._methods = {method.name: method for method in methods}
        self._seeds = tuple(seeds)
        # Seed by seed, so that what is there at any time is balanced.
        self._keys = [(m, seed) for seed in seeds for m in self._methods]
        for key in self._keys:
            if system_dir.SystemDir.is_system(self._directory(key)):
                directory = system_dir.SystemDir.open(self._directory(key))
                directory.compare_experiment(self._run_settings(key).to_json())
        self._task_names = tuple(map(names.bare_name, settings.task_names))
        self._num_train_examples = self._count_examples()

    def run(
        self,
        *,
        strategy: str | devices.Devices = "auto",
        deadline_secs: float = math.inf,
        quiet: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> comparison_records.Comparison:
        """Runs what is left, one run after another, and reports after each.

        Args:
          strategy: which devices train; see `train.strategy.make`.
          deadline_secs: no run is begun or continued after so many seconds.
          quiet: print nothing.
          stop: asked after each generation; True raises KeyboardInterrupt.

        Returns:
          What is there at the end. A run of which no child could be trained
          is missing with that reason; the others go on.

        Raises:
          UsageError: another job works in one of the systems.
          DataError: a task's data are missing or damaged.
          StoreError: a directory cannot be read or written.
        """
        started = time.monotonic()
        reporter = progress_lib.Progress(quiet=quiet)
        runs = {key: self._read(key) for key in self._keys}
        missing_runs = {key: NOT_YET for key in self._keys if runs[key] is None}
        for number, key in enumerate(self._keys, 1):
            label = f"run {number}/{len(self._keys)}, {key[0]} seed {key[1]}"
            if runs[key] is not None:
                reporter.line(f"{label}: finished before")
            elif time.monotonic() - started >= deadline_secs:
                missing_runs[key] = self._late(key)
            else:
                reporter.line(f"{label}: {self._directory(key)}")
                try:
                    self._evolve(key, strategy, quiet, stop)
                except errors.ChildError as error:
                    missing_runs[key] = f"{FAILED} ({error})"
                    reporter.line(f"{label}: {missing_runs[key]}")
                else:
                    runs[key] = self._read(key)
                    del missing_runs[key]
                self._write(runs, missing_runs)
        return self._write(runs, missing_runs)

    def _evolve(
        self,
        key: _Key,
        strategy: str | devices.Devices,
        quiet: bool,
        stop: Callable[[], bool] | None,
    ) -> None:
        directory = self._directory(key)
        opened = system_lib.System.create_or_open(
            directory, self._run_settings(key)
        )
        opened.run(
            strategy=strategy,
            progress=progress_lib.Progress(directory, quiet=quiet, stop=stop),
        )
        # Graphs and data of a run hold memory in cycles of references.
        del opened
        gc.collect()

    def _read(self, key: _Key) -> comparison_records.Run | None:
        return results.read_results(
            self._directory(key), *key, self._num_train_examples
        )

    def _count_examples(self) -> dict[str, int]:
        """Returns task -> examples of its train split.

        What an earlier call counted is read back, so that showing finished
        runs needs no data.
        """
        try:
            path = os.path.join(self._workdir, compare_report.JSON_FILE)
            data = guarded_file.read_file(path, _NUM_BYTES_MAX)
            counted = dict(guarded_json.loads(data)["num_train_examples"])
        except (
            *(OSError, errors.StoreError),
            *(ValueError, KeyError, TypeError),
        ):
            # It is a report, and may be deleted at any time.
            counted = {}
        return {
            name: counted[name]
            if isinstance(counted.get(name), int)
            else self._count(name)
            for name in self._task_names
        }

    def _count(self, name: str) -> int:
        loaded = validation.load_tasks([name], self._settings)
        return len(loaded[name].train.labels)

    def _late(self, key: _Key) -> str:
        begun = system_dir.SystemDir.is_system(self._directory(key))
        return NOT_FINISHED if begun else NOT_STARTED

    def _run_settings(self, key: _Key) -> settings_lib.Settings:
        return self._methods[key[0]].settings(self._settings, key[1])

    def _directory(self, key: _Key) -> str:
        return os.path.join(self._workdir, self._methods[key[0]].folder(key[1]))

    def _write(
        self,
        runs: Mapping[_Key, comparison_records.Run | None],
        missing_runs: Mapping[_Key, str],
    ) -> comparison_records.Comparison:
        """Writes the report of what is there, and returns it."""
        record = comparison_records.Comparison(
            name=os.path.basename(os.path.abspath(self._workdir)),
            methods=tuple(self._methods),
            seeds=self._seeds,
            task_names=self._task_names,
            settings=self._settings.to_json(),
            num_train_examples=self._num_train_examples,
            runs=tuple(run for run in runs.values() if run is not None),
            missing_runs=dict(missing_runs),
        )
        compare_report.write(record, self._workdir)
        return record
