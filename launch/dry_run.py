"""Compiles a config's program for TPUs, on a machine without any.

    python launch/dry_run.py --config=configs/large.py:vit --topology=v3-32
    python launch/dry_run.py --config=configs/ti0_cmaterdb.py \
        --topology=v4-32 --json

It reads neither data nor a root's weights: shapes are enough. What it needs
besides is installed by `bash launch/tpu_env.sh DIR tpu-aot`;
docs/measured/scaling.md says what its figures mean and what they prove.
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

    report = dry_run.compile_program(
        settings,
        _TOPOLOGY.value,
        on_report=lambda report: _say(_news(report)),
    )
    proposal = None
    if not report.fits:
        proposal = dry_run.way_out(
            settings,
            report,
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
    if report.compile_share is not None:
        return (
            f"fullest child: at least {report.step_secs * 1e3:,.2f} ms a "
            f"training step, {report.validation_secs * 1e3:,.2f} ms a "
            f"validation batch\njob: {report.num_programs} program(s); at 0.4 "
            f"of the bound {report.job_secs:,.0f} s, of which compiling takes "
            f"another {report.compile_share:.1%}"
        )
    if report.compiled:
        return _lines(report.compiled[-1])
    sizes = ", ".join(f"{key} {size}" for key, size in report.program.items())
    return (
        f"{report.topology}: {report.num_replicas} core(s), "
        f"{report.cores_per_child} for each child, {report.num_at_a_time} "
        f"child(ren) at a time\nprogram for {sizes}"
    )


def _lines(part: dry_run.CompiledReport) -> str:
    figures, bound = part.figures, part.bound
    used = f"{_share(figures)} of a core"
    if not figures.fits:
        return f"{part.name}: does not fit: {used}"
    collectives = ", ".join(
        f"{count} {collective}"
        for collective, (count, _) in figures.collectives.items()
    )
    return (
        f"{part.name}: peak memory {used}, code "
        f"{figures.code_bytes / 2**20:,.0f} MiB\n"
        f"  {figures.flops / 1e9:,.1f} GFLOP and "
        f"{figures.accessed_bytes / 1e9:,.1f} GB moved per core, loops once; "
        f"at least {bound.secs * 1e3:,.2f} ms, bound by {bound.resource}\n"
        f"  collectives: {collectives or 'none'}\n"
        f"  traced and lowered in {part.lower_secs:.1f} s, compiled in "
        f"{figures.compile_secs:.1f} s"
    )


def _misfit(
    report: dry_run.DryRunReport,
    proposal: tuple[str, dry_run.DryRunReport] | None,
) -> str:
    part = next(part for part in report.compiled if not part.figures.fits)
    problem = (
        f"the {part.name} takes {_share(part.figures)} of a core of "
        f"{report.topology}"
    )
    if proposal is None:
        return f"{problem}; nothing that was tried fits: use a smaller root"
    what, other = proposal
    return (
        f"{problem}; {what} was compiled and takes "
        f"{_share(other.compiled[0].figures)}"
    )


def _share(figures: compiler.Figures) -> str:
    used, limit = figures.peak_bytes / _GIB, figures.limit_bytes / _GIB
    return f"{used:.3g} of {limit:.4g} GiB"


def _as_json(
    report: dry_run.DryRunReport,
    proposal: tuple[str, dry_run.DryRunReport] | None,
) -> dict[str, Any]:
    value = {
        "fits": report.fits,
        **dataclasses.asdict(report),
        "step_secs": report.step_secs,
        "validation_secs": report.validation_secs,
        "compile_share": report.compile_share,
    }
    if proposal is not None:
        what, other = proposal
        value["way_out"] = {"change": what, **dataclasses.asdict(other)}
    return value


if __name__ == "__main__":
    launching.run(main)
