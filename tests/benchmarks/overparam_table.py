"""Compares ways to train small networks for several dense tasks.

    python tests/benchmarks/overparam_table.py next --out=FILE.jsonl \
        [--budget=short] [--data=rooms,camvid] [--camvid=FOLDER]
        [--methods=hard_sharing,overparam,single_task,pcgrad] [--seeds=0,1,2]
    python tests/benchmarks/overparam_table.py table --out=FILE.jsonl

`next` does the first run that FILE lacks and adds a line to it; it exits with
3 when none is left, so that a loop does them all and goes on where it was
stopped. `table` prints what there is as Markdown. Runs come seed by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from keras_munet.overparam.experiments import metrics
from keras_munet.overparam.experiments import settings as settings_lib

NONE_LEFT = 3
METHODS = ("hard_sharing", "overparam", "single_task", "pcgrad")
WIDTHS = (8, 4, 12)
# Epochs, and what each method trains with; the rest as hard sharing. Chosen on
# validation data (docs/overparam_results.md).
_BUDGETS: dict[str, dict[str, dict[str, Any]]] = {
    "short": {
        "hard_sharing": {"num_epochs": 10, "learning_rate": 3e-2},
        "overparam": {
            "num_epochs": 10,
            "learning_rate": 1e-2,
            "combination": "mean",
        },
    },
    "long": {
        "hard_sharing": {"num_epochs": 20, "learning_rate": 3e-2},
        "overparam": {
            "num_epochs": 20,
            "optimizer": "sgd",
            "learning_rate": 1e-1,
            "combination": "mean",
        },
    },
}
_SHOWN = {
    "miou": ("mIoU", 100),
    "pixel_accuracy": ("pixel accuracy", 100),
    "abs_error": ("depth error, m", 1),
    "rel_error": ("relative depth error", 1),
    "mean_angle": ("mean angle", 1),
    "median_angle": ("median angle", 1),
    "within_11.25": ("within 11.25°", 100),
    "within_22.5": ("within 22.5°", 100),
    "within_30": ("within 30°", 100),
    "average_precision": ("edge AP", 100),
    "best_f1": ("edge F1", 100),
    "mean_average_precision": ("presence mAP", 100),
}


def runs(
    budget: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    names: Sequence[str],
    camvid: str,
) -> list[dict[str, Any]]:
    """Returns the settings of every run, in order."""
    common = {
        "image_height": 32,
        "image_width": 48,
        "num_stages": 3,
        "batch_size": 8,
        # The benchmark keeps no checkpoints of such short runs.
        "save_every": 1_000_000,
    }
    data: dict[str, dict[str, Any]] = {
        "rooms": {
            "task_names": ["segmentation", "depth", "normals"],
            "num_train": 384,
            "num_test": 192,
        },
    }
    data["camvid"] = {"data_dir": camvid}
    own = _BUDGETS[budget]
    return [
        {
            **common,
            **data[name],
            "data": name,
            "seed": seed,
            "width": width,
            "method": method,
            **own.get(method, own["hard_sharing"]),
        }
        for seed in seeds
        for width in WIDTHS
        for name in names
        for method in methods
    ]


def do_next(out: pathlib.Path, wanted: Sequence[dict[str, Any]]) -> int:
    """Does the first run that is missing; returns the exit code."""
    done = [line["settings"] for line in _lines(out)]
    for values in wanted:
        settings = settings_lib.Settings.from_dict(values)
        if settings.to_json() not in done:
            break
    else:
        return NONE_LEFT
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    from keras_munet.overparam.experiments import run
    from keras_munet.train.devices import strategy

    # Rewriting graphs takes longer than it saves in a few hundred steps.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    with tempfile.TemporaryDirectory() as folder:
        found = run.run(
            settings,
            folder,
            strategy.make_strategy("one_device"),
            say=lambda line: None,
        )
    with out.open("a") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    print(
        f"{settings.data} {settings.width} {settings.method} "
        f"{settings.seed}: {found['cost']['train_secs']:.0f} s"
    )
    return 0


def table(out: pathlib.Path) -> str:
    """Returns the comparison as Markdown."""
    lines = _lines(out)
    parts = []
    for data in sorted({line["settings"]["data"] for line in lines}):
        own = [line for line in lines if line["settings"]["data"] == data]
        parts.append(f"## {data}\n\n{_metric_table(own)}\n\n{_gain_table(own)}")
    return "\n\n".join(parts)


def _metric_table(lines: Sequence[dict[str, Any]]) -> str:
    names = [
        (task, name)
        for task, values in sorted(lines[0]["metrics"].items())
        for name in values
    ]
    names.sort(key=lambda pair: list(_SHOWN).index(pair[1]))
    rows = []
    for width, method, group in _groups(lines):
        cells = []
        for task, name in names:
            scale = _SHOWN[name][1]
            values = [scale * line["metrics"][task][name] for line in group]
            cells.append(
                _spread(values, 3 if scale == 1 and "error" in name else 1)
            )
        rows.append([width, method, len(group), *cells])
    head = ["width", "method", "seeds", *(_SHOWN[n][0] for _, n in names)]
    return _markdown(head, rows)


def _gain_table(lines: Sequence[dict[str, Any]]) -> str:
    found = {_key(line): line for line in lines}
    rows = []
    for width, method, group in _groups(lines):
        gains: dict[str, list[float]] = {"single_task": [], "hard_sharing": []}
        for line in group:
            for reference, values in gains.items():
                other = found.get((width, reference, _key(line)[2]))
                if other is not None:
                    values.append(
                        100
                        * metrics.relative_improvement(
                            line["metrics"], other["metrics"]
                        )
                    )
        cost = group[0]["cost"]
        rows.append(
            [
                width,
                method,
                *(_spread(values, 1) for values in gains.values()),
                f"{cost['deployed_params']:,}",
                f"{cost['multiply_adds'] / 1e6:.1f}",
                f"{cost['trained_params']:,}",
            ]
        )
    head = [
        "width",
        "method",
        "improvement over single_task, %",
        "over hard_sharing, %",
        "deployed parameters",
        "M multiply-adds",
        "trained parameters",
    ]
    return _markdown(head, rows)


def _groups(lines):
    """Yields width, method and the lines of all its seeds."""
    for width in sorted(WIDTHS):
        for method in METHODS:
            group = [x for x in lines if _key(x)[:2] == (width, method)]
            if group:
                yield width, method, group


def _key(line):
    settings = line["settings"]
    return settings["width"], settings["method"], settings["seed"]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, x)) + " |" for x in lines)


def _lines(out: pathlib.Path) -> list[dict[str, Any]]:
    if not out.exists():
        return []
    return [json.loads(line) for line in out.read_text().splitlines()]


def main() -> int:
    """Reads the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("next", "table"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--camvid", default="", help="the folder of CamVid")
    parser.add_argument("--data", default="rooms,camvid")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--budget", choices=list(_BUDGETS), default="short")
    asked = parser.parse_args()
    if asked.command == "table":
        print(table(asked.out))
        return 0
    wanted = runs(
        asked.budget,
        asked.methods.split(","),
        [int(seed) for seed in asked.seeds.split(",")],
        asked.data.split(","),
        asked.camvid,
    )
    return do_next(asked.out, wanted)


if __name__ == "__main__":
    sys.exit(main())
