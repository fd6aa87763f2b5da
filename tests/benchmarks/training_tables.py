"""The tables of `training.py`, in Markdown.

Invariant: a table follows from the recorded figures alone, so it can be made
again from training.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import measuring

_OURS = "ours"
_GIGA = 1e9
# What a multiply-add counts as.
_FLOP_PER_MAC = 2


def text(found: dict[str, Any]) -> str:
    """Returns every table that there are figures for."""
    parts = [found["header"]]
    if "steps" in found:
        for precision, steps in by_precision(found["steps"]).items():
            if peers(steps[0]):
                parts.append(f"## Train step, {precision}")
                parts += [_step_table(steps), _versions(steps)]
            parts.append(f"## Utilisation, {precision}")
            parts.append(_utilisation_table(steps))
    if "fused" in found:
        parts += ["## Fused generations", _fused_table(found["fused"])]
    if "growth" in found:
        parts += ["## Growth", _growth_table(found["growth"])]
    if "characters" in found:
        parts += ["## ti3 characters", _characters_table(found["characters"])]
    return "\n\n".join(parts) + "\n"


def by_precision(
    steps: Sequence[dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """Returns precision -> its steps; old records are of float32."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for step in steps:
        groups.setdefault(step.get("precision", "float32"), []).append(step)
    return groups


def peers(step: dict[str, Any]) -> list[str]:
    """Returns the programs that train a ViT and are not ours."""
    names = step["secs"]
    return [n for n in names if n != _OURS and not n.startswith("matmul")]


def shown(shape: dict[str, Any]) -> str:
    """Returns a shape in words."""
    return (
        f"{shape['num_layers']} layers, {shape['image_size']} px, batch "
        f"{shape['batch_size']}"
    )


def peak_flops(step: dict[str, Any]) -> float:
    """Returns the operations a second of the fastest matrix product."""
    return max(
        step["said"][name]["flop"] / secs
        for name, secs in step["secs"].items()
        if name.startswith("matmul")
    )


def characters_rates(run: dict[str, Any]) -> list[dict[str, float]]:
    """Returns seconds per child, ours and the authors', by steps per child.

    The first record is the run as it was; the second one the published steps:
    the steps more, each at the pace of the run's later cycles.
    """
    cycles, children = run["num_cycles"], run["num_children"]
    rates = []
    for per_cycle in (run["num_steps"], run["num_published_steps"]):
        more = cycles * (per_cycle - run["num_steps"])
        more_secs = more * run["num_generations"] * run["later_step_secs"]
        steps = cycles * per_cycle
        authors = run["authors_beside_secs"]
        authors += steps * run["flax_child_step_secs"]
        rates.append(
            {
                "steps": steps,
                "ours": (run["secs"] + more_secs) / children,
                "authors": authors,
            }
        )
    return rates


def _step_table(steps: Sequence[dict[str, Any]]) -> str:
    """Images a second; in brackets the time in ours."""
    names = peers(steps[0])
    rows = []
    for step in steps:
        secs, size = step["secs"], step["shape"]["batch_size"]
        cells = [f"{size / secs[_OURS]:.0f}"]
        cells += [
            f"{size / secs[name]:.0f} ({secs[name] / secs[_OURS]:.2f})"
            for name in names
        ]
        input_secs = step["said"][_OURS]["input_secs"]
        cells.append(f"{100 * input_secs / secs[_OURS]:.0f}%")
        rows.append([shown(step["shape"]), *cells])
    head = ["images/s (time in ours)", _OURS, *names, "input in ours"]
    return measuring.table(head, rows)


def _versions(steps: Sequence[dict[str, Any]]) -> str:
    """What ran, until when its first two steps were done, and parameters."""
    said = [step["said"] for step in steps]
    rows = [
        [
            name,
            said[0][name]["version"],
            ", ".join(f"{answers[name]['ready']:.1f}" for answers in said),
            ", ".join(f"{a[name]['num_params']:,}" for a in said),
        ]
        for name in (_OURS, *peers(steps[0]))
    ]
    head = ["program", "versions", "s until two steps are done", "parameters"]
    return measuring.table(head, rows)


