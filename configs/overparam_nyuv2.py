"""NYUv2's three tasks by a SegNet, in the published 13-class protocol.

FOLDER holds the preprocessed files (docs/overparam_data.md): 795 images to
train on, of which the last 79 validate, and 654 to test on. An experiment for
accelerators.

    python launch/overparam.py --config=configs/overparam_nyuv2.py \
        --config.data_dir=FOLDER --output_dir=DIR
    ... --config.network=resnet ...
"""

from __future__ import annotations

import ml_collections

from keras_munet.overparam.experiments import settings


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        settings.Settings(
            data="nyuv2",
            image_height=288,
            image_width=384,
            width=32,
            num_stages=4,
            num_epochs=200,
            batch_size=8,
            learning_rate=1e-3,
        ).to_config()
    )
