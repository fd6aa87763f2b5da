"""Configs that experiments start from: published defaults, and small tasks."""

from __future__ import annotations

import dataclasses

import ml_collections

from keras_munet.core import settings


def base() -> ml_collections.ConfigDict:
    """Returns mu2Net's defaults without tasks (section 3 of the method).

    A config file's `get_config` changes what its experiment differs in.
    Group `ranges` is open: any hyperparameter may be given a range.
    """
    # ConfigDict cannot be frozen with tuples in it, hence `to_json`'s lists.
    # Tuples, which flags can replace; a list that is assigned becomes one.
    config = ml_collections.ConfigDict(dataclasses.asdict(settings.Settings()))
    config.ranges.unlock()
    return config


def small_tasks() -> ml_collections.ConfigDict:
    """Returns a config for tasks of hundreds to thousands of small images.

    The preset decides how much to train; a number that is not 0 is kept. Per
    task, one path is built on what a linear probe says suits it best: it shares
    the lower half of that where the probe is good, and trains all of it where
    it is not. docs/own_data.md says what to expect.

    Example:
      >>> config = small_tasks()
      >>> config.task_names = ("own/birds",)
      >>> config.preset
      'auto'
    """
    config = base()
    config.preset = "auto"
    config.num_task_iters = 1
    config.num_samples_per_task = 0
    config.children_per_generation = 0
    config.num_validations_per_path_training = 0
    config.num_train_examples_between_validations_max = 0
    config.num_validation_examples_max = 512
    config.batch_size = 64
    config.root.source = "packaged"
    config.root.num_layers = settings.ALL_LAYERS
    config.root.image_size = 32
    config.search.probe_child = True
    config.search.rank_parents = "probe"
    config.search.force_finetune_components = (settings.UPPER_HALF,)
    config.search.finetune_all_below = 0.9
    config.search.finetune_third_above = 0.96
    config.search.stop_when_solved = True
    config.search.first_data = "config"
    config.search.first_child = "config"
    # One bad draw would spoil all children of a generation.
    config.search.data_mu = 0.1
    config.hparams.mu = 0.2
    config.hparams.opt_name = "adamw"
    config.hparams.opt_lr = 0.003
    config.hparams.opt_weight_decay = 0.0001
    config.ranges.opt_lr = (
        *(0.0005, 0.001, 0.002, 0.003, 0.005),
        *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    )
    # A crop of a small image loses what tells its class.
    config.hparams.ds_crop = False
    config.hparams.ds_flip_left_right = False
    config.hparams.ds_shift = 0.05
    config.hparams.ds_zoom = 0.1
    config.ranges.ds_shift = (0.0, 0.05, 0.1)
    config.ranges.ds_zoom = (0.0, 0.05, 0.1, 0.15)
    return config
