"""The published `ti0 cmaterdb` experiment of mu2Net, in full.

A randomly initialised ViT-Ti/16 without any layer, which cannot see the
image, evolves on three numeral tasks; the third is private.

    python launch/evolve.py --config=configs/ti0_cmaterdb.py --workdir=DIR \
        --config.data.manual_dir=FOLDER

FOLDER holds `cmaterdb/{bangla,devanagari,telugu}/*.npz`. Expect a mean test
accuracy of 0.70 to 0.79, in one to two minutes on two CPU cores.

    configs/ti0_cmaterdb.py:small   a quarter of the children
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib
from keras_munet import errors


def get_config(option: str = "") -> ml_collections.ConfigDict:
    if option not in ("", "small"):
        raise errors.UsageError(
            f"ti0_cmaterdb.py:{option} is unknown; the only option is small"
        )
    config = config_lib.base()
    config.task_names = [
        "cmaterdb/bangla",
        "cmaterdb/devanagari",
        "private:cmaterdb/telugu",
    ]
    config.num_task_iters = 2
    config.data.antialias = False
    config.num_samples_per_task = 32
    config.children_per_generation = 8
    config.num_validations_per_path_training = 4
    config.batch_size = 512
    # Three layers of Ti/16, the deepest path.
    config.search.score_num_params = 1_484_162
    config.hparams.mu = 0.2
    config.root.source = "random"
    config.root.variant = "Ti/16"
    config.root.num_layers = 0
    config.root.image_size = 32
    config.ranges.num_layers = [0, 1, 2, 3]
    if option == "small":
        config.num_task_iters = 1
        config.num_samples_per_task = 16
    return config
