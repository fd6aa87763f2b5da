"""Photographs of your own, from a ViT pretrained on ImageNet-21k; minutes each.

    python launch/tasks.py prepare folder:PATH --data_dir=DATA
    python launch/evolve.py --config=configs/photos.py:own/NAME \
        --workdir=DIR --config.data.data_dir=DATA --config.root.path=FILE.npz

FILE.npz is a ViT-Ti/16 as AugReg published it (docs/roots.md says where from).
`--config.root.variant=S/16` takes a larger one, `--config.root.num_layers` and
`--config.root.image_size` how much of it and of the pictures: 3 layers at
48 pixels are what two CPU cores train in minutes.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config(task_names: str = "") -> ml_collections.ConfigDict:
    config = config_lib.small_tasks()
    config.task_names = [n for n in task_names.split(",") if n]
    config.root.source = "npz"
    config.root.variant = "Ti/16"
    config.root.num_layers = 3
    config.root.image_size = 48
    # Pretrained on far more than the packaged root: smaller steps keep it.
    config.hparams.opt_lr = 0.001
    config.hparams.ds_flip_left_right = True
    return config
