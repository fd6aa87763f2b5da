"""Compares ways to train a compact network for several tasks, each tuned.

    python tests/benchmarks/overparam_table.py run --out=FILE.jsonl
        [--data=overlaid] [--data_dir=FOLDER] [--norm=yes,no] [--seeds=0,1,2]
        [--decays=0,0.03,0.3] [--ways "plain" "task factors"]
    python tests/benchmarks/overparam_table.py table --out=FILE.jsonl

`run` does the runs that FILE lacks, a line each, so that it may be stopped and
started again. Every way trains on the same number of batches, with every
weight decay; `table` chooses the decay of each way on validation data, over
all seeds, and prints test results with paired differences to the plain
network (mean and 95% interval of Student's t over seeds) as Markdown.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import pathlib
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from keras_munet.overparam.experiments import settings as settings_lib

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"method": "hard_sharing"},
    "common factor": {"method": "overparam_common"},
    "common factors, depth 3": {"method": "overparam_common", "depth": 3},
    "task factors": {"method": "overparam"},
    "task factors, depth 3": {"method": "overparam", "depth": 3},
    "single-task networks": {"method": "single_task"},
}
# Channels of the first stage. Two single-task networks of 3 have about the
# parameters of one for two tasks of 4.
_WIDTH, _SINGLE_WIDTH = 4, 3
_COMMON = {
    "overlaid": {
        "image_height": 16,
        "image_width": 16,
        "num_stages": 2,
        "num_epochs": 12,
        "batch_size": 32,
        "flip": False,
    },
    "camvid": {
        "image_height": 32,
        "image_width": 48,
        "num_stages": 3,
        "num_epochs": 10,
        "batch_size": 8,
    },
}
# 0.975 quantiles of Student's t by degrees of freedom.
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
_MAIN = ("accuracy", "miou", "average_precision", "mean_average_precision")


def settings_of(
    data: str,
    data_dir: str,
    ways: Sequence[str],
    decays: Sequence[float],
    norms: Sequence[bool],
    seeds: Sequence[int],
) -> list[tuple[str, settings_lib.Settings]]:
    """Returns (way, settings) of every run, seed by seed."""
    return [
        (
            way,
            settings_lib.Settings.from_dict(
                {
                    **_COMMON[data],
                    "data": data,
                    "data_dir": data_dir,
                    "width": (
                        _SINGLE_WIDTH
                        if WAYS[way]["method"] == "single_task"
                        else _WIDTH
                    ),
                    "norm": norm,
                    "seed": seed,
                    "weight_decay": decay,
                    **WAYS[way],
                }
            ),
        )
        for seed in seeds
        for norm in norms
        for decay in decays
        for way in ways
    ]


def run(out: pathlib.Path, runs: list[tuple[str, settings_lib.Settings]]):
    """Does every run that the file lacks."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    from keras_munet.overparam.experiments import run as run_lib
    from keras_munet.train.devices import strategy

    # Rewriting graphs takes longer than it saves in a few hundred steps.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    finished = [line["settings"] for line in _lines(out)]
    for way, settings in runs:
        if settings.to_json() in finished:
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = run_lib.run(
                settings,
                folder,
                strategy.make_strategy("one_device"),
                say=lambda line: None,
            )
        with out.open("a") as file:
            line = {"way": way, **result}
            file.write(json.dumps(line, sort_keys=True) + "\n")
        print(way, settings.norm, settings.weight_decay, settings.seed)


def table(out: pathlib.Path) -> str:
    """Returns the comparison as Markdown, one table with norms, one without."""
    tables = []
    for norm in (True, False):
        lines = [x for x in _lines(out) if x["settings"]["norm"] is norm]
        if lines:
            title = "with" if norm else "without"
            tables.append(f"### {title} batch norms\n\n{_table(lines)}")
    return "\n\n".join(tables)


def _table(lines: list[dict[str, Any]]) -> str:
    by_way: dict[str, dict[float, dict[int, dict[str, Any]]]] = (
        collections.defaultdict(lambda: collections.defaultdict(dict))
    )
    for line in lines:
        settings = line["settings"]
        by_way[line["way"]][settings["weight_decay"]][settings["seed"]] = line
    chosen = {}
    for way, by_decay in by_way.items():
        decay = max(
            by_decay,
            key=lambda d: statistics.mean(
                _score(line, "validation") for line in by_decay[d].values()
            ),
        )
        chosen[way] = decay, by_decay[decay]
    rows = []
    for way in WAYS:
        if way not in chosen:
            continue
        decay, by_seed = chosen[way]
        scores = {s: 100 * _score(x, "metrics") for s, x in by_seed.items()}
        plain = chosen["plain"][1]
        differences = [
            scores[s] - 100 * _score(plain[s], "metrics")
            for s in scores
            if s in plain
        ]
        costs = next(iter(by_seed.values()))["cost"]
        rows.append(
            [
                way,
                f"{decay:g}",
                f"{statistics.mean(scores.values()):.1f}",
                "" if way == "plain" else _interval(differences),
                f"{costs['trained_params']:,}",
                f"{costs['deployed_params']:,}",
            ]
        )
    head = [
        *("way", "weight decay", "mean of tasks, %", "minus plain"),
        *("trained parameters", "deployed"),
    ]
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells)


def _score(line: dict[str, Any], split: str) -> float:
    """Returns the mean over tasks of each one's main metric."""
    return statistics.mean(
        next(values[name] for name in _MAIN if name in values)
        for values in line[split].values()
    )


def _interval(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.1f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.1f} ± {_T[len(values) - 1] * error:.1f}"


def _lines(out: pathlib.Path) -> list[dict[str, Any]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text().splitlines()]


def main() -> None:
    """Reads the command line and does what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", choices=list(_COMMON), default="overlaid")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--decays", default="0,0.03,0.3")
    parser.add_argument("--norm", default="yes,no")
    parser.add_argument("--seeds", default="0,1,2")
    flags = parser.parse_args()
    if flags.command == "table":
        print(table(flags.out))
        return
    norms = [word == "yes" for word in flags.norm.split(",")]
    seeds = list(map(int, flags.seeds.split(",")))
    decays = list(map(float, flags.decays.split(",")))
    run(
        flags.out,
        settings_of(
            flags.data, flags.data_dir, flags.ways, decays, norms, seeds
        ),
    )


if __name__ == "__main__":
    main()
