"""Two characters over each other, each a task, by one small SegNet.

The pictures are embedded; nothing is downloaded. With prepared data, other
pairs: --config.overlaid=mnist,kmnist --config.data_dir=FOLDER.

    python launch/overparam.py --config=configs/overparam_overlaid.py \
        --output_dir=DIR

    --method=hard_sharing   or another of launch/overparam.py
    --config.width=8        a network of four times the size
"""

from __future__ import annotations

import ml_collections

from keras_munet.overparam.experiments import settings


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        settings.Settings(
            data="overlaid",
            image_height=32,
            image_width=32,
            width=4,
            num_stages=3,
            num_epochs=20,
            batch_size=32,
            flip=False,
        ).to_config()
    )
