"""The plot of `training.py`: four small panels in one SVG."""

from __future__ import annotations

import pathlib
from typing import Any

import matplotlib

matplotlib.use("svg")

import training_tables
from matplotlib import pyplot

_SIZE_INCHES = (9.0, 6.4)
# As many as `training.py` knows programs beside ours.
_PEERS = ("#e59866", "#7f8c8d", "#95a5a6", "#b2bec3", "#636e72", "#dfe6e9")
_OURS = "#c0392b"
_SECOND = "#2c3e50"


def save(found: dict[str, Any], path: pathlib.Path) -> None:
    """Draws what there are figures for; nothing leaves an empty panel.

    Args:
      found: as `training.py` records it.
      path: of the SVG.
    """
    # Text as text, ids that do not change: a small file, equal when redrawn.
    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "munet"})
    pyplot.rcParams.update({"font.size": 8, "axes.spines.top": False})
    figure, ((bars, dots), (time, memory)) = pyplot.subplots(
        2, 2, figsize=_SIZE_INCHES, layout="constrained"
    )
    drawn = {
        "steps": lambda part: _draw_steps(bars, part),
        "fused": lambda part: _draw_fused(dots, part),
        "growth": lambda part: _draw_growth(time, memory, part),
    }
    for name, draw in drawn.items():
        if name in found:
            draw(found[name])
    figure.suptitle(found["header"], fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_steps(axes, steps) -> None:
    """Images a second, in those of ours."""
    # The first precision: the other one has bars of its own in the tables.
    precision, steps = next(iter(training_tables.by_precision(steps).items()))
    names = ["ours", *training_tables.peers(steps[0])]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        speeds = [s["secs"]["ours"] / s["secs"][name] for s in steps]
        places = [j + i * width for j in range(len(steps))]
        color = _PEERS[i - 1] if i else _OURS
        axes.bar(places, speeds, 0.9 * width, label=name, color=color)
    axes.set_xticks([j + 0.4 - width / 2 for j in range(len(steps))])
    axes.set_xticklabels(
        [training_tables.shown(s["shape"]).replace(", ", "\n") for s in steps]
    )
    axes.set_title(f"Train step of Ti/16, {precision}: images/s, ours = 1")
    # Above the bars.
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper center")


def _draw_fused(axes, timings) -> None:
    """Each generation's time over its unique operations."""
    for mu, color in ((0.1, _OURS), (0.2, _SECOND)):
        for later, marker in ((False, "o"), (True, "^")):
            chosen = [
                t
                for t in timings
                if t["mu"] == mu and (t["number"] > 0) == later
            ]
            axes.plot(
                [t["size"] for t in chosen],
                [t["secs"] / t["single_secs"] for t in chosen],
                marker,
                color=color,
                markersize=4,
                fillstyle="none" if later else "full",
                label=f"mu {mu}, {'later' if later else 'from the root'}",
            )
    ends = [0, max(t["size"] for t in timings) * 1.05]
    axes.plot(ends, ends, color="#7f8c8d", linewidth=0.8)
    bound = [1.25 * end for end in ends]
    axes.plot(ends, bound, "--", color="#7f8c8d", linewidth=0.8, label="1.25")
    axes.set_xlabel("unique operations, in those of one full step")
    axes.set_ylabel("time, in that of one full step")
    axes.set_title("Generations of 8 children in one step")
    axes.legend(frameon=False, fontsize=7)


def _draw_growth(time, memory, growth) -> None:
    """Time and memory over children, layers and tasks."""
    colors = {"children": _OURS, "layers": _SECOND, "tasks": "#7f8c8d"}
    for kind, points in growth.items():
        # A system without tasks has a place on the logarithmic axis too.
        x = [max(p[f"num_{kind}"], 1) for p in points]
        label = {
            "children": "children (3 layers)",
            "layers": "layers (8 children)",
            "tasks": "published tasks (8 children, 3 layers)",
        }[kind]
        color = colors[kind]
        milliseconds = [1e3 * p["step_secs"] for p in points]
        time.plot(x, milliseconds, "o-", color=color, markersize=3, label=label)
        mib = [p["mib"] for p in points]
        memory.plot(x, mib, "o-", color=color, markersize=3, label=label)
    for axes, title in ((time, "Step, ms"), (memory, "Peak memory, MiB")):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{title}, batch 256")
        axes.legend(frameon=False, fontsize=7)
    time.set_yscale("log", base=2)
    time.yaxis.set_major_formatter("{x:g}")
    memory.set_ylim(bottom=0)
