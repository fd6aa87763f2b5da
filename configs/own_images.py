"""Tasks named on the command line, e.g. your own images; minutes on 2 cores.

    python launch/tasks.py prepare folder:PATH --data_dir=DATA
    python launch/evolve.py --config=configs/own_images.py:own/NAME \
        --workdir=DIR --config.data.data_dir=DATA

PATH holds a folder of images for each class; NAME is its last part. Several
tasks are named with a comma between, in order. The root is the small ViT that
comes with the install and knows nothing; use pretrained weights for scores.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config(task_names: str = "") -> ml_collections.ConfigDict:
    config = config_lib.base()
    config.task_names = [n for n in task_names.split(",") if n]
    config.num_task_iters = 1
    config.num_samples_per_task = 16
    config.children_per_generation = 8
    config.num_validations_per_path_training = 4
    config.num_train_examples_between_validations_max = 1024
    config.num_validation_examples_max = 512
    config.batch_size = 32
    config.root.source = "packaged"
    config.root.num_layers = 2
    config.root.image_size = 32
    config.hparams.mu = 0.3
    config.hparams.opt_lr = 0.05
    config.hparams.ds_area_range_min = 0.5
    return config
