"""The config that experiments start from: every key, published defaults."""

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
