"""A whole training, resumable: steps, checkpoints, an end.

Invariant: interrupted at any moment and run again, it ends with the same
values as without the interruption; values that are not finite are never kept.
Of several workers the chief alone writes, and what ends it ends all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.overparam import checkpoints
from keras_munet.overparam import training
from keras_munet.store import files as files_lib
from keras_munet.train.devices import workers

Batch = tuple[Any, Mapping[str, Any]]


def train(
    trainer: training.Trainer,
    batch_of: Callable[[int], Batch],
    num_steps: int,
    *,
    place: files_lib.Location | None = None,
    save_every: int = 0,
    settings: Mapping[str, Any] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Trains up to a number of steps, from a checkpoint if there is one.

    Interrupted at any moment and run again, it ends with the same values as
    without the interruption.

    Args:
      trainer: new, or as an earlier call has left it.
      batch_of: returns (images, labels by task) of a step, the same for the
        same step at every call.
      num_steps: of the whole training, those of earlier calls included.
      place: where the checkpoint is kept; None for no checkpoint.
      save_every: steps between checkpoints; 0 for one at the end.
      settings: plain values that must be equal when training is resumed.
      on_step: gets (step, losses by task) after each step.

    Raises:
      UsageError: `place` holds the checkpoint of another training, another
        job trains there, or the workers of this one see different places.
      DataError: a loss is not finite.
    """
    job = workers.strategy_workers(trainer.strategy)
    with contextlib.ExitStack() as stack:
        keeper = None
        if place is not None:
            keeper = checkpoints.Keeper(place, settings)
            _begin(trainer, keeper, job, stack)
        while trainer.num_steps_done < num_steps:
            step = trainer.num_steps_done
            losses = {
                task: float(loss)
                for task, loss in trainer.step(*batch_of(step)).items()
            }
            _check_finite(step, losses)
            num_done = trainer.num_steps_done
            is_due = save_every and num_done % save_every == 0
            if keeper is not None and (is_due or num_done == num_steps):
                _save(trainer, keeper, job)
            if on_step is not None:
                on_step(step, losses)


def _begin(
    trainer: training.Trainer,
    keeper: checkpoints.Keeper,
    job: workers.Workers,
    stack: contextlib.ExitStack,
) -> None:
    """Takes the place for this job and what is kept there."""

    def restore() -> int:
        return keeper.restore(trainer.state_variables(), trainer.num_steps_done)

    def lead() -> int:
        # One lock for the job: the others would wait for it for ever.
        stack.enter_context(keeper)
        return restore()

    num_done = job.from_chief(lead, restore)
    if job.all_reduce_any(num_done != job.broadcast(num_done)):
        raise errors.UsageError(
            f"the workers of this job do not see one training in "
            f"{keeper.where}; give all of them one shared folder"
        )
    trainer.num_steps_done = num_done


def _save(
    trainer: training.Trainer, keeper: checkpoints.Keeper, job: workers.Workers
) -> None:
    num_done = trainer.num_steps_done
    job.from_chief(
        lambda: keeper.save(trainer.state_variables(), num_done), lambda: None
    )


def _check_finite(step: int, losses: Mapping[str, float]) -> None:
    bad = [task for task, loss in losses.items() if not np.isfinite(loss)]
    if bad:
        raise errors.DataError(
            f"the loss of task {bad[0]!r} is {losses[bad[0]]} at step {step}; "
            "look at its labels, or use a smaller learning rate"
        )
