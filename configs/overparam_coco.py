"""COCO 2017: segmentation and detection, together panoptic, by a ResNet.

FOLDER is one of TensorFlow Datasets in which `coco/2017_panoptic` is prepared
(docs/overparam_data.md). An experiment for accelerators.

    python launch/overparam.py --config=configs/overparam_coco.py \
        --config.data_dir=FOLDER --output_dir=DIR
"""

from __future__ import annotations

import ml_collections

from keras_munet.overparam.experiments import settings


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        settings.Settings(
            data="coco",
            image_height=128,
            image_width=128,
            num_train=40_000,
            network="resnet",
            width=32,
            num_stages=4,
            num_epochs=24,
            batch_size=32,
            learning_rate=1e-3,
        ).to_config()
    )
