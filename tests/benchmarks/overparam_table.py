"""Compares ways to train a compact network for several tasks, each tuned.

    python tests/benchmarks/overparam_table.py run --out=FILE.jsonl
        [--data=overlaid] [--data_dir=FOLDER] [--norm=yes,no] [--seeds=0,1,2]
        [--decays=0,0.3] [--rates=0.01] [--times=1]
        [--ways "plain" "task factors"]
    python tests/benchmarks/overparam_table.py table --out=FILE.jsonl

`run` does the runs that FILE lacks, a line each, so that it may be stopped and
started again. Every network trains on the same number of batches, `--times`
as many as usual, with every weight decay and rate of learning; the way `task
factors, equal shared steps` gets as many more as gives its shared factors that
number. `table` chooses decay and rate of each way on validation data, over all
seeds, and prints test results with paired differences to the plain network
(mean and 95% interval of Student's t over seeds) as Markdown.

`--data=mnist_kmnist` reads both as `launch/tasks.py prepare mnist kmnist
--data_dir=FOLDER` leaves them.
"""

from __future__ import annotations

import argparse
import collections
import gc
import itertools
import json
import math
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

from keras_munet.overparam.experiments import settings as settings_lib

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"method": "hard_sharing"},
    "common factor": {"method": "overparam_common"},
    "common factors, depth 3": {"method": "overparam_common", "depth": 3},
    "task factors": {"method": "overparam"},
    "task factors, depth 3": {"method": "overparam", "depth": 3},
    "task factors, equal shared steps": {"method": "overparam"},
    "single-task networks": {"method": "single_task"},
}
_EQUAL_SHARED_STEPS = "task factors, equal shared steps"
# What each data set's runs share; `single_width` is the width with which a
# network for each task has about the parameters of the one for all.
_COMMON: dict[str, dict[str, Any]] = {
    "overlaid": {
        "image_height": 16,
        "image_width": 16,
        "num_stages": 2,
        "width": 4,
        "single_width": 3,
        "num_tasks": 2,
        "num_epochs": 12,
        "batch_size": 32,
        "flip": False,
    },
    "mnist_kmnist": {
        "data": "overlaid",
        "overlaid": ["mnist", "kmnist"],
        "num_train": 8_000,
        "num_test": 4_000,
        "image_height": 32,
        "image_width": 32,
        "network": "resnet",
        "num_stages": 2,
        "width": 8,
        "single_width": 6,
        "num_tasks": 2,
        "num_epochs": 4,
        "batch_size": 32,
        "flip": False,
    },
    "camvid": {
        "image_height": 32,
        "image_width": 48,
        "num_stages": 2,
        "width": 8,
        "single_width": 5,
        "num_tasks": 3,
        "num_epochs": 10,
        "batch_size": 8,
    },
}
# 0.975 quantiles of Student's t by degrees of freedom.
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
_MAIN = ("accuracy", "miou", "average_precision", "mean_average_precision")


def settings_of(
    flags: argparse.Namespace,
) -> list[tuple[str, settings_lib.Settings]]:
    """Returns (way, settings) of every run, all seeds of each together."""
    common = {"data": flags.data, **_COMMON[flags.data]}
    single_width = common.pop("single_width")
    num_tasks = common.pop("num_tasks")
    common["num_epochs"] *= flags.times
    runs = []
    for norm, decay, rate, way, seed in itertools.product(
        [word == "yes" for word in flags.norm.split(",")],
        map(float, flags.decays.split(",")),
        map(float, flags.rates.split(",")),
        flags.ways,
        map(int, flags.seeds.split(",")),
    ):
        own = dict(WAYS[way])
        if own["method"] == "single_task":
            own["width"] = single_width
        if way == _EQUAL_SHARED_STEPS:
            own["num_epochs"] = common["num_epochs"] * (num_tasks + 1)
        fixed = {
            "data_dir": flags.data_dir,
            "norm": norm,
            "seed": seed,
            "weight_decay": decay,
            "learning_rate": rate,
        }
        settings = settings_lib.Settings.from_dict({**common, **fixed, **own})
        runs.append((way, settings))
    return runs


def run(out: pathlib.Path, runs: list[tuple[str, settings_lib.Settings]]):
    """Does every run that the file lacks."""
    finished = [(line["way"], line["settings"]) for line in _lines(out)]
    runs = [r for r in runs if (r[0], r[1].to_json()) not in finished]
    if not runs:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    from keras_munet.overparam.experiments import run as run_lib
    from keras_munet.overparam.experiments.datasets import sources
    from keras_munet.train.devices import strategy

    # Half of a run is tracing.
    run_lib.make_network = _reusing(run_lib.make_network)
    gc.disable()
    keras.config.disable_traceback_filtering()
    tf.debugging.disable_traceback_filtering()
    # The operations are too small for threads to be worth their start.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # Rewriting graphs takes longer than it saves in a few hundred steps.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    # The runs of one call differ in no setting that data follow from.
    data = sources.load_source(runs[0][1])
    one_device = strategy.make_strategy("one_device")
    for way, settings in runs:
        with tempfile.TemporaryDirectory() as folder:
            result = run_lib.run(
                settings,
                folder,
                one_device,
                data=data,
                say=lambda line: None,
            )
        with out.open("a") as file:
            line = {"way": way, **result}
            file.write(json.dumps(line, sort_keys=True) + "\n")
        gc.collect()
        print(way, settings.norm, settings.weight_decay, settings.seed)


