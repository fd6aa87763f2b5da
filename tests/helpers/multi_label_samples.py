"""Pictures with any number of digits in them, from scikit-learn's digits."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image
from sklearn import datasets

from keras_munet.data import types
from keras_munet.data.own import tasks as own_tasks

NUM_CLASSES = 10
_SIDE = 8
_CANVAS_SIDE = 12


def overlaid_digits(
    num_images: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures of up to two digits at random places, and their labels.

    One in ten has no digit, two in ten have one. Where digits overlap, the
    brighter pixel counts.

    Args:
      num_images: how many.
      seed: of the draws.

    Returns:
      `[n, 12, 12, 1] uint8` and `[n, 10] int32` of 0 and 1.
    """
    digits = datasets.load_digits()
    pixels = (digits.images * 15).astype(np.uint8)
    rng = np.random.default_rng(seed)
    images = np.zeros((num_images, _CANVAS_SIDE, _CANVAS_SIDE, 1), np.uint8)
    labels = np.zeros((num_images, NUM_CLASSES), np.int32)
    for image, label in zip(images, labels, strict=True):
        for number in rng.integers(len(pixels), size=_num_digits(rng)):
            top, left = rng.integers(_CANVAS_SIDE - _SIDE + 1, size=2)
            part = image[top : top + _SIDE, left : left + _SIDE, 0]
            np.maximum(part, pixels[number], out=part)
            label[digits.target[number]] = 1
    return images, labels


def overlaid_task(
    num_images: int = 200, name: str = "own/overlaid"
) -> types.TaskData:
    """Returns a task of such pictures."""
    return own_tasks.from_arrays(name, *overlaid_digits(num_images))


def write_table(
    folder: pathlib.Path, images: np.ndarray, labels: np.ndarray
) -> str:
    """Writes pictures and `labels.csv`; returns `table:PATH`."""
    lines = ["path,labels"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
        names = "|".join(map(str, np.flatnonzero(label)))
        lines.append(f"{path.name},{names}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return f"table:{table}"


def _num_digits(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 1, 2], p=[0.1, 0.2, 0.7]))
