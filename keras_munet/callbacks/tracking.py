"""Turns events into what experiment trackers log: flat names and numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet.core import settings as settings_lib


def system_name(workdir: str) -> str:
    """Returns the last part of a system's folder or bucket address."""
    name = workdir.rstrip("/").rpartition("/")[2]
    return name or os.path.basename(os.path.abspath(workdir))


def flat_settings(settings: settings_lib.Settings) -> dict[str, str]:
    """Returns dotted key -> value of all settings, as flags name them."""
    return {name: str(value) for name, value in _flat(settings.to_json(), "")}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def generation_metrics(event: Mapping[str, Any]) -> dict[str, float]:
    """Returns name -> number of an event `generation`; seconds by kind too."""
    scores = [c["score"] for c in event["children"] if c["score"] is not None]
    numbers = {
        "best_score": event["best_score"],
        "mean_child_score": sum(scores) / len(scores) if scores else None,
        "num_improved": sum(c["improved"] for c in event["children"]),
        "generation_secs": event["generation_secs"],
        "cpu_secs": event.get("cpu_secs"),
        **event["clock"],
    }
    return {k: float(v) for k, v in numbers.items() if v is not None}


def child_metrics(
    child: Mapping[str, Any],
) -> dict[int, dict[str, float]]:
    """Returns cycle, from 1 -> `score` and `loss` of a child.

    A child that diverged lacks those of its last cycles.
    """
    cycles = enumerate(
        zip(child["scores"], child["losses"], strict=True), start=1
    )
    return {
        cycle: {
            name: float(value)
            for name, value in (("score", score), ("loss", loss))
            if value is not None
        }
        for cycle, (score, loss) in cycles
    }