def _utilisation_table(steps: Sequence[dict[str, Any]]) -> str:
    names = [_OURS, *peers(steps[0])]
    rows = []
    for step in steps:
        peak = peak_flops(step)
        size = step["shape"]["batch_size"] * _FLOP_PER_MAC
        said = step["said"][_OURS]
        model, needed = size * said["model_macs"], size * said["needed_macs"]
        shares = [
            f"{100 * model / step['secs'][name] / peak:.0f}%" for name in names
        ]
        done = 100 * needed / step["secs"][_OURS] / peak
        rows.append(
            [
                shown(step["shape"]),
                f"{model / _GIGA:.1f}",
                f"{peak / _GIGA:.0f}",
                *shares,
                f"{done:.0f}%",
            ]
        )
    head = [
        "model FLOP utilisation",
        "GFLOP",
        "peak, GFLOP/s",
        *names,
        "ours, computed",
    ]
    note = (
        "The peak is the fastest matrix product of this precision, of 2048 or "
        "4096 rows, in the same turns. The top block's tokens that no head "
        "reads count for the model and are not computed by ours; the last "
        "column leaves them out."
    )
    return measuring.table(head, rows) + "\n\n" + note


def _fused_table(timings: Sequence[dict[str, Any]]) -> str:
    mus = sorted({t["mu"] for t in timings})
    groups = [
        (f"mu {mu}, {name}", [t for t in timings if t["mu"] == mu and keep(t)])
        for name, keep in (
            ("children of the root", lambda t: t["number"] == 0),
            ("later generations", lambda t: t["number"] > 0),
        )
        for mu in mus
    ]
    first = [t for t in timings if t["number"] == 0]
    groups.append(("all children of the root", first))
    rows = []
    for name, group in groups:
        if not group:
            continue
        apart = [t for t in group if "separate_secs" in t]
        cells = [
            f"{statistics.mean(t[key] for t in group):.2f}"
            for key in ("size", "ratio")
        ]
        taken = statistics.mean(t["secs"] / t["single_secs"] for t in group)
        saved = ""
        if apart:
            times = [t["separate_secs"] / t["secs"] for t in apart]
            counts = [t["separate_size"] / t["size"] for t in apart]
            saved = (
                f"{statistics.mean(times):.2f} ({statistics.mean(counts):.2f}"
                f" by count, {len(apart)} generations)"
            )
        rows.append(
            [name, len(group), cells[0], f"{taken:.2f}", cells[1], saved]
        )
    head = [
        "generations of 8",
        "number",
        "unique operations, single steps",
        "time, single steps",
        "time / unique operations",
        "8 single trainings / fused",
    ]
    return measuring.table(head, rows)


def _growth_table(growth: dict[str, Any]) -> str:
    rows = [
        [
            point["num_children"],
            point["num_layers"],
            point["num_tasks"],
            f"{1e3 * point['step_secs']:.0f}",
            f"{point['gflop'] / point['step_secs']:.0f}",
            f"{1e3 * point['search_secs']:.1f}",
            f"{point['mib']:.0f}",
        ]
        for points in growth.values()
        for point in points
    ]
    head = [
        "children",
        "layers",
        "published tasks",
        "step, ms",
        "GFLOP/s",
        "search, ms",
        "peak memory, MiB",
    ]
    return measuring.table(head, rows)


def _characters_table(run: dict[str, Any]) -> str:
    hour_secs = 3600
    rows = [
        [
            rate["steps"],
            f"{rate['ours']:.1f}",
            f"{rate['authors']:.1f}",
            f"{hour_secs / rate['ours']:.0f}",
            f"{hour_secs / rate['authors']:.0f}",
            f"{rate['authors'] / rate['ours']:.2f}",
        ]
        for rate in characters_rates(run)
    ]
    head = [
        "steps per child",
        "s per child, ours",
        "the authors'",
        "children per hour, ours",
        "the authors'",
        "ratio",
    ]
    note = (
        f"Flax step of 3 layers, batch 512: {1e3 * run['flax_step_secs']:.0f} "
        "ms, with gradients for what a child trains alone "
        f"{1e3 * run['flax_child_step_secs']:.0f} ms; the authors' program "
        f"beside training: {run['authors_beside_secs']:.2f} s per child. Ours "
        f"was run with {run['num_cycles'] * run['num_steps']} steps; the rest "
        "is reckoned with the steps of its later cycles."
    )
    return measuring.table(head, rows) + "\n\n" + note
