"""Children on disjoint parts of the devices, each part trained by itself.

Invariant: a slice does what one device would do with its children, since the
examples and draws of a step follow from the generation and not from the
slice; so what a child becomes does not depend on where it was trained.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np

from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import frozen_features
from keras_munet.train import grappler
from keras_munet.train import timing
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import placement
from keras_munet.train.devices import workers as workers_lib


class SlicedTrainer:
    """Trains each generation on all slices at one time."""

    def __init__(
        self,
        slices: Sequence[trainer_lib.Trainer],
        whole: Callable[[], trainer_lib.Trainer],
    ):
        """Takes the trainers of the slices over.

        Args:
          slices: one trainer for each.
          whole: returns that of all devices together, for evaluation.
        """
        self._slices = list(slices)
        self._make_whole = whole
        self._whole: trainer_lib.Trainer | None = None
        self.clock = timing.Clock()
        self.workers = workers_lib.ALONE

    def stop_when(self, stop: Callable[[], bool]) -> None:
        """Has training end with StoppedError, once `stop` says so.

        Args:
          stop: called before each generation and after each cycle.
        """
        for trainer in self._slices:
            trainer.stop_when(stop)

    def train(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
        *,
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    ) -> list[child_job.TrainedChild]:
        """Trains children; see `trainer.Trainer.train`.

        Args:
          children: at least one; some slices may have none.
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters that they share.
          event: names the generation; its seeds derive from it.
          accept_ties: whether an equal score makes a new snapshot.
          on_cycle: called for each slice, of one at a time.

        Raises:
          UsageError: a child does not fit with one example at a time.
          StoppedError: `stop_when` said so.
        """
        groups = placement.assign_children(len(children), len(self._slices))

        telling = threading.Lock()

        def tell(cycle: int, scores: np.ndarray, losses: np.ndarray) -> None:
            if on_cycle is not None:
                with telling:
                    on_cycle(cycle, scores, losses)

        def train(number: int) -> list[child_job.TrainedChild]:
            return self._slices[number].train(
                [children[i] for i in groups[number]],
                data,
                data_hparams,
                event,
                accept_ties=accept_ties,
                on_cycle=tell,
            )

        busy = [number for number, group in enumerate(groups) if group]
        with (
            grappler.disable_grappler(),
            futures.ThreadPoolExecutor(len(busy)) as pool,
        ):
            results = [
                child for trained in pool.map(train, busy) for child in trained
            ]
        self._read_clocks(self._slices)
        return results

    def evaluate(
        self,
        components: Sequence[child_job.JobComponent],
        data: types.TaskData,
        split: str,
        image_size: int,
        antialias: bool = False,
    ) -> float:
        """Returns the accuracy of one path; see `trainer.Trainer.evaluate`."""
        with self._on_all_devices() as whole:
            return whole.evaluate(
                components, data, split, image_size, antialias
            )

    def solve(
        self,
        paths: Sequence[frozen_features.FrozenPath],
        data: types.TaskData,
        *,
        logistic: bool = False,
    ) -> list[closed_form.LinearHead]:
        """Returns heads on frozen features; see `trainer.Trainer.solve`."""
        with self._on_all_devices() as whole:
            return whole.solve(paths, data, logistic=logistic)

    def logits(
        self,
        path: frozen_features.FrozenPath,
        data: types.TaskData,
        split: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits and labels; see `trainer.Trainer.logits`."""
        with self._on_all_devices() as whole:
            return whole.logits(path, data, split)

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        for trainer in [*self._slices, *([self._whole] if self._whole else [])]:
            trainer.forget_task(task)

    @contextlib.contextmanager
    def _on_all_devices(self) -> Iterator[trainer_lib.Trainer]:
        """Gives the trainer of all devices; its seconds are counted here."""
        if self._whole is None:
            self._whole = self._make_whole()
        yield self._whole
        self._read_clocks([self._whole])

    def _read_clocks(self, trainers: Sequence[trainer_lib.Trainer]) -> None:
        # Slices run side by side: a job waited for the longest, and what it
        # did is what the time went into.
        longest = max(trainers, key=lambda t: sum(t.clock.values()))
        for key, secs in longest.clock.items():
            self.clock[key] += secs
        for trainer in trainers:
            trainer.clock.clear()
