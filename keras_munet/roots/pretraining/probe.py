"""Measures a frozen root by a linear classifier on its class token.

Invariant: the root is not changed, and the test split decides nothing.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.roots import root as root_lib
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import frozen_features
from keras_munet.train.layerwise import layer_functions as layer_functions_lib


def linear_probe(root: root_lib.Root, data: types.TaskData) -> float:
    """Returns the test accuracy of a solved head on a root's features.

    Args:
      root: all but its head is used.
      data: the task; its validation split chooses the head.
    """
    path = frozen_features.FrozenPath(
        components=tuple(
            child_job.JobComponent(
                part.spec, functools.partial(_same, part), part.spec.name, False
            )
            for part in root.components
        ),
        image_size=root.hparams["ds_image_size"],
        antialias=False,
    )
    layer_functions = layer_functions_lib.LayerFunctions()
    train, validation, test = (
        frozen_features.read_features(
            [path], split, np.arange(len(split)), layer_functions
        )[0]
        for split in (data.train, data.validation, data.test)
    )
    counts = np.bincount(data.train.labels, minlength=data.num_classes)
    head = closed_form.solve_head(train, validation, counts)
    answers = (test.values @ head.kernel + head.bias).argmax(1)
    return float((answers == test.labels).mean())


def _same(component: specs.Component) -> specs.Component:
    return component
