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
    # `small` for up to 5,000 images: one child, trained to the end, beside the
    # one with a solved head (docs/decisions.md, 2026-11-30). A number that is
    # not 0 is kept.
    config.preset = "auto"
    config.num_samples_per_task = 0
    config.children_per_generation = 0
    config.num_validations_per_path_training = 0
    config.num_train_examples_between_validations_max = 0
    config.num_validation_examples_max = 512
    config.batch_size = 64
    config.root.source = "packaged"
    config.root.num_layers = -1
    config.root.image_size = 32
    # Builds on the path whose features suit the task best, and shares the lower
    # half of it where they do.
    config.search.probe_child = True
    config.search.rank_parents = "probe"
    config.search.force_finetune_components = ["upper_half"]
    config.search.finetune_all_below = 0.85
    # A single child is that of the config, but for a draw in ten.
    config.search.first_data = "config"
    config.search.data_mu = 0.1
    config.hparams.mu = 0.1
    config.hparams.opt_name = "adamw"
    config.hparams.opt_lr = 0.003
    config.hparams.opt_weight_decay = 0.0001
    config.ranges.opt_lr = [
        *(0.0005, 0.001, 0.002, 0.003, 0.005),
        *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    ]
    config.hparams.ds_crop = False
    config.hparams.ds_flip_left_right = False
    config.hparams.ds_shift = 0.05
    config.hparams.ds_zoom = 0.1
    config.ranges.ds_shift = [0.0, 0.05, 0.1]
    config.ranges.ds_zoom = [0.0, 0.05, 0.1, 0.15]
    return config
