"""Accuracy against what it costs, drawn as inline SVG.

Invariant: a point lies where its numbers say; only its label gives way to
others. Colours and sizes of text come from the style sheet, so the drawing
follows light and dark and stays readable on a phone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from keras_munet.report import formatting
from keras_munet.report import html_elements

_WIDTH, _HEIGHT = 640.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 22.0, 20.0, 64.0
_NUM_TICKS = 7
# Costs that differ by more than this are drawn on a logarithmic axis.
_LINEAR_RATIO_MAX = 12.0
_LABEL_RADIUS = 12.0

CSS = """
:root {
  --c0: #2f6f9f; --c1: #7d4ba6; --c2: #b26f0c; --c3: #b0453b; --c4: #22815a;
  --c5: #5c6670;
}
@media (prefers-color-scheme: dark) {
  :root {
    --c0: #62a5d6; --c1: #b88fdc; --c2: #dba04a; --c3: #e5837a;
    --c4: #5cc091; --c5: #9aa5b0;
  }
}
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
main { max-width: 78rem; }
.plot { padding: .6rem; }
.plot svg {
  display: block; width: 100%; max-width: 46rem; height: auto;
  margin: 0 auto; overflow: visible;
}
.plot text { font-size: 14px; fill: var(--quiet); }
.plot .number { font-weight: 700; fill: var(--c); text-anchor: middle; }
.plot .axis { stroke: var(--line); stroke-width: 1; }
.plot .run { fill: var(--c); fill-opacity: .45; }
.plot .mean { fill: var(--c); stroke: var(--card); stroke-width: 1.5; }
.plot .family, .plot .spoke, .plot .leader {
  fill: none; stroke: var(--c); stroke-width: 1.5;
}
.plot .family { stroke-dasharray: 3 4; stroke-opacity: .7; }
.plot .spoke { stroke-opacity: .45; }
.plot .leader { stroke-width: 1; stroke-opacity: .6; }
.key-of { display: inline-block; margin-right: 1.1rem; }
.methods thead th { white-space: normal; min-width: 4.4rem; }
.methods thead th:first-child { min-width: 7rem; }
.methods th:first-child > div { max-width: none; white-space: nowrap; }
.methods tbody wbr { display: none; }
.methods .said { white-space: normal; min-width: 12rem; }
.badge { color: var(--c); font-weight: 700; margin-right: .15rem; }
@media (max-width: 30rem) {
  .plot { padding: .3rem; }
  .plot text { font-size: 21px; }
  .methods th:first-child > div { white-space: normal; max-width: 7rem; }
  .methods tbody wbr { display: inline; }
}
"""


@dataclasses.dataclass(frozen=True)
class Series:
    """One method in the plot.

    Attributes:
      number: stands beside its point and before its name elsewhere.
      name: of the method.
      family: methods of one family have one colour and are joined.
      color: CSS class.
      runs: (cost, accuracy) of each run.
    """

    number: int
    name: str
    family: str
    color: str
    runs: tuple[tuple[float, float], ...]

    @property
    def center(self) -> tuple[float, float]:
        """The mean over the runs."""
        xs, ys = zip(*self.runs, strict=True)
        return sum(xs) / len(xs), sum(ys) / len(ys)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Maps values to positions between two ends of the drawing."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.is_log:
            step = _step((self.high - self.low) / _NUM_TICKS)
            first, last = (
                math.ceil(self.low / step - 1e-9),
                math.floor(self.high / step + 1e-9),
            )
            return [i * step for i in range(first, last + 1)]
        powers = range(
            math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        )
        candidates = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        return [v for v in candidates if self.low <= v <= self.high]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def render_plot(series: Sequence[Series], cost: str) -> str:
    """Returns the drawing; at least one of the series has a run.

    Args:
      series: the methods.
      cost: what the first number of a run is, e.g. `CPU seconds per task`.
    """
    non_empty = [one for one in series if one.runs]
    x_axis, y_axis = _axes([point for one in non_empty for point in one.runs])
    parts = [
        *_grid(x_axis, y_axis, cost),
        *_families(non_empty, x_axis, y_axis),
    ]
    dots = [
        (x_axis.at(x), y_axis.at(y)) for one in non_empty for x, y in one.runs
    ]
    centers = [
        (x_axis.at(one.center[0]), y_axis.at(one.center[1]))
        for one in non_empty
    ]
    labels = _labels(centers, dots)
    for one in non_empty:
        parts.append(_runs(one, x_axis, y_axis))
    for one, (x, y), (label_x, label_y) in zip(
        non_empty, centers, labels, strict=True
    ):
        text = f"{one.number}: {one.name}, {_tooltip(one, cost)}"
        parts.append(
            f'<g class="{one.color}"><title>{html_elements.esc(text)}</title>'
            f"{_leader((x, y), (label_x, label_y))}"
            f'<circle class="mean" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
            f"{_label(one.number, label_x, label_y)}</g>"
        )
    return (
        '<div class="wide plot">\n'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="Mean test accuracy against {cost}; the numbers are in '
        'the table">\n' + "\n".join(parts) + "\n</svg>\n</div>"
    )


def _axes(points: Sequence[tuple[float, float]]) -> tuple[_Axis, _Axis]:
    xs, ys = zip(*points, strict=True)
    is_log = max(xs) > _LINEAR_RATIO_MAX * min(xs) > 0
    if is_log:
        low, high = min(xs) / 1.4, max(xs) * 1.4
    else:
        low, high = 0.0, max(xs) * 1.08 or 1.0
    margin = max(0.15 * (max(ys) - min(ys)), 0.01)
    return (
        _Axis(low, high, _LEFT, _WIDTH - _RIGHT, is_log),
        _Axis(
            max(0.0, min(ys) - margin),
            min(1.0, max(ys) + margin),
            _HEIGHT - _BOTTOM,
            _TOP,
        ),
    )


def _grid(x_axis: _Axis, y_axis: _Axis, cost: str) -> list[str]:
    left, right, top, bottom = x_axis.start, x_axis.end, _TOP, y_axis.start
    parts = []
    step = _step((y_axis.high - y_axis.low) / _NUM_TICKS)
    digits = max(2, -math.floor(math.log10(step)))
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(
            f'<path class="axis" d="M{left} {y:.1f}H{right}"/>'
            f'<text x="{left - 8:.0f}" y="{y + 5:.1f}" text-anchor="end">'
            f"{value:.{digits}f}</text>"
        )
    for value in x_axis.ticks():
        x = x_axis.at(value)
        parts.append(
            f'<path class="axis" d="M{x:.1f} {top}V{bottom}"/>'
            f'<text x="{x:.1f}" y="{bottom + 22:.0f}" text-anchor="middle">'
            f"{_short(value)}</text>"
        )
    parts.append(
        f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 12:.0f}" '
        f'text-anchor="middle">{cost}</text>'
    )
    return parts


def _families(
    series: Sequence[Series], x_axis: _Axis, y_axis: _Axis
) -> list[str]:
    """Returns a line through the methods of each family, by parameters."""
    ordered = sorted(series, key=lambda one: (one.family, one.center))
    lines = []
    for _, group in itertools.groupby(ordered, key=lambda one: one.family):
        members = list(group)
        points = " ".join(
            f"{x_axis.at(one.center[0]):.1f},{y_axis.at(one.center[1]):.1f}"
            for one in members
        )
        if len(members) > 1:
            lines.append(
                f'<g class="{members[0].color}">'
                f'<polyline class="family" points="{points}"/></g>'
            )
    return lines


def _runs(one: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    """Returns the runs of a method, each joined to their mean."""
    x, y = x_axis.at(one.center[0]), y_axis.at(one.center[1])
    parts = []
    for params, accuracy in one.runs:
        run_x, run_y = x_axis.at(params), y_axis.at(accuracy)
        parts.append(
            f'<path class="spoke" d="M{x:.1f} {y:.1f}L{run_x:.1f} '
            f'{run_y:.1f}"/><circle class="run" cx="{run_x:.1f}" '
            f'cy="{run_y:.1f}" r="4"/>'
        )
    return f'<g class="{one.color}">{"".join(parts)}</g>'


def _labels(
    centers: Sequence[tuple[float, float]],
    dots: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
    """Returns where each number stands: near its point, clear of the rest."""
    placed: list[tuple[float, float]] = []
    for center in centers:
        options = [
            (
                center[0] + radius * math.cos(angle),
                center[1] + radius * math.sin(angle),
            )
            for radius in (20.0, 32.0, 46.0, 62.0)
            for angle in (i * math.pi / 4 for i in (7, 1, 5, 3, 6, 2, 0, 4))
        ]
        inside = [
            (x, y)
            for x, y in options
            if _LEFT + 6 <= x <= _WIDTH - 6 and 8 <= y <= _HEIGHT - _BOTTOM - 8
        ]
        blocked = [*centers, *dots, *placed]
        placed.append(max(inside, key=lambda spot: _clearance(spot, blocked)))
    return placed


def _clearance(
    spot: tuple[float, float], blocked: Sequence[tuple[float, float]]
) -> float:
    """Returns the distance to the nearest mark, as far as it matters.

    `max` keeps the first of equals: the nearest place that is clear.
    """
    nearest = min(math.dist(spot, mark) for mark in blocked)
    return min(nearest, 1.6 * _LABEL_RADIUS)


def _leader(point: tuple[float, float], label: tuple[float, float]) -> str:
    """Returns a line that ends before a label which stands further off."""
    length = math.dist(point, label)
    if length < 2 * _LABEL_RADIUS:
        return ""
    share = 1 - _LABEL_RADIUS / length
    (x, y), (far_x, far_y) = point, label
    end = f"{x + share * (far_x - x):.1f} {y + share * (far_y - y):.1f}"
    return f'<path class="leader" d="M{x:.1f} {y:.1f}L{end}"/>'


def _label(number: int, x: float, y: float) -> str:
    return f'<text class="number" x="{x:.1f}" y="{y + 5:.1f}">{number}</text>'


def _tooltip(one: Series, cost: str) -> str:
    x, y = one.center
    cost_text = formatting.count(x) if x >= 100 else f"{x:.3g}"
    return f"test accuracy {formatting.fraction(y)}, {cost_text} {cost}"


def _step(rough: float) -> float:
    """Returns the next 1, 2 or 5 times a power of ten from `rough` up."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
