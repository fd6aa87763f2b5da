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
- `config`: `launch/evolve.py` with `configs/own_images.py`.

Prints a row for each task, method and seed: test accuracy, CPU seconds (user
and system, of all threads), parameters of the task's model.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_SHARED = _ROOT.parent / "shared" / "data" / "tfds_manual"
_METHODS = ("lda", "logistic", "fine_tune", "config")
_ACCURACY = re.compile(r"test accuracy ([\d.]+), ([\d,]+) parameters")


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
    means: dict[str, list[tuple[float, float]]] = {}
    for task in asked.tasks.split(","):
        for method in asked.methods.split(","):
            for seed in map(int, asked.seeds.split(",")):
                accuracy, secs, num_params = _measured(
                    task, method, seed, asked
                )
                print(
                    f"| {task} | {method} | {seed} | {accuracy:.3f} | "
                    f"{secs:.1f} | {num_params:,} |",
                    flush=True,
                )
                means.setdefault(method, []).append((accuracy, secs))
    for method, rows in means.items():
        accuracies, secs = zip(*rows, strict=True)
        print(
            f"| mean | {method} | | {statistics.mean(accuracies):.3f} | "
            f"{statistics.mean(secs):.1f} | |"
        )


def _measured(
    task: str, method: str, seed: int, asked: argparse.Namespace
) -> tuple[float, float, int]:
    """Returns (test accuracy, CPU seconds, parameters)."""
    with tempfile.TemporaryDirectory() as folder:
        if method == "config":
            out, secs = _timed(
                [
                    str(_ROOT / "launch" / "evolve.py"),
                    f"--config={_ROOT}/configs/{asked.config}.py:{task}",
                    f"--workdir={folder}/run",
                    f"--config.data.data_dir={asked.data_dir}",
                    f"--config.data.manual_dir={asked.manual_dir}",
                    f"--config.seed={seed}",
                    *shlex.split(asked.flags),
                ]
            )
            match = _ACCURACY.search(out)
            assert match is not None, out
            return float(match[1]), secs, int(match[2].replace(",", ""))
        question = {
            "task": task,
            "method": method,
            "seed": seed,
            "data_dir": asked.data_dir,
            "manual_dir": asked.manual_dir,
        }
        command = [str(_HERE / "quality_peer.py")]
        if method == "fine_tune":
            chosen, _ = _timed([*command, json.dumps({**question, "tune": 1})])
            question["learning_rate"] = json.loads(chosen)["learning_rate"]
        out, secs = _timed([*command, json.dumps(question)])
        answer = json.loads(out)
        return answer["accuracy"], secs, answer["num_params"]


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
