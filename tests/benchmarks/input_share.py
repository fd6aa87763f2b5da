"""The share of input in a generation, over picture sizes and colour jitter.

    python tests/benchmarks/input_share.py [--sides=32,160,480,1024]

Prepares a folder of coloured pictures of each side as a person would, trains
one generation of `configs/own_images.py` on it, and then computes that
generation's batches alone. Prints a row for each side, with jitter of
saturation and hue off and on: the stored side, CPU seconds of the generation,
CPU seconds of its batches, and their share.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image

import keras_munet
from keras_munet.data import preprocessing
from keras_munet.data import tasks as tasks_lib
from keras_munet.data.own import prepare
from keras_munet.train import batches
from keras_munet.train import engine

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TASK = "own/pictures"
_NUM_PER_CLASS = 150
_JITTER = {"ds_saturation_delta": 0.1, "ds_hue_delta": 0.1}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", default="32,160,480,1024")
    sides = [int(side) for side in parser.parse_args().sides.split(",")]
    print(
        "| side | stored | jitter | generation, CPU s | input, CPU s | share |"
    )
    print("|---|---|---|---|---|---|")
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            _draw(place / "PICTURES", side)
            prepare.prepare_task(
                f"folder:{place}/PICTURES", str(place / "data"), name=_TASK
            )
            for jitter in ({}, _JITTER):
                print(_row(place, side, jitter), flush=True)


def _draw(folder: pathlib.Path, side: int) -> None:
    """Writes two classes of coloured noise."""
    rng = np.random.default_rng(0)
    for label in ("bright", "dark"):
        (folder / label).mkdir(parents=True)
        low = 100 if label == "bright" else 0
        for i in range(_NUM_PER_CLASS):
            noise = rng.integers(low, low + 150, (8, 8, 3), np.uint8)
            image = Image.fromarray(noise).resize((side, side))
            image.save(folder / label / f"{i}.jpg", quality=90)


def _row(place: pathlib.Path, side: int, jitter: dict[str, float]) -> str:
    workdir = place / f"run_{bool(jitter)}"
    system = keras_munet.System.create(
        workdir, _settings(str(place / "data"), jitter)
    )
    # The preset has filled it.
    settings = system.settings
    data = tasks_lib.load(_TASK, data_dir=str(place / "data"))
    # The first use of everything is no part of what repeats.
    _batches_secs(data, settings)
    input_secs = _batches_secs(data, settings)
    started = time.process_time()
    system.run()
    secs = time.process_time() - started
    stored = " x ".join(map(str, data.train.images.shape[1:3]))
    return (
        f"| {side} | {stored} | {'on' if jitter else 'off'} | {secs:.2f} | "
        f"{input_secs:.2f} | {input_secs / secs:.0%} |"
    )


def _settings(data_dir: str, jitter: dict[str, float]) -> keras_munet.Settings:
    """Returns one generation of the config for a person's own pictures."""
    path = _ROOT / "configs" / "own_images.py"
    spec = importlib.util.spec_from_file_location("own_images", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(_TASK)
    config.data.data_dir = data_dir
    config.search.auto_tune = "off"
    config.hparams.update(jitter)
    return keras_munet.Settings.from_dict(config.to_dict())


def _batches_secs(data, settings: keras_munet.Settings) -> float:
    """Returns CPU seconds of all batches that a generation reads."""
    size = settings.root.image_size
    hparams = {
        **settings.hparams,
        **settings.data.hparams,
        "ds_image_size": size,
    }
    augment, jitter = engine.augmentation(data, hparams)
    held = batches.Batches()
    num_cycles = settings.num_validations_per_path_training
    num_train = min(
        len(data.train), settings.num_train_examples_between_validations_max
    )
    num_steps = num_cycles * max(1, num_train // settings.batch_size)
    rng = np.random.default_rng(0)
    indices = batches.shuffled_indices(
        rng, len(data.train), num_steps, settings.batch_size
    )
    started = time.process_time()
    factor = preprocessing.averaging_factor(
        data.train.images.shape[1:], hparams
    )
    images = preprocessing.averaged(data.train.images, factor)
    train = dataclasses.replace(data.train, images=images)
    data = dataclasses.replace(data, train=train)
    for batch in held.of(data, "train", indices):
        batches.training_batch(
            *batch, tf.constant([1, 2]), augment, size, jitter
        )
    rows, _ = batches.evaluation_batches(
        len(data.validation), settings.batch_size
    )
    # The engine keeps them for all cycles.
    for batch in held.of(data, "validation", rows):
        batches.evaluation_batch(*batch, size, settings.data.antialias)
    return time.process_time() - started


if __name__ == "__main__":
    main()
