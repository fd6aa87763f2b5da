"""Tasks named on the command line, e.g. your own images; half a minute each.

    python launch/tasks.py prepare folder:PATH --data_dir=DATA
    python launch/evolve.py --config=configs/own_images.py:own/NAME \
        --workdir=DIR --config.data.data_dir=DATA

PATH holds a folder of images for each class; NAME is its last part. Several
tasks are named with a comma between, in order, and learn from one another.
`--config.preset=medium` or `large` trains longer. The root is the small ViT
that comes with the install, pretrained on characters; for photographs there is
`configs/photos.py`.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib


def get_config(task_names: str = "") -> ml_collections.ConfigDict:
    config = config_lib.small_tasks()
    config.task_names = [n for n in task_names.split(",") if n]
    return config
