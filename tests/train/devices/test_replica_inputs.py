"""The shares of a step, put together, are the batch of one device."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.data import preprocessing
from keras_munet.train.devices import replica_inputs

_INDICES = np.random.default_rng(1).integers(0, 96, (3, 8)).astype(np.int32)
_SEEDS = np.arange(6, dtype=np.int32).reshape(3, 2)
_RATES = np.arange(18, dtype=np.float32).reshape(3, 2, 3)


def _mapped(data):
    """The same data as if they were larger than memory."""
    parts = {
        name: dataclasses.replace(getattr(data, name), resident=False)
        for name in ("train", "validation")
    }
    return dataclasses.replace(data, **parts)


def assert_batches(strategy, data, sends):
    """Asserts that two passes of shares make the batches of one device."""
    made = replica_inputs.ReplicaInputs(strategy)
    made._sends = sends
    given = made.training(data, _INDICES, _SEEDS, _RATES)
    for step, values in zip([0, 1, 2, 0, 1], given, strict=False):
        images, labels, draws, rates = (
            [v.numpy() for v in strategy.experimental_local_results(value)]
            for value in values
        )
        split = samples.data().train
        wanted = split.images[_INDICES[step]]
        np.testing.assert_array_equal(np.concatenate(images), wanted)
        wanted = split.labels[_INDICES[step]]
        np.testing.assert_array_equal(np.concatenate(labels), wanted)
        wanted = preprocessing.draws_of(tf.constant(_SEEDS[step]), 8)
        np.testing.assert_array_equal(np.concatenate(draws, axis=1), wanted)
        for rate in rates:
            np.testing.assert_array_equal(rate, _RATES[step])
        if len(draws) > 1:
            assert not np.array_equal(draws[0], draws[1])
    mask = np.arange(24, dtype=np.float32).reshape(3, 8)
    indices = _INDICES % 50
    for _ in range(2):
        given = made.validation(data, "validation", indices, mask)
        for step, (images, labels, weights) in enumerate(
            itertools.islice(given, 3)
        ):
            local = strategy.experimental_local_results(images)
            np.testing.assert_array_equal(
                np.concatenate(local),
                samples.data().validation.images[indices[step]],
            )
            local = strategy.experimental_local_results(weights)
            np.testing.assert_array_equal(np.concatenate(local), mask[step])
            local = strategy.experimental_local_results(labels)
            np.testing.assert_array_equal(
                np.concatenate(local),
                samples.data().validation.labels[indices[step]],
            )
    made.forget_task(data.name)
    assert not made._arrays
    assert not made._validation


@pytest.mark.parametrize(
    ("mapped", "sends"), [(False, False), (True, False), (True, True)]
)
def test_one_device_gets_whole_batches(mapped, sends):
    data = samples.data()
    assert_batches(
        tf.distribute.OneDeviceStrategy("/cpu:0"),
        _mapped(data) if mapped else data,
        sends,
    )


@pytest.mark.slow
def test_four_replicas_get_their_parts_of_it():
    code = (
        "import tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "four = [tf.config.LogicalDeviceConfiguration()] * 4\n"
        "tf.config.set_logical_device_configuration(cpu, four)\n"
        "import test_replica_inputs as t, training_samples as samples\n"
        "from keras_munet.train.devices import strategy\n"
        "found = strategy.make_strategy('mirrored')\n"
        "assert found.num_replicas_in_sync == 4\n"
        "t.assert_batches(found, samples.data(), False)\n"
        "t.assert_batches(found, t._mapped(samples.data()), False)\n"
        "t.assert_batches(found, t._mapped(samples.data()), True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
