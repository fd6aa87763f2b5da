"""Tasks named on the command line, e.g. your own images; a minute on 2 cores.

    python launch/tasks.py prepare folder:PATH --data_dir=DATA
    python launch/evolve.py --config=configs/own_images.py:own/NAME \
        --workdir=DIR --config.data.data_dir=DATA

PATH holds a folder of images for each class; NAME is its last part. Several
tasks are named with a comma between, in order. The root is the small ViT that
comes with the install, pretrained on characters; use pretrained weights of
photographs for photographs, and `--config.hparams.ds_flip_left_right=True`
where left and right do not matter.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config(task_names: str = "") -> ml_collections.ConfigDict:
    config = config_lib.base()
    config.task_names = [n for n in task_names.split(",") if n]
    config.num_task_iters = 1
    # Few children, each trained to the end: docs/decisions.md, 2026-11-30.
    config.num_samples_per_task = 4
    config.children_per_generation = 2
    config.num_validations_per_path_training = 8
    config.num_train_examples_between_validations_max = 1024
    config.num_validation_examples_max = 512
    config.batch_size = 32
    config.root.source = "packaged"
    config.root.num_layers = -1
    config.root.image_size = 32
    config.search.force_finetune_components = ["*"]
    config.search.first_data = "config"
    config.hparams.mu = 0.3
    config.hparams.opt_name = "adamw"
    config.hparams.opt_lr = 0.002
    config.hparams.opt_weight_decay = 0.0001
    config.hparams.ds_crop = False
    config.hparams.ds_flip_left_right = False
    config.hparams.ds_shift = 0.05
    config.hparams.ds_zoom = 0.05
    config.ranges.ds_shift = [0.0, 0.05, 0.1]
    config.ranges.ds_zoom = [0.0, 0.05, 0.1]
    # One bad draw would spoil all children of a generation.
    config.search.data_mu = 0.1
    return config
