"""The tasks `glyphs/...`: letters and digits of several scripts, as if by hand.

Invariant: an image depends on (task, split, class) and the fonts alone, so
splits share no draw and more images of one split change no other. The letters
come from the fonts that ship with matplotlib.
"""

from __future__ import annotations

import functools
import pathlib

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.data import task_source
from keras_munet.data import types
from keras_munet.data.builtin import distortion

ALPHABETS: dict[str, str] = {
    "glyphs/cyrillic": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "glyphs/digits": "0123456789",
    "glyphs/greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "glyphs/latin": "abcdefghijklmnopqrstuvwxyz",
}
NUM_PER_CLASS = {"train": 120, "validation": 20, "test": 20}
IMAGE_SIZE = 32
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
)
_SEED = 0
_TEMPLATE_SIDE = 64
_FONT_PIXELS = 53
_BLUR_PIXELS = 1.7
# No font has a picture for it; fonts draw their "missing" sign instead.
_NO_CHARACTER = "\U0010fffe"


def load_glyphs(task_name: str) -> types.TaskData:
    """Returns grey images, `[n, 32, 32, 1] uint8`, ink bright on dark.

    Args:
      task_name: a key of `ALPHABETS`.

    Raises:
      DataError: matplotlib is not installed, or lacks its fonts.
    """
    alphabet = ALPHABETS[task_name]
    fonts = _fonts()
    templates = [_templates(letter, fonts) for letter in alphabet]
    counts = np.array([len(t) for t in templates])
    starts = np.cumsum(counts) - counts
    stacked = distortion.blur(np.concatenate(templates), _BLUR_PIXELS)
    splits = {}
    for name, num_images in NUM_PER_CLASS.items():
        parts = []
        for label in range(len(alphabet)):
            rng = seeds.generator(_SEED, task_name, name, label)
            picked = starts[label] + rng.integers(
                counts[label], size=num_images
            )
            parts.append(distortion.draw(stacked, picked, IMAGE_SIZE, rng))
        labels = np.repeat(np.arange(len(alphabet), dtype=np.int32), num_images)
        order = seeds.generator(_SEED, task_name, name).permutation(len(labels))
        images = np.concatenate(parts)[order, :, :, None]
        splits[name] = types.Split(images, labels[order])
    return types.TaskData(
        name=task_name,
        num_classes=len(alphabet),
        class_names=tuple(alphabet),
        notices=(),
        **splits,
    )


def _fonts() -> list:
    """Returns the fonts at one size, without matplotlib's font cache."""
    try:
        import matplotlib
        from PIL import ImageFont
    except ImportError as e:
        raise errors.DataError(
            "glyph tasks need matplotlib, which is not installed; run "
            "pip install keras_munet[embedded]"
        ) from e
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = []
    for name in _FONTS:
        path = folder / f"{name}.ttf"
        if not path.is_file():
            raise errors.DataError(
                f"font file {path} is missing; run pip install "
                "--force-reinstall matplotlib"
            )
        # The plain layout engine gives the same place on every platform.
        fonts.append(
            ImageFont.truetype(
                str(path), _FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC
            )
        )
    return fonts


def _templates(letter: str, fonts: list) -> np.ndarray:
    """Returns `[fonts that have it, side, side] float32` ink in [0, 1]."""
    from PIL import Image
    from PIL import ImageDraw

    pictures = []
    for font in fonts:
        if bytes(font.getmask(letter)) == bytes(font.getmask(_NO_CHARACTER)):
            continue
        canvas = Image.new("L", (_TEMPLATE_SIDE, _TEMPLATE_SIDE))
        left, top, right, bottom = font.getbbox(letter)
        position = (
            (_TEMPLATE_SIDE - left - right) / 2,
            (_TEMPLATE_SIDE - top - bottom) / 2,
        )
        ImageDraw.Draw(canvas).text(position, letter, font=font, fill=255)
        pictures.append(np.asarray(canvas, np.float32) / 255.0)
    return np.stack(pictures)


SOURCE = task_source.EmbeddedTasks(
    {name: functools.partial(load_glyphs, name) for name in ALPHABETS}
)
