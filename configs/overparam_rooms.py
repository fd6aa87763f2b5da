"""Segmentation, depth and normals of rendered rooms by one small SegNet.

The rooms are drawn and rendered when the command starts; nothing is downloaded.

    python launch/overparam.py --config=configs/overparam_rooms.py \
        --output_dir=DIR

    --method=hard_sharing   or another of launch/overparam.py
    --config.width=8        a network of a quarter of the size
    --tasks=segmentation,objects   instances, boxes and their masks
"""

from __future__ import annotations

import ml_collections

from keras_munet.overparam.experiments import settings


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        settings.Settings(
            data="rooms",
            task_names=("segmentation", "depth", "normals"),
            image_height=64,
            image_width=64,
            num_train=1024,
            num_test=256,
            width=16,
            num_stages=3,
            num_epochs=20,
            batch_size=16,
            combination="mean",
            optimizer="sgd",
            learning_rate=1e-1,
        ).to_config()
    )
