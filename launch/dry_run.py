"""Compiles a config's steps for TPUs, on a machine without any.

    python launch/dry_run.py --config=configs/large.py:vit --topology=v3-32
    python launch/dry_run.py --config=configs/ti0_cmaterdb.py \
        --topology=v4-32 --fullest --json

It reads neither data nor a root's weights: shapes are enough. What it needs
besides is installed by `bash launch/tpu_env.sh DIR tpu-aot`; docs/scaling.md
says what its figures mean and what they prove.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING
from typing import Any

import launching
from absl import flags
from ml_collections import config_flags

from keras_munet import errors
from keras_munet.aot import compiler

if TYPE_CHECKING:
    from keras_munet.aot import dry_run

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/large.py:vit."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "A TPU type, e.g. v3-8, v4-32 or v5e-64.", required=True
)
_PLACEMENT = flags.DEFINE_enum(
    "placement",
    "auto",
    ["auto", "fused", "sliced"],
    "All children on all cores, or the cores cut in slices.",
)
_FULLEST = flags.DEFINE_bool(
    "fullest",
    False,
    "Children that train all the search can give them: its worst case.",
)
_WHOLE = flags.DEFINE_bool(
    "whole_batches",
    False,
    "Compute a batch at once, where a job would divide it to save memory.",
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
flags.mark_flag_as_required("config")

_GIB = 2**30


def main() -> None:
    """Compiles, prints, and fails where something does not fit."""
    settings = launching.settings_from(_CONFIG)
    compiler.check_installed()
    # TensorFlow would look for a TPU.
    os.environ["TPU_LOAD_LIBRARY"] = "0"
    launching.quiet_tensorflow()
    from keras_munet.aot import dry_run

    report = dry_run.compile_steps(
        settings,
        _TOPOLOGY.value,
        placement_name=_PLACEMENT.value,
        fullest=_FULLEST.value,
        whole_batches=_WHOLE.value,
        on_report=lambda report: _say(_news(report)),
    )
    proposal = None
    if not report.fits:
        proposal = dry_run.way_out(
            settings,
            report,
            fullest=_FULLEST.value,
            whole_batches=_WHOLE.value,
            on_try=lambda what: _say(f"compiling with {what}"),
        )
    if _JSON.value:
        print(json.dumps(_as_json(report, proposal)))
    if not report.fits:
        raise errors.UsageError(_misfit(report, proposal))


def _say(text: str) -> None:
    if not _JSON.value:
        print(text, flush=True)


def _news(report: dry_run.DryRunReport) -> str:
    """Returns what a report that grows has new."""
    if report.steps:
        return _step_lines(report.steps[-1])
    return (
        f"{report.topology}: {report.placement}, {report.num_slices} "
        f"slice(s) of {report.num_replicas} core(s), {report.num_children} "
        f"child(ren) on each, batch {report.batch_size} in "
        f"{report.num_parts} part(s)"
    )


def _step_lines(step: dry_run.StepReport) -> str:
    figures, bound = step.figures, step.bound
    used = f"{_share(figures)} of a core"
    if not figures.fits:
        return f"{step.name}: does not fit: {used}"
    collectives = ", ".join(
        f"{count} {collective}"
        for collective, (count, _) in figures.collectives.items()
    )
    return (
        f"{step.name}: peak memory {used}\n"
        f"  {figures.flops / 1e9:,.1f} GFLOP and "
        f"{figures.accessed_bytes / 1e9:,.1f} GB moved per core\n"
        f"  collectives: {collectives or 'none'}; "
        f"{step.reduced_bytes / 1e6:,.1f} MB summed over the cores\n"
        f"  at least {bound.secs * 1e3:,.2f} ms, bound by {bound.resource} "
        f"(compute {bound.compute_secs * 1e3:,.2f}, memory "
        f"{bound.memory_secs * 1e3:,.2f}, links "
        f"{bound.links_secs * 1e3:,.2f})\n"
        f"  traced and lowered in {step.lower_secs:.1f} s, compiled in "
        f"{figures.compile_secs:.1f} s; {step.num_host_ops} operations on "
        "the host"
    )


def _misfit(
    report: dry_run.DryRunReport,
    proposal: tuple[str, dry_run.DryRunReport] | None,
) -> str:
    step = next(step for step in report.steps if not step.figures.fits)
    problem = (
        f"step {step.name} takes {_share(step.figures)} of a core of "
        f"{report.topology}"
    )
    if proposal is None:
        return f"{problem}; nothing that was tried fits: use a smaller root"
    what, other = proposal
    return (
        f"{problem}; {what} was compiled and takes "
        f"{_share(other.steps[0].figures)}"
    )


def _share(figures: compiler.Figures) -> str:
    used, limit = figures.peak_bytes / _GIB, figures.limit_bytes / _GIB
    return f"{used:.3g} of {limit:.4g} GiB"


def _as_json(
    report: dry_run.DryRunReport,
    proposal: tuple[str, dry_run.DryRunReport] | None,
) -> dict[str, Any]:
    value = {"fits": report.fits, **dataclasses.asdict(report)}
    if proposal is not None:
        what, other = proposal
        value["way_out"] = {"change": what, **dataclasses.asdict(other)}
    return value


if __name__ == "__main__":
    launching.run(main)
