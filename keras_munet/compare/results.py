"""Reads the results of a finished run from its system.

Invariant: every figure follows from the records and the events, so that a
run that was interrupted reports what it would have without. Only the time is
the machine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet.core import child_record
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import flops
from keras_munet.report import comparison_records
from keras_munet.report import events
from keras_munet.report import summary as summary_lib
from keras_munet.store import system_dir
from keras_munet.system import system as system_lib
from keras_munet.train import child_job
from keras_munet.train import closed_form


def read_results(
    directory: str,
    method: str,
    seed: int,
    num_train_examples: Mapping[str, int],
) -> comparison_records.Run | None:
    """Returns the record of a run, or None if it is not finished.

    Args:
      directory: the run's directory.
      method: its method's name.
      seed: its root seed.
      num_train_examples: task -> examples of its train split, for the tasks
        of the experiment in their order.

    Raises:
      StoreError: the system is damaged.
    """
    if not system_dir.SystemDir.is_system(directory):
        return None
    opened = system_lib.System.open(directory)
    states = opened.tasks
    num_rounds = opened.settings.num_task_iters
    if any(
        name not in states or states[name].num_iterations_done < num_rounds
        for name in num_train_examples
    ):
        return None
    summary = summary_lib.read_summary(directory)
    tasks = {task.name: task for task in summary.tasks}
    return comparison_records.Run(
        method=method,
        seed=seed,
        tasks=tuple(
            _result(opened, tasks[name], summary.history, num_examples)
            for name, num_examples in num_train_examples.items()
        ),
    )


def _result(
    opened: system_lib.System,
    task: summary_lib.TaskSummary,
    history: events.History,
    num_examples: int,
) -> comparison_records.TaskResult:
    path = opened.tasks[task.name].published
    generations = [g for g in history.generations if g.task == task.name]
    num_planned = (
        opened.settings.num_generations * opened.settings.num_task_iters
    )
    is_complete = len(generations) == num_planned
    # What the components of other families cost is not known.
    counted = isinstance(opened.family, vit_architecture.VitFamily)
    return comparison_records.TaskResult(
        task=task.name,
        test=path.metrics["test_quality"],
        validation=path.metrics["quality"],
        num_params=task.num_params,
        accounted_params=task.accounted_params,
        num_layers=task.num_layers,
        image_multiply_adds=(
            _image_multiply_adds(opened, task, path) if counted else None
        ),
        train_multiply_adds=(
            _train_multiply_adds(opened, task, generations, num_examples)
            if counted and is_complete
            else None
        ),
        train_secs=sum(g.secs for g in generations) if is_complete else None,
        cpu_secs=_cpu_secs(generations) if is_complete else None,
    )


def _cpu_secs(generations: Sequence[events.Generation]) -> float | None:
    """Returns the CPU time of generations; None where one does not tell."""
    secs = [generation.cpu_secs for generation in generations]
    return sum(s for s in secs if s is not None) if None not in secs else None


def _image_multiply_adds(
    opened: system_lib.System,
    task: summary_lib.TaskSummary,
    path: specs.PathRecord,
) -> int:
    adapters = _adapters(ref.name for ref in path.components)
    layout = opened.family.layout(path.hparams, task.num_classes, adapters)
    return sum(flops.forward_costs(layout).values())


def _train_multiply_adds(
    opened: system_lib.System,
    task: summary_lib.TaskSummary,
    generations: Sequence[events.Generation],
    num_train_examples: int,
) -> int | None:
    """Returns the multiply-adds of every child, as if trained alone.

    None where an event does not tell what a child is made of.
    """
    settings = opened.settings
    budget = child_job.Budget.from_settings(settings)
    num_examples = (
        budget.num_cycles
        * budget.num_steps_per_cycle(num_train_examples)
        * budget.batch_size
    )
    total = 0
    for generation in generations:
        for child in generation.children:
            parts, hparams = events.parts(child), child.get("hparams")
            if parts is None or not isinstance(hparams, Mapping):
                return None
            layout = opened.family.layout(
                hparams, task.num_classes, _adapters(parts)
            )
            trained = frozenset(
                name for name, trains in parts.items() if trains
            )
            num_seen = num_examples
            record = child[child_record.KEY]
            if record is not None and record.is_solved:
                num_seen = min(num_train_examples, closed_form.NUM_EXAMPLES_MAX)
            total += num_seen * flops.training_cost(layout, trained)
    return total


def _adapters(places: Iterable[str]) -> frozenset[int]:
    """Returns the layers that have an adapter among `places`."""
    prefix = vit_architecture.ADAPTER_PREFIX
    return frozenset(
        int(name.removeprefix(prefix))
        for name in places
        if name.startswith(prefix)
    )
