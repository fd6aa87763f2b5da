"""CamVid's 11 classes, their edges and their presence by one small SegNet.

FOLDER holds train.npz, val.npz and test.npz (docs/overparam_data.md).

    python launch/overparam.py --config=configs/overparam_camvid.py \
        --config.data_dir=FOLDER --output_dir=DIR
"""

from __future__ import annotations

import ml_collections

from keras_munet.overparam.experiments import settings


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        settings.Settings(
            data="camvid",
            image_height=96,
            image_width=128,
            width=16,
            num_stages=4,
            num_epochs=40,
            batch_size=8,
            learning_rate=1e-2,
        ).to_config()
    )
