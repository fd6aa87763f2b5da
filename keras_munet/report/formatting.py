"""Formats values of a report, alike in the text and on the page.

Invariant: what `plain` returns stays on its line and holds no character that
could reorder or hide others, for any class names of a data set.
"""

from __future__ import annotations

from keras_munet.core import child_record
from keras_munet.core import printable

NONE = "-"
# How a component gets its first values -> how a report says it.
INITS = {
    child_record.SHARE: "shared",
    child_record.COPY: "copied",
    child_record.RESAMPLE: "resampled",
    child_record.FRESH: "fresh",
    child_record.SOLVED: "solved",
}
_KINDS = {
    "build": "building graphs",
    "compile": "compiling: tracing, TensorFlow's own work on graphs",
    "solve": "solving heads on frozen features",
    "input": "input: picking and varying images",
    "fill": "loading weights into graphs",
    "first_cycle": "first training cycle, with tracing",
    "train": "training",
    "validate": "validating",
    "search": "choosing children",
    "store": "storing",
    "other": "anything else",
}


def plain(value: object) -> str:
    """Returns `value` as text whose unprintable characters are escaped."""
    return printable.printable(str(value))


def fraction(value: float | None) -> str:
    """Returns an accuracy or score with 4 decimals: `0.9876`."""
    return NONE if value is None else f"{value:.4f}"


def count(value: float | None) -> str:
    """Returns a number of things: `1,484,162`."""
    return NONE if value is None else f"{value:,.0f}"


def percent(part: float, whole: float) -> str:
    """Returns the share of `part` in `whole`: `47.3%`."""
    return f"{100 * part / whole:.1f}%" if whole else NONE


def secs(value: float) -> str:
    """Returns a duration: `12.3 s`, `3 min 05 s` or `1 h 02 min`."""
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def work_type(clock_key: str) -> str:
    """Returns what a key of a generation's clock stands for."""
    name = clock_key.removesuffix("_secs")
    return _KINDS.get(name, plain(name.replace("_", " ")))


def number_of(num: int, noun: str, plural: str = "") -> str:
    """Returns a count with its noun: `1 task`, `2 tasks`."""
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"
