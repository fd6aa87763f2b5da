"""The published `base decathlon` experiment: ten sets of the Visual Domain
Decathlon.

A ViT-B/16 pretrained on ImageNet-21k (85,652,738 parameters with a head of 2
classes) evolves at 80 px: an experiment for accelerators.

    python launch/evolve.py --config=configs/base_decathlon.py --workdir=DIR \
        --config.root.path=FILE.npz --config.data.data_dir=FOLDER

`imagenet12` is beyond memory and prepared once, before:

    python launch/tasks.py prepare visual_domain_decathlon/imagenet12 \
        --data_dir=FOLDER --image_size=80

    configs/base_decathlon.py:small   a sixteenth of the children and a
        hundredth of the steps, to see it run
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib
from keras_munet import errors

_SETS = (
    *("imagenet12", "svhn", "cifar100", "gtsrb", "daimlerpedcls"),
    *("omniglot", "ucf101", "aircraft", "dtd", "vgg-flowers"),
)


def get_config(option: str = "") -> ml_collections.ConfigDict:
    if option not in ("", "small"):
        raise errors.UsageError(
            f"base_decathlon.py:{option} is unknown; the only option is small"
        )
    config = config_lib.base()
    config.task_names = [f"visual_domain_decathlon/{name}" for name in _SETS]
    config.data.antialias = False
    config.num_task_iters = 2
    config.num_samples_per_task = 64
    config.children_per_generation = 8
    config.num_validations_per_path_training = 30
    config.batch_size = 256
    config.search.mutate_adapters = True
    config.search.score_num_params = 85_652_738
    config.hparams.mu = 0.1
    config.root.source = "npz"
    config.root.variant = "B/16"
    config.root.image_size = 80
    if option == "small":
        config.num_samples_per_task = 4
        config.children_per_generation = 4
        config.num_validations_per_path_training = 2
        config.num_train_examples_between_validations_max = 2048
        config.num_validation_examples_max = 512
    return config
