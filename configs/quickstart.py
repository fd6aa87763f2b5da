"""Three small real tasks that come with the install; a few minutes on 2 cores.

python launch/evolve.py --config=configs/quickstart.py --workdir=DIR
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config() -> ml_collections.ConfigDict:
    config = config_lib.base()
    config.task_names = ["glyphs/greek", "digits", "glyphs/cyrillic"]
    config.num_task_iters = 2
    config.num_samples_per_task = 16
    config.children_per_generation = 8
    config.num_validations_per_path_training = 4
    config.batch_size = 128
    config.root.source = "packaged"
    config.root.image_size = 32
    return config
