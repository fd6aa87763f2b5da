"""Characters to learn from: rendered glyphs and drawings of Omniglot.

Invariant: no character of a `glyphs/...` task and no image of `digits` is
among them, so that these tasks stay a test. A picture depends on (seed,
epoch, its template) alone.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.data import tasks
from keras_munet.data.builtin import distortion
from keras_munet.data.builtin import glyphs

# Code points, first and last, of scripts that matplotlib's fonts can write.
SCRIPTS: dict[str, tuple[int, int]] = {
    "latin_capitals": (0x41, 0x5A),
    "phonetic": (0x250, 0x2AD),
    "armenian_capitals": (0x531, 0x556),
    "armenian": (0x561, 0x586),
    "hebrew": (0x5D0, 0x5EA),
    "arabic": (0x621, 0x64A),
    "nko": (0x7C0, 0x7EA),
    "lao": (0xE81, 0xEAE),
    "georgian": (0x10D0, 0x10FA),
    "syllabics": (0x1401, 0x1480),
    "operators": (0x2200, 0x22FF),
    "tifinagh": (0x2D30, 0x2D65),
}
_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
)
_OMNIGLOT = "omniglot"
_SIDE = 64
_FONT_PIXELS = 53
_BLUR_PIXELS = 1.7
# Of Omniglot's twenty drawings of a character, for validation.
_NUM_HELD_OUT = 2
_NUM_DRAWN_AT_ONCE = 2_048


@dataclasses.dataclass(frozen=True)
class Characters:
    """Clean pictures that any number of distorted ones are drawn from.

    Attributes:
      templates: `[n, 64, 64] uint8`, blurred ink, bright on dark.
      labels: `[n] int32`.
      num_classes: labels lie in [0, num_classes).
    """

    templates: np.ndarray
    labels: np.ndarray
    num_classes: int

    def draw(
        self, num_images: int, size: int, *event: str | int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns distorted pictures, classes equally often.

        Args:
          num_images: how many.
          size: side of the pictures, pixels.
          *event: seed and what distinguishes this draw from others.

        Returns:
          `[num_images, size, size, 1] uint8` and labels `[num_images] int32`.
        """
        rng = seeds.generator(0, "characters", *event)
        order = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels, minlength=self.num_classes)
        starts = np.cumsum(counts) - counts
        present = np.flatnonzero(counts)
        labels = rng.permutation(np.resize(present, num_images))
        picked = order[starts[labels] + rng.integers(counts[labels])]
        images = np.empty((num_images, size, size, 1), np.uint8)
        for start in range(0, num_images, _NUM_DRAWN_AT_ONCE):
            part = picked[start : start + _NUM_DRAWN_AT_ONCE]
            ink = self.templates[part].astype(np.float32) / 255.0
            ink_images = distortion.draw(ink, np.arange(len(part)), size, rng)
            images[start : start + len(part), :, :, 0] = ink_images
        return images, labels.astype(np.int32)


def load_characters(
    scripts: Sequence[str], omniglot_dir: str
) -> tuple[Characters, dict[str, Characters]]:
    """Returns the characters to train on, and to validate on by source.

    Args:
      scripts: keys of `SCRIPTS`.
      omniglot_dir: prepared TFDS data with Omniglot; empty for none.

    Raises:
      UsageError: an unknown script, or nothing to learn from.
      DataError: the fonts or Omniglot cannot be had.
    """
    unknown = [s for s in scripts if s not in SCRIPTS]
    if unknown or not (scripts or omniglot_dir):
        raise errors.UsageError(
            f"config key scripts has {unknown}; it must be of "
            f"{', '.join(SCRIPTS)}, or empty where Omniglot is given"
        )
    trained, held_out = [], {}
    if scripts:
        rendered = _rendered(scripts)
        trained.append(rendered)
        held_out["glyphs"] = rendered
    if omniglot_dir:
        start = trained[0].num_classes if trained else 0
        omniglot, held_out["omniglot"] = _omniglot(omniglot_dir, start)
        trained.append(omniglot)
    whole = Characters(
        np.concatenate([part.templates for part in trained]),
        np.concatenate([part.labels for part in trained]),
        trained[-1].num_classes,
    )
    return whole, held_out


def _rendered(scripts: Sequence[str]) -> Characters:
    """Returns every character in every font that has it."""
    try:
        import matplotlib
        from matplotlib import ft2font
        from PIL import ImageFont
    except ImportError as e:
        raise errors.DataError(
            "rendered glyphs need matplotlib, which is not installed; run "
            "pip install keras_munet[embedded]"
        ) from e
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    task_letters = set("".join(glyphs.ALPHABETS.values()))
    fonts = []
    for name in _FONTS:
        path = str(folder / f"{name}.ttf")
        charmap = set(ft2font.FT2Font(path).get_charmap())
        font = ImageFont.truetype(
            path, _FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC
        )
        fonts.append((font, charmap))
    templates, labels, label = [], [], 0
    for script in scripts:
        first, last = SCRIPTS[script]
        for code in range(first, last + 1):
            pictures = [
                _picture(chr(code), font)
                for font, charmap in fonts
                if code in charmap and chr(code) not in task_letters
            ]
            if pictures:
                templates += pictures
                labels += [label] * len(pictures)
                label += 1
    ink = distortion.blur(np.stack(templates), _BLUR_PIXELS)
    return Characters(_as_uint8(ink), np.array(labels, np.int32), label)


def _picture(letter: str, font) -> np.ndarray:
    """Returns `[64, 64] float32` ink in [0, 1], the letter in the middle."""
    from PIL import Image
    from PIL import ImageDraw

    canvas = Image.new("L", (_SIDE, _SIDE))
    left, top, right, bottom = font.getbbox(letter)
    position = (_SIDE - left - right) / 2, (_SIDE - top - bottom) / 2
    ImageDraw.Draw(canvas).text(position, letter, font=font, fill=255)
    return np.asarray(canvas, np.float32) / 255.0


def _omniglot(folder: str, start: int) -> tuple[Characters, Characters]:
    """Returns Omniglot's background drawings, to train and held out."""
    from PIL import Image

    split = tasks.load(_OMNIGLOT, data_dir=folder).train
    shrunk = np.stack(
        [
            # Ink is dark there; thin strokes survive a box filter.
            255
            - np.asarray(
                Image.fromarray(image[..., 0]).resize(
                    (_SIDE, _SIDE), Image.Resampling.BOX
                )
            )
            for image in split.images
        ]
    )
    ink = distortion.blur(shrunk.astype(np.float32) / 255.0, _BLUR_PIXELS)
    # The scale that the fonts' strokes have.
    ink /= ink.max(axis=(1, 2), keepdims=True).clip(min=1e-3)
    alphabet_ids, labels = np.unique(split.labels, return_inverse=True)
    labels = (labels + start).astype(np.int32)
    is_held_out = np.zeros(len(labels), bool)
    for label in range(start, start + len(alphabet_ids)):
        is_held_out[np.flatnonzero(labels == label)[:_NUM_HELD_OUT]] = True
    templates, total = _as_uint8(ink), start + len(alphabet_ids)
    return (
        Characters(templates[~is_held_out], labels[~is_held_out], total),
        Characters(templates[is_held_out], labels[is_held_out], total),
    )


def _as_uint8(ink: np.ndarray) -> np.ndarray:
    return np.rint(255.0 * np.clip(ink, 0.0, 1.0)).astype(np.uint8)
