"""The published `large` experiments: 69 tasks in five benchmarks.

A ViT-L/16 pretrained on ImageNet-21k evolves at 384 px, benchmark by benchmark
in one system: an experiment for a pod. Each command continues the system that
the one before it left in DIR.

    python launch/evolve.py --config=configs/large.py:vit --workdir=DIR \
        --config.root.path=FILE.npz --config.data.data_dir=FOLDER
    ... --config=configs/large.py:vtab_full ...
    ... --config=configs/large.py:vdd ...
    ... --config=configs/large.py:characters ...
    ... --config=configs/large.py:vtab_1k ...

Data sets beyond memory are prepared once, as large as the experiment has them:

    python launch/tasks.py prepare NAME --data_dir=FOLDER --image_size=384

`,small` behind a benchmark's name is a budget to see it run.
"""

from __future__ import annotations

import ml_collections

from keras_munet import config as config_lib
from keras_munet import errors
from keras_munet.data.tfds import catalogue


def get_config(options: str = "vit") -> ml_collections.ConfigDict:
    name, _, size = options.partition(",")
    if name not in catalogue.BENCHMARKS or size not in ("", "small"):
        raise errors.UsageError(
            f"large.py:{options} is unknown; it takes one of "
            f"{', '.join(catalogue.BENCHMARKS)}, and ,small behind it"
        )
    config = config_lib.base()
    config.task_names = list(catalogue.benchmark(name))
    config.data.antialias = False
    config.num_task_iters = 1
    config.num_samples_per_task = 128
    config.children_per_generation = 32
    config.num_validations_per_path_training = 4
    config.num_train_examples_between_validations_max = 128_116
    config.num_validation_examples_max = 10_000
    config.batch_size = 64
    config.search.score_num_params = 303_303_682
    config.hparams.mu = 0.2
    config.hparams.adapter_dim = 16
    config.hparams.opt_lr_warmup_ratio = 0.05
    config.root.source = "npz"
    config.root.variant = "L/16"
    config.root.image_size = 384
    if size == "small":
        config.num_samples_per_task = 4
        config.children_per_generation = 4
        config.num_validations_per_path_training = 2
        config.num_train_examples_between_validations_max = 512
        config.num_validation_examples_max = 256
    return config
