"""Pretrains the root that comes with the install.

    python launch/pretrain.py --config=configs/pretrain_mu.py --out=FOLDER \
        --config.omniglot_dir=TFDS_FOLDER

TFDS_FOLDER has Omniglot prepared; without it only glyphs are learned from.
Figures of the packaged root stand in docs/roots.md.
"""

from __future__ import annotations

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.variant = "mu/8"
    config.image_size = 32
    config.scripts = [
        *("latin_capitals", "phonetic", "armenian_capitals", "armenian"),
        *("hebrew", "arabic", "nko", "lao", "georgian", "syllabics"),
        *("operators", "tifinagh"),
    ]
    config.omniglot_dir = ""
    config.num_draws = 20
    config.num_images_per_draw = 20_480
    config.num_epochs_per_draw = 2
    config.batch_size = 128
    config.learning_rate = 2e-3
    config.warmup_ratio = 0.05
    config.weight_decay = 0.05
    config.label_smoothing = 0.1
    return config
