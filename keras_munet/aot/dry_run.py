"""A config's steps compiled for a TPU slice that is not there.

Invariant: what is compiled is what a job of the config runs: its own functions
under the real TPUStrategy, with values missing. A step that is said to fit was
compiled, and so was every way out that is named.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.aot import bounds
from keras_munet.aot import compiler
from keras_munet.aot import lowering
from keras_munet.aot import programs
from keras_munet.aot import proposals
from keras_munet.aot import tracing
from keras_munet.core import settings as settings_lib
from keras_munet.train import child_job
from keras_munet.train import memory
from keras_munet.train.devices import fake_tpu
from keras_munet.train.devices import placement
from keras_munet.train.devices import topology as topology_lib

TRAIN = "train"
EVALUATE = "evaluate"


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One step of a generation as the compiler sees it.

    Attributes:
      name: `train` or `evaluate`.
      figures: the compiler's, of one core.
      bound: the least time of the step by published peaks.
      reduced_bytes: what a core puts in sums over all cores.
      variable_bytes: what its variables take of the memory.
      changed_bytes: what those of them take that it changes: of a training
        step, what a snapshot of its children has.
      num_host_ops: operations around it that the host runs, once per step.
      lower_secs: of tracing and lowering on this machine.
    """

    name: str
    figures: compiler.Figures
    bound: bounds.Bound
    reduced_bytes: int
    variable_bytes: int
    changed_bytes: int
    num_host_ops: int
    lower_secs: float


@dataclasses.dataclass(frozen=True)
class DryRunReport:
    """The result of a dry run on the fullest slice of a placement.

    Attributes:
      topology: the TPU type.
      placement: `fused` or `sliced`.
      num_slices: into how many slices the cores are cut.
      num_replicas: cores of each slice.
      num_children: trained together on the slice, in its largest pass.
      batch_size: examples per step over the cores of the slice.
      num_parts: into how many parts, one after the other, a core divides its
        share of a batch to save memory.
      steps: each step that was compiled.
    """

    topology: str
    placement: str
    num_slices: int
    num_replicas: int
    num_children: int
    batch_size: int
    num_parts: int
    steps: tuple[StepReport, ...]

    @property
    def fits(self) -> bool:
        """Returns whether every step was compiled."""
        return all(step.figures.fits for step in self.steps)


def compile_steps(
    settings: settings_lib.Settings,
    topology_name: str,
    *,
    placement_name: str = placement.AUTO,
    fullest: bool = False,
    whole_batches: bool = False,
    step_names: Sequence[str] = (TRAIN, EVALUATE),
    on_report: Callable[[DryRunReport], None] = lambda report: None,
) -> DryRunReport:
    """Returns the compiler's word on a config's steps.

    Args:
      settings: the experiment.
      topology_name: a TPU type, e.g. `v3-32`.
      placement_name: the placement, see `train.placement.plan`.
      fullest: whether the children train all that the search can ever give
        them, and not what its first generation does.
      whole_batches: whether a batch is computed at once, where a job would
        divide it in parts to save memory.
      step_names: which steps to compile.
      on_report: gets the report before any step, and after each.

    Raises:
      UsageError: there is no such type, a step has an operation that no TPU
        can run, or the batch does not divide.
    """
    topology = topology_lib.named_topology(topology_name)
    worst = tracing.children_of(settings, fullest=True)
    # As a job does, for the fullest children that there can be.
    plan = placement.plan_placement(
        topology, _needs(worst), settings.batch_size, placement_name
    )
    cores = plan.slices[0]
    children = worst if fullest else tracing.children_of(settings)
    groups = placement.assign_children(len(children), len(plan.slices))
    together, num_parts = max(
        (
            _largest_pass(
                [children[i] for i in group],
                settings.batch_size,
                topology,
                len(cores),
            )
            for group in groups
            if group
        ),
        key=lambda chosen: sum(need.bytes_at(1) for need in _needs(chosen[0])),
    )
    num_parts = 1 if whole_batches else num_parts
    steps = tracing.steps_of(
        settings,
        fake_tpu.tpu_strategy(topology, len(cores)),
        children=together,
        num_parts=num_parts,
    )
    functions = {
        TRAIN: (steps.train, steps.train_inputs),
        EVALUATE: (steps.evaluate, steps.evaluate_inputs),
    }
    report = DryRunReport(
        topology=topology.name,
        placement=plan.placement,
        num_slices=len(plan.slices),
        num_replicas=len(cores),
        num_children=len(together),
        batch_size=settings.batch_size,
        num_parts=num_parts,
        steps=(),
    )
    on_report(report)
    for name in step_names:
        step = _compiled(name, *functions[name], _slice(topology, cores))
        report = dataclasses.replace(report, steps=(*report.steps, step))
        on_report(report)
    return report


