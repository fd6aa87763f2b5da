"""Counts the steps of a job, from published numbers of examples.

Invariant: nothing is read but the catalogue and the experiment; a task whose
examples are not published counts as one that fills its budget.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from keras_munet.core import names
from keras_munet.core import settings as settings_lib
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources

_PART = re.compile(r"(\w+)(?:\[(\d*)(%?):(\d*)(%?)\])?$")


@dataclasses.dataclass(frozen=True)
class Work:
    """Counts what each child of a task does.

    Attributes:
      train_steps: over all cycles.
      validation_steps: likewise, batches.
    """

    train_steps: int
    validation_steps: int


def num_examples(instruction: str, splits: Mapping[str, int]) -> int:
    """Returns how many examples an instruction such as `train[:98%]` picks."""
    total = 0
    for part in instruction.split("+"):
        match = _PART.match(part)
        assert match, instruction
        split, start, start_percent, end, end_percent = match.groups()
        size = splits[split]

        def position(number: str, percent: str, default: int, size: int) -> int:
            if not number:
                return default
            return size * int(number) // 100 if percent else int(number)

        first = position(start or "", start_percent or "", 0, size)
        last = position(end or "", end_percent or "", size, size)
        total += min(last, size) - first
    return total


def work_of(task: str, settings: settings_lib.Settings) -> Work:
    """Returns the steps of each child of a task.

    Args:
      task: its name in the experiment.
      settings: the experiment, its preset resolved.
    """
    trained = settings.num_train_examples_between_validations_max
    validated = settings.num_validation_examples_max
    published = catalogue.find(names.split_private(task)[0])
    if published is not None:
        splits = catalogue_sources.SOURCES[published.source].num_examples
        other = published.plan.validation_source
        held_out = (
            catalogue_sources.SOURCES[other].num_examples if other else splits
        )
        trained = min(trained, num_examples(published.plan.train, splits))
        validated = min(
            validated, num_examples(published.plan.validation, held_out)
        )
    size = settings.batch_size
    cycles = settings.num_validations_per_path_training
    return Work(cycles * -(-trained // size), cycles * -(-validated // size))


def job_secs(
    settings: settings_lib.Settings,
    num_at_a_time: int,
    step_secs: float,
    validation_secs: float,
) -> float:
    """Returns how long a job's devices compute, without compiling.

    Args:
      settings: the experiment, its preset resolved.
      num_at_a_time: children that are trained at one time.
      step_secs: of a training step.
      validation_secs: of a validation batch.
    """
    waves = -(-settings.children_per_generation // num_at_a_time)
    generations = settings.num_task_iters * settings.num_generations
    works = [work_of(task, settings) for task in settings.task_names]
    return (
        waves
        * generations
        * sum(
            work.train_steps * step_secs
            + work.validation_steps * validation_secs
            for work in works
        )
    )
