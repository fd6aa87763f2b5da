"""Three small tasks that come with the install; a minute on 2 cores.

    python launch/evolve.py --config=configs/quickstart.py --workdir=DIR

Digits are the UCI handwritten digits of scikit-learn; glyphs are letters of
matplotlib's fonts, distorted like handwriting. The root is the packaged small
ViT, which has seen other characters (docs/roots.md). The digits of fonts grow
from the path of the letters. Test accuracies to expect: 1.00, 0.97, 0.99.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config() -> ml_collections.ConfigDict:
    config = config_lib.small_tasks()
    config.task_names = ["digits", "glyphs/latin", "glyphs/digits"]
    config.preset = "small"
    return config
