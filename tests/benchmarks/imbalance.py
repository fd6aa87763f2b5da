"""Balanced accuracy of a 9:1 task, with class weights and without.

    python tests/benchmarks/imbalance.py [--seeds=0,1,2] [--letters=ijltfrkxvy]
        [--methods=accuracy,both]

The task is the first of ten letters of `glyphs/latin` against the other nine:
27 + 243 training images, 20 + 180 validation images, and the other 113 + 1,017
to test. Methods, each `launch/evolve.py` with `configs/own_images.py`:

- `accuracy`: the config as it is;
- `balanced`: with `search.quality=balanced_accuracy`;
- `weighted`: with `data.class_weights=auto`;
- `both`.

Prints a row for each method and seed: balanced accuracy, recall of the rare
class and accuracy on test images, CPU seconds (user and system).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from keras_munet.data import tasks

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TASK = "own/rare"
_QUALITY = "--config.search.quality=balanced_accuracy"
_WEIGHTS = "--config.data.class_weights=auto"
_METHODS = {
    "accuracy": [],
    "balanced": [_QUALITY],
    "weighted": [_WEIGHTS],
    "both": [_QUALITY, _WEIGHTS],
}
# Images of each letter; what remains tests.
_NUM_TRAIN, _NUM_VALIDATION = 27, 20


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--letters", default="ijltfrkxvy")
    parser.add_argument("--methods", default=",".join(_METHODS))
    asked = parser.parse_args()
    methods = asked.methods.split(",")
    print(
        "| method | seed | balanced accuracy | rare recall | accuracy | CPU s |"
    )
    print("|---|---|---|---|---|---|")
    means: dict[str, list[float]] = {method: [] for method in methods}
    with tempfile.TemporaryDirectory() as folder:
        _make(pathlib.Path(folder) / "IMAGES", asked.letters)
        _launch(
            "tasks",
            "prepare",
            f"folder:{folder}/IMAGES",
            f"--name={_TASK}",
            f"--data_dir={folder}/DATA",
        )
        for seed in asked.seeds.split(","):
            for method in methods:
                flags = _METHODS[method]
                row = _measured(folder, seed, f"{method}_{seed}", flags)
                means[method].append(row[0])
                shown = " | ".join(f"{value:.3f}" for value in row[:3])
                print(
                    f"| {method} | {seed} | {shown} | {row[3]:.1f} |",
                    flush=True,
                )
    for method, values in means.items():
        print(f"{method}: mean balanced accuracy {statistics.mean(values):.4f}")


def _make(folder: pathlib.Path, letters: str) -> None:
    """Writes the pictures, in the folder layout that `prepare` takes."""
    data = tasks.load("glyphs/latin")
    splits = data.train, data.validation, data.test
    images = np.concatenate([split.images[:] for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    for letter in letters:
        of_letter = images[labels == data.class_names.index(letter)]
        label = "rare" if letter == letters[0] else "common"
        for number, image in enumerate(of_letter):
            split = (
                "train"
                if number < _NUM_TRAIN
                else "validation"
                if number < _NUM_TRAIN + _NUM_VALIDATION
                else "test"
            )
            path = folder / split / label / f"{letter}{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)


def _measured(
    folder: str, seed: str, name: str, flags: list[str]
) -> tuple[float, float, float, float]:
    """Returns balanced accuracy, rare recall, accuracy and CPU seconds."""
    workdir = f"--workdir={folder}/{name}"
    config = f"--config={_ROOT}/configs/own_images.py:{_TASK}"
    data_dir = f"--config.data.data_dir={folder}/DATA"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _launch(
        "evolve", config, workdir, data_dir, f"--config.seed={seed}", *flags
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    secs = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured = json.loads(
        _launch("evaluate", workdir, f"--data_dir={folder}/DATA")
    )[_TASK]
    metrics = measured["test_metrics"]
    (rare,) = (c for c in metrics["per_class"] if c["class"] == "rare")
    return (
        metrics["balanced_accuracy"],
        rare["recall"],
        measured["test_accuracy"],
        secs,
    )


def _launch(name: str, *arguments: str) -> str:
    """Runs a launcher; returns what it prints."""
    done = subprocess.run(
        [sys.executable, str(_ROOT / "launch" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


if __name__ == "__main__":
    main()
