"""Three small tasks that come with the install; a few minutes on 2 cores.

    python launch/evolve.py --config=configs/quickstart.py --workdir=DIR

Digits are the UCI handwritten digits of scikit-learn; glyphs are letters of
matplotlib's fonts, distorted like handwriting. The root is the packaged small
ViT, which has seen other characters (docs/roots.md).
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config() -> ml_collections.ConfigDict:
    config = config_lib.base()
    config.task_names = ["digits", "glyphs/greek", "glyphs/cyrillic"]
    config.num_task_iters = 2
    config.num_samples_per_task = 16
    config.children_per_generation = 8
    config.num_validations_per_path_training = 4
    config.num_train_examples_between_validations_max = 1024
    config.num_validation_examples_max = 512
    config.batch_size = 32
    config.root.source = "packaged"
    config.root.num_layers = 2
    config.root.image_size = 32
    # Few children: let each change more, and faster.
    config.hparams.mu = 0.3
    config.hparams.opt_lr = 0.05
    # Characters have a left and a right, and fill their image.
    config.hparams.ds_flip_left_right = False
    config.hparams.ds_area_range_min = 0.5
    return config
