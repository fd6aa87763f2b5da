"""The published `ti3 characters` experiment: eight sets of characters.

The first three layers of a ViT-Ti/16 pretrained on ImageNet-21k (1,484,162
parameters with a head of 2 classes) evolve at 32 px.

    python launch/evolve.py --config=configs/ti3_characters.py --workdir=DIR \
        --config.root.path=FILE.npz --config.data.data_dir=FOLDER

The argument after a colon chooses a smaller experiment:

    configs/ti3_characters.py:offline        the six tasks whose files can be
        had as they are: without EMNIST
    configs/ti3_characters.py:offline,small  and a budget of minutes per task
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib
from keras_munet import errors

_OPTIONS = ("offline", "small")
_EMNIST = ("emnist/digits", "emnist/letters")


def get_config(options: str = "") -> ml_collections.ConfigDict:
    chosen = [option for option in options.split(",") if option]
    if not set(chosen) <= set(_OPTIONS):
        raise errors.UsageError(
            f"ti3_characters.py:{options} is unknown; the options are "
            f"{', '.join(_OPTIONS)}"
        )
    config = config_lib.base()
    config.task_names = [
        *(() if "offline" in chosen else _EMNIST),
        *("kmnist", "mnist", "omniglot"),
        *("cmaterdb/bangla", "cmaterdb/devanagari", "cmaterdb/telugu"),
    ]
    config.data.antialias = False
    config.num_task_iters = 2
    config.num_samples_per_task = 64
    config.children_per_generation = 8
    config.num_validations_per_path_training = 5
    config.batch_size = 512
    config.search.mutate_adapters = True
    config.search.score_num_params = 1_484_162
    config.hparams.mu = 0.1
    config.root.source = "npz"
    config.root.variant = "Ti/16"
    config.root.num_layers = 3
    config.root.image_size = 32
    if "small" in chosen:
        config.num_samples_per_task = 16
        config.num_validations_per_path_training = 3
        config.num_train_examples_between_validations_max = 2048
        config.num_validation_examples_max = 1024
        # Few examples: more steps of them.
        config.batch_size = 128
    return config