def way_out(
    settings: settings_lib.Settings,
    report: DryRunReport,
    *,
    fullest: bool = False,
    whole_batches: bool = False,
    on_try: Callable[[str], None] = lambda what: None,
) -> tuple[str, DryRunReport] | None:
    """Returns a setting or slice with which a step fits that did not.

    A smaller batch is looked for first, then cores with more memory; what is
    returned was compiled.

    Args:
      settings: the experiment.
      report: of `compile_steps`, which does not fit.
      fullest: as it was for `compile_steps`.
      whole_batches: likewise.
      on_try: gets what is compiled.

    Returns:
      What to change, and its report; None where nothing was found.
    """
    failed = next(step for step in report.steps if not step.figures.fits)

    def tried(what: str, changed: settings_lib.Settings, name: str):
        on_try(what)
        dry_run = compile_steps(
            changed,
            name,
            placement_name=report.placement,
            fullest=fullest,
            whole_batches=whole_batches,
            step_names=[failed.name],
        )
        return (what, dry_run) if dry_run.fits else None

    for batch_size in proposals.smaller_batches(
        report.batch_size,
        report.num_replicas,
        failed.figures,
        failed.variable_bytes,
    ):
        changed = dataclasses.replace(settings, batch_size=batch_size)
        what = f"--config.batch_size={batch_size}"
        proposal = tried(what, changed, report.topology)
        if proposal:
            return proposal
    for name in proposals.larger_types(report.topology):
        try:
            proposal = tried(f"--topology={name}", settings, name)
        except errors.UsageError:
            # No such size of that type, or the batch does not divide there.
            continue
        if proposal:
            return proposal
    return None


def _slice(
    topology: topology_lib.Topology,
    cores: Sequence[topology_lib.Coordinates],
) -> compiler.Slice:
    return compiler.Slice(topology.name, tuple(cores))


def _needs(children: Sequence[child_job.ChildJob]) -> list[memory.MemoryNeed]:
    return [
        memory.child_need(child, int(child.hparams["ds_image_size"]), "TPU")
        for child in children
    ]


def _largest_pass(
    children: Sequence[child_job.ChildJob],
    batch_size: int,
    topology: topology_lib.Topology,
    num_replicas: int,
) -> tuple[list[child_job.ChildJob], int]:
    """Returns the children that a trainer has most of at once, and the parts.

    As `Trainer.passes` divides them.
    """
    needs = _needs(children)
    passes = memory.divide_into_passes(
        needs,
        batch_size,
        # Every type that has a name has a known memory.
        topology.num_bytes_per_core or 0,
        num_replicas,
    )
    largest = max(
        passes.groups,
        key=lambda group: sum(needs[i].bytes_at(1) for i in group),
    )
    return [children[i] for i in largest], passes.num_parts


def _compiled(
    name: str, function: Any, inputs: Sequence[Any], where: compiler.Slice
) -> StepReport:
    started = time.perf_counter()
    traced = function.get_concrete_function(*inputs)
    (program,) = programs.core_programs(traced)
    try:
        hlo = lowering.lower_program(program)
    except errors.UsageError as e:
        raise errors.UsageError(f"step {name}: {e}") from e
    lower_secs = time.perf_counter() - started
    figures = compiler.compile_module(hlo, program.aliases, where)
    return StepReport(
        name=name,
        figures=figures,
        bound=bounds.program_bound(figures, program.reduced_bytes, where),
        reduced_bytes=program.reduced_bytes,
        variable_bytes=program.variable_bytes,
        changed_bytes=program.changed_bytes,
        num_host_ops=sum(program.host_ops.values()),
        lower_secs=lower_secs,
    )