def _reusing(make_network: Callable[..., Any]) -> Callable[..., Any]:
    """Has runs that differ in their seed alone share traced functions.

    Args:
      make_network: returns a network of its first values, not compiled.

    Returns:
      The same, but a network that was trained comes back, and its `compile`
      gives it and its optimizer the values of a new one.
    """
    cache: dict[str, Any] = {}

    def reusing(settings: settings_lib.Settings, tasks: Any) -> Any:
        new = make_network(settings, tasks)
        values = {**settings.to_json(), "seed": None}
        key = json.dumps([values, [task.name for task in tasks]])
        if key not in cache:
            if json.dumps(values) not in "".join(cache):
                cache.clear()
            cache[key] = new
            return new

        def restart(*args: Any, **kwargs: Any) -> None:
            cache[key].set_weights(new.get_weights())
            for variable in cache[key].optimizer.variables:
                variable.assign(variable * 0)

        cache[key].compile = restart
        return cache[key]

    return reusing


def table(out: pathlib.Path) -> str:
    """Returns the comparisons as Markdown: of each data set, norms, epochs."""
    groups = collections.defaultdict(list)
    for line in _lines(out):
        settings = line["settings"]
        name = settings["data"]
        if name == "overlaid":
            name = " and ".join(settings["overlaid"])
        epochs = settings["num_epochs"]
        if line["way"] == _EQUAL_SHARED_STEPS:
            epochs //= len(line["metrics"]) + 1
        norms = "with" if settings["norm"] else "without"
        groups[f"{name}, {norms} batch norms, {epochs} epochs"].append(line)
    return "\n\n".join(
        f"### {title}\n\n{_table(lines)}" for title, lines in groups.items()
    )


def _table(lines: list[dict[str, Any]]) -> str:
    by_way: dict[str, dict[tuple[float, float], dict[int, dict[str, Any]]]]
    by_way = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in lines:
        settings = line["settings"]
        tuned = settings["weight_decay"], settings["learning_rate"]
        by_way[line["way"]][tuned][settings["seed"]] = line
    chosen = {way: _best(by_tuned) for way, by_tuned in by_way.items()}
    plain = chosen["plain"][1]
    tasks = sorted(lines[0]["metrics"])
    rows = []
    for way in WAYS:
        if way not in chosen:
            continue
        (decay, rate), by_seed = chosen[way]
        tried = [
            sorted(set(values)) for values in zip(*by_way[way], strict=True)
        ]
        scores = {s: _score(x, "metrics") for s, x in by_seed.items()}
        differences = [
            scores[s] - _score(plain[s], "metrics")
            for s in scores
            if s in plain
        ]
        of_tasks = [
            statistics.mean(_main(x["metrics"][t]) for x in by_seed.values())
            for t in tasks
        ]
        cost = next(iter(by_seed.values()))["cost"]
        rows.append(
            [
                way,
                _of(decay, tried[0]),
                _of(rate, tried[1]),
                *(f"{value:.1f}" for value in of_tasks),
                f"{statistics.mean(scores.values()):.1f}",
                "" if way == "plain" else _interval(differences),
                f"{cost['num_steps']:,}",
                f"{cost['trained_params']:,}",
                f"{cost['deployed_params']:,}",
                f"{cost['multiply_adds'] / 1e6:.1f} M",
            ]
        )
    metric = {task: _main_name(lines[0]["metrics"][task]) for task in tasks}
    head = [
        *("way", "weight decay", "rate"),
        *(f"{task}, {metric[task].replace('_', ' ')}" for task in tasks),
        *("mean of tasks", "minus plain", "batches", "trained parameters"),
        *("deployed", "multiply-adds"),
    ]
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells)


def _of(value: float, tried: list[float]) -> str:
    return f"{value:g} of {', '.join(f'{x:g}' for x in tried)}"


def _best(by_tuned):
    """Returns what is best on validation data, and its runs."""
    num_seeds = max(map(len, by_tuned.values()))
    whole = {x: runs for x, runs in by_tuned.items() if len(runs) == num_seeds}
    best = max(
        whole,
        key=lambda x: statistics.mean(
            _score(line, "validation") for line in whole[x].values()
        ),
    )
    return best, whole[best]


def _score(line: dict[str, Any], split: str) -> float:
    """Returns the mean over tasks of each one's main metric, in percent."""
    return statistics.mean(_main(values) for values in line[split].values())


def _main(values: dict[str, float]) -> float:
    return 100 * values[_main_name(values)]


def _main_name(values: dict[str, float]) -> str:
    return next(name for name in _MAIN if name in values)


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
    parser.add_argument(
        "--ways", nargs="*", choices=list(WAYS), default=list(WAYS)
    )
    parser.add_argument("--decays", default="0,0.3")
    parser.add_argument("--rates", default="0.01")
    parser.add_argument("--norm", default="yes,no")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--times", type=int, default=1)
    flags = parser.parse_args()
    if flags.command == "table":
        print(table(flags.out))
        return
    run(flags.out, settings_of(flags))


if __name__ == "__main__":
    main()
