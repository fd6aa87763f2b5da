"""A config's program compiled for a TPU slice that is not there.

Invariant: what is compiled is what a job of the config runs, with values
missing. A program that is said to fit was compiled, and so was every way out
that is named.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from keras_munet import errors
from keras_munet.aot import bounds
from keras_munet.aot import compiler
from keras_munet.aot import job_time
from keras_munet.aot import lowering
from keras_munet.aot import programs
from keras_munet.aot import proposals
from keras_munet.aot import tracing
from keras_munet.core import presets
from keras_munet.core import settings as settings_lib
from keras_munet.train.devices import topology as topology_lib
from keras_munet.train.program import bucket as bucket_lib

PROGRAM = "program"
# Of the bound that a step is assumed to reach.
EFFICIENCY = 0.4


@dataclasses.dataclass(frozen=True)
class CompiledReport:
    """One function as the compiler sees it.

    Attributes:
      name: `program`, or that of `programs.block_programs`.
      figures: the compiler's, of one core; a loop counts once.
      bound: the least time of that by published peaks.
      variable_bytes: what a core holds between calls.
      reduced_bytes: what it puts in sums over the cores of its group.
      lower_secs: of tracing and lowering on this machine.
    """

    name: str
    figures: compiler.Figures
    bound: bounds.Bound
    variable_bytes: int
    reduced_bytes: int
    lower_secs: float


@dataclasses.dataclass(frozen=True)
class DryRunReport:
    """The result of a dry run.

    Attributes:
      topology: the TPU type.
      num_replicas: its cores.
      num_at_a_time: children that are trained at one time.
      cores_per_child: that share each child's batches.
      batch_size: examples per step of a child.
      num_programs: that a job compiles for tasks whose stored images have the
        root's size.
      program: the shapes that it is compiled for.
      compiled: the program, then what its loops do once for each block.
      job_secs: what the devices compute at `EFFICIENCY` of the bound, for the
        fullest children; None until all was compiled.
    """

    topology: str
    num_replicas: int
    num_at_a_time: int
    cores_per_child: int
    batch_size: int
    num_programs: int
    program: dict[str, int]
    compiled: tuple[CompiledReport, ...]
    job_secs: float | None = None

    @property
    def fits(self) -> bool:
        """Returns whether everything was compiled."""
        return all(part.figures.fits for part in self.compiled)

    @property
    def step_secs(self) -> float:
        """Returns the least time of the fullest child's training step.

        The program has one of each block's passes and the rest of a step, and
        besides a validation batch, so that this lies above the bound.
        """
        secs = self._secs()
        more = max(self.program["depth"] - 2, 0)
        return secs[PROGRAM] + more * (
            secs.get(programs.FORWARD, 0.0) + secs.get(programs.BACKWARD, 0.0)
        )

    @property
    def validation_secs(self) -> float:
        """Returns the least time of the deepest child's validation batch."""
        return self.program["depth"] * self._secs().get(programs.SCORED, 0.0)

    @property
    def compile_share(self) -> float | None:
        """Returns the share of a job's time that compiling takes."""
        if self.job_secs is None:
            return None
        secs = self.num_programs * self.compiled[0].figures.compile_secs
        return secs / (secs + self.job_secs)

    def _secs(self) -> dict[str, float]:
        return {part.name: part.bound.secs for part in self.compiled}


def compile_program(
    settings: settings_lib.Settings,
    topology_name: str,
    *,
    blocks: bool = True,
    on_report: Callable[[DryRunReport], None] = lambda report: None,
) -> DryRunReport:
    """Returns the compiler's word on a config's program.

    Args:
      settings: the experiment.
      topology_name: a TPU type, e.g. `v3-32`.
      blocks: whether to compile what its loops do once as well, which the
        time of a step follows from.
      on_report: gets the report before anything is compiled, and after each.

    Raises:
      UsageError: there is no such type, or the program has an operation that
        no TPU can run.
    """
    topology = topology_lib.named_topology(topology_name)
    num_replicas = len(topology.cores)
    bucket = tracing.bucket_of(settings, num_replicas)
    products = tracing.products_of(settings)
    report = DryRunReport(
        topology=topology.name,
        num_replicas=num_replicas,
        num_at_a_time=num_replicas // bucket.group * bucket.children,
        cores_per_child=bucket.group,
        batch_size=settings.batch_size,
        num_programs=tracing.num_programs(settings, bucket),
        program=_sizes(bucket),
        compiled=(),
    )
    on_report(report)
    where = compiler.Slice(topology.name, tuple(topology.cores))
    parts = {PROGRAM: programs.child_program(bucket, products, num_replicas)}
    if blocks and bucket.block is not None:
        parts.update(programs.block_programs(bucket, products))
    for name, program in parts.items():
        part = _compiled(name, program, where)
        report = dataclasses.replace(report, compiled=(*report.compiled, part))
        on_report(report)
        if not part.figures.fits:
            return report
    if blocks:
        secs = job_time.job_secs(
            presets.resolve_preset(settings, {}),
            report.num_at_a_time,
            report.step_secs,
            report.validation_secs,
        )
        report = dataclasses.replace(report, job_secs=secs / EFFICIENCY)
        on_report(report)
    return report


def way_out(
    settings: settings_lib.Settings,
    report: DryRunReport,
    *,
    on_try: Callable[[str], None] = lambda what: None,
) -> tuple[str, DryRunReport] | None:
    """Returns a setting or slice with which a program fits that did not.

    A smaller batch is looked for first, then cores with more memory; what is
    returned was compiled.

    Args:
      settings: the experiment.
      report: of `compile_program`, which does not fit.
      on_try: gets what is compiled.

    Returns:
      What to change, and its report; None where nothing was found.
    """
    failed = next(part for part in report.compiled if not part.figures.fits)

    def tried(what: str, changed: settings_lib.Settings, name: str):
        on_try(what)
        dry_run = compile_program(changed, name, blocks=False)
        return (what, dry_run) if dry_run.fits else None

    for batch_size in proposals.smaller_batches(
        report.batch_size,
        report.cores_per_child,
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
            # No such size of that type.
            continue
        if proposal:
            return proposal
    return None


def _sizes(bucket: bucket_lib.Bucket) -> dict[str, int]:
    """Returns the sizes that a program is compiled for, by name."""
    adapter = bucket.adapter
    return {
        "depth": bucket.depth,
        "image_size": bucket.image_size,
        "side": bucket.side,
        "batch_size": bucket.batch_size,
        "num_classes": bucket.num_classes,
        "adapter_dim": (
            int(adapter.spec.config.get("hidden_dim", 0)) if adapter else 0
        ),
        "pool": bucket.pool,
        "steps": bucket.steps,
        "batches": bucket.batches,
    }


def _compiled(
    name: str, program: programs.Program, where: compiler.Slice
) -> CompiledReport:
    started = time.perf_counter()
    try:
        hlo = lowering.lower_program(program)
    except errors.UsageError as e:
        raise errors.UsageError(f"{name}: {e}") from e
    lower_secs = time.perf_counter() - started
    figures = compiler.compile_module(hlo, program.aliases, where)
    return CompiledReport(
        name=name,
        figures=figures,
        bound=bounds.program_bound(figures, program.reduced_bytes, where),
        variable_bytes=program.variable_bytes,
        reduced_bytes=program.reduced_bytes,
        lower_secs=lower_secs,
    )
