"""What the pages speak of and do not make: a system, pictures, copies."""

from __future__ import annotations

import pathlib
import shutil

import doc_blocks
import export_samples
import numpy as np
from PIL import Image

from keras_munet.core import seeds

_TASKS = {"digits": 10, "glyphs/latin": 26}
# Pages that begin where another one ended: with a system in runs/mine.
_WITH_SYSTEM = ("docs/report.md", "docs/serving.md", "docs/store.md")


def folder_for(page: str, folder: pathlib.Path) -> None:
    """Makes the folder in which the blocks of a page run.

    It looks like the checkout with an environment, and holds what the page
    expects to be there.
    """
    for name in ("configs", "docs", "examples", "launch", "tests"):
        if (doc_blocks.ROOT / name).is_dir():
            (folder / name).symlink_to(doc_blocks.ROOT / name)
    text = (doc_blocks.ROOT / page).read_text(encoding="utf-8")
    if page in _WITH_SYSTEM:
        export_samples.system(folder / "runs/mine", _TASKS, num_layers=1)
    if "runs/copy" in text:
        shutil.copytree(folder / "runs/mine", folder / "runs/copy")
    if "runs/theirs" in text:
        theirs = {"glyphs/greek": 24}
        export_samples.system(folder / "runs/theirs", theirs, num_layers=1)
    for name in ("IMAGES", "PATH", "photos"):
        # The page of own images makes its own.
        if page != "docs/own_data.md" and f"folder:{name}" in text:
            pictures(folder / name)


def pictures(folder: pathlib.Path) -> None:
    """Writes 2 classes of 30 pictures of 24 x 24 pixels."""
    rng = seeds.generator(0, "pictures")
    for low, name in ((0, "dark"), (128, "light")):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(low, low + 128, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
