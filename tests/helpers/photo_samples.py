"""A folder of photographs of every kind, prepared, evolved and exported."""

from __future__ import annotations

import io
import pathlib

import numpy as np
from PIL import Image

import keras_munet
from keras_munet.core import settings as settings_lib
from keras_munet.data.own import prepare

TASK = "own/photos"
NUM_PER_CLASS = 66
_ORIENTATION = 0x0112
# How a camera stores what each EXIF orientation is to turn.
BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _picture(rng, label):
    """Returns an upright picture that is bright at the top, left or nowhere."""
    height, width = rng.integers(40, 90, 2)
    pixels = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    if label == "top":
        pixels[: height // 3] += 140
    if label == "left":
        pixels[:, : width // 3] += 140
    return Image.fromarray(pixels)


def file(image, kind, orientation):
    """Returns the file of a camera that was held as `orientation` says."""
    options = {}
    if kind in ("JPEG", "PNG"):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        options["exif"] = exif
        turn = BACK[orientation]
        image = image if turn is None else image.transpose(turn)
    if kind == "JPEG":
        options["quality"] = 95
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def build(base: pathlib.Path) -> None:
    """Makes `PHOTOS`, `data`, `system` and `served` in an empty folder."""
    rng = np.random.default_rng(0)
    kinds = ("JPEG", "PNG", "GIF", "BMP")
    for label in ("top", "left", "none"):
        (base / "PHOTOS" / label).mkdir(parents=True)
        for i in range(NUM_PER_CLASS):
            kind = kinds[i % 4] if i % 3 else "JPEG"
            content = file(_picture(rng, label), kind, 1 + i % 8)
            path = base / "PHOTOS" / label / f"{i}.{kind.lower()}"
            path.write_bytes(content)
    prepare.prepare_task(f"folder:{base}/PHOTOS", str(base / "data"), name=TASK)
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": [TASK],
            "num_task_iters": 1,
            "num_samples_per_task": 2,
            "children_per_generation": 2,
            "num_validations_per_path_training": 4,
            "batch_size": 16,
            "root": {"source": "packaged", "num_layers": 1},
            "search": {"force_finetune_components": ["*"]},
            "hparams": {
                "opt_lr": 0.05,
                "ds_crop": False,
                "ds_flip_left_right": False,
            },
            "data": {"data_dir": str(base / "data")},
        }
    )
    system = keras_munet.System.create(base / "system", settings)
    system.run()
    # A folder without data: the default one may have a task of this name.
    no_data = settings_lib.DataSettings(data_dir=str(base / "nothing"))
    keras_munet.System.open(base / "system", no_data).export(base / "served")
