"""Test accuracy and CPU seconds of the own-images config and its alternatives.

    python tests/benchmarks/quality.py [--tasks=digits,glyphs/greek]
        [--seeds=0,1] [--methods=...] [--data_dir=DIR] [--manual_dir=DIR]
        [--config=own_images] [--flags="--config.hparams.mu=0.2 ..."]

Methods, each a process of its own, so that seconds hold all imports:

- `lda`, `logistic`: closed-form and logistic classifiers on the frozen
  features of the packaged root, penalties chosen on validation data;
- `fine_tune`: `quality_peer.py`, the root trained whole by Keras and AdamW
  with shift and zoom, 10 epochs, its learning rate chosen on validation data
  beforehand (those seconds are not counted);
- `config`: `launch/evolve.py` with `configs/own_images.py`, a system for each
  task;
- `system`: the same command for all tasks, in the order of `--tasks`, in one
  system.

Prints a row for each task, method and seed: test accuracy, CPU seconds (user
and system, of all threads), parameters of the task's model; of `system` the
seconds are a share of the whole, and parameters those that no earlier task
has. Then means over tasks and seeds, their standard error over seeds, and of
`system` the differences from each other method, task by task.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from keras_munet.store import system_dir

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_SHARED = _ROOT.parent / "shared" / "data" / "tfds_manual"
_METHODS = ("lda", "logistic", "fine_tune", "config")


class Row(NamedTuple):
    """What a method of a task came to with a seed."""

    task: str
    method: str
    seed: int
    accuracy: float
    secs: float
    num_params: int


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", default="digits,glyphs/greek")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--methods", default=",".join(_METHODS))
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--manual_dir", default=str(_SHARED))
    parser.add_argument("--config", default="own_images")
    parser.add_argument("--flags", default="")
    asked = parser.parse_args()
    print("| task | method | seed | test accuracy | CPU s | parameters |")
    print("|---|---|---|---|---|---|")
    rows: list[Row] = []
    tasks = asked.tasks.split(",")
    for seed in map(int, asked.seeds.split(",")):
        for method in asked.methods.split(","):
            if method == "system":
                new = _together(tasks, seed, asked)
            else:
                new = (_measured(task, method, seed, asked) for task in tasks)
            for row in new:
                print(
                    f"| {row.task} | {row.method} | {row.seed} | "
                    f"{row.accuracy:.3f} | {row.secs:.1f} | "
                    f"{row.num_params:,} |",
                    flush=True,
                )
                rows.append(row)
    print("\n" + "\n".join(_summary(rows)))


def _summary(rows: list[Row]) -> list[str]:
    """Returns a table of the methods' means, and one of their differences."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [
        "| method | mean accuracy | standard error | CPU s | parameters |",
        "|---|---|---|---|---|",
    ]
    for method in methods:
        own = [row for row in rows if row.method == method]
        by_seed = [
            statistics.mean(row.accuracy for row in own if row.seed == seed)
            for seed in sorted({row.seed for row in own})
        ]
        lines.append(
            f"| {method} | {statistics.mean(by_seed):.4f} | {_error(by_seed)} |"
            f" {statistics.mean(row.secs for row in own):.1f} | "
            f"{statistics.mean(row.num_params for row in own):,.0f} |"
        )
    if "system" not in methods:
        return lines
    lines += [
        "",
        "| system less | mean | standard error over seeds | least of a task |",
        "|---|---|---|---|",
    ]
    of = {(row.method, row.task, row.seed): row.accuracy for row in rows}
    for method in methods:
        gains = {
            (task, seed): of["system", task, seed] - accuracy
            for (other, task, seed), accuracy in of.items()
            if other == method != "system"
        }
        if not gains:
            continue
        by_seed, by_task = (
            [
                statistics.mean(g for key, g in gains.items() if key[i] == one)
                for one in dict.fromkeys(key[i] for key in gains)
            ]
            for i in (1, 0)
        )
        lines.append(
            f"| {method} | {statistics.mean(by_seed):+.4f} | {_error(by_seed)} "
            f"| {min(by_task):+.4f} |"
        )
    return lines


def _error(values: list[float]) -> str:
    """Returns the standard error of a mean; empty for one value."""
    if len(values) < 2:
        return ""
    return f"{statistics.stdev(values) / len(values) ** 0.5:.4f}"


def _evolved(
    tasks: list[str], seed: int, folder: str, asked: argparse.Namespace
) -> float:
    """Runs the launcher; returns its CPU seconds."""
    _, secs = _timed(
        [
            str(_ROOT / "launch" / "evolve.py"),
            f"--config={_ROOT}/configs/{asked.config}.py:{','.join(tasks)}",
            f"--workdir={folder}",
            f"--config.data.data_dir={asked.data_dir}",
            f"--config.data.manual_dir={asked.manual_dir}",
            f"--config.seed={seed}",
            *shlex.split(asked.flags),
        ]
    )
    return secs


def _together(
    tasks: list[str], seed: int, asked: argparse.Namespace
) -> list[Row]:
    """Returns the rows of one system of all tasks."""
    with tempfile.TemporaryDirectory() as folder:
        secs = _evolved(tasks, seed, f"{folder}/run", asked)
        states = system_dir.SystemDir.open(f"{folder}/run").tasks()
    rows, known = [], set()
    for task in tasks:
        path = states[task].published
        new = {ref.id: ref.num_params for ref in path.components}
        num_params = sum(n for key, n in new.items() if key not in known)
        known |= new.keys()
        accuracy = path.metrics["test_quality"]
        rows.append(
            Row(task, "system", seed, accuracy, secs / len(tasks), num_params)
        )
    return rows


def _measured(
    task: str, method: str, seed: int, asked: argparse.Namespace
) -> Row:
    """Returns what a method of one task comes to."""
    if method == "config":
        with tempfile.TemporaryDirectory() as folder:
            secs = _evolved([task], seed, f"{folder}/run", asked)
            states = system_dir.SystemDir.open(f"{folder}/run").tasks()
        path = states[task].published
        accuracy = path.metrics["test_quality"]
        return Row(task, method, seed, accuracy, secs, path.num_params)
    question = {
        "task": task,
        "method": method,
        "seed": seed,
        "data_dir": asked.data_dir,
        "manual_dir": asked.manual_dir,
    }
    command = [str(_HERE / "quality_peer.py")]
    if method == "fine_tune":
        question["learning_rate"] = _tuned_rate(
            json.dumps({**question, "seed": 0})
        )
    out, secs = _timed([*command, json.dumps(question)])
    answer = json.loads(out)
    return Row(
        task, method, seed, answer["accuracy"], secs, answer["num_params"]
    )


@functools.lru_cache
def _tuned_rate(question: str) -> float:
    """Returns the learning rate that validation data choose, by one seed."""
    tune = json.dumps({**json.loads(question), "tune": 1})
    chosen, _ = _timed([str(_HERE / "quality_peer.py"), tune])
    return json.loads(chosen)["learning_rate"]


def _timed(command: list[str]) -> tuple[str, float]:
    """Returns what a program prints and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    secs = (after.ru_utime + after.ru_stime) - (
        before.ru_utime + before.ru_stime
    )
    return done.stdout, secs


if __name__ == "__main__":
    main()
