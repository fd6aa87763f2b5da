"""Every config's steps trace under the real TPUStrategy, without a TPU."""

from __future__ import annotations

import pytest
import tensorflow as tf
import tpu_traces
import training_samples as samples

from keras_munet import errors
from keras_munet.aot import tracing
from keras_munet.data import preprocessing
from keras_munet.train.devices import fake_tpu
from keras_munet.train.devices import topology

_EXPERIMENTS = [
    ("quickstart", ()),
    ("own_images", ("own/pictures",)),
    ("photos", ("own/pictures",)),
    ("ti0_cmaterdb", ()),
    ("ti0_cmaterdb", ("small",)),
    ("ti3_characters", ()),
    ("ti3_characters", ("offline,small",)),
    ("base_decathlon", ()),
    ("base_decathlon", ("small",)),
    *(
        ("large", (name,))
        for name in ("vit", "vtab_full", "vdd", "characters", "vtab_1k")
    ),
    ("large", ("vit,small",)),
]
# Those that are not the search's: of pretraining, and of other networks.
_OTHERS = ("pretrain_mu", "overparam_")


def test_every_config_is_traced_by_these_tests():
    stems = {path.stem for path in tpu_traces.CONFIGS.glob("*.py")}
    searched = {stem for stem in stems if not stem.startswith(_OTHERS)}
    assert searched == {name for name, _ in _EXPERIMENTS}


@pytest.mark.parametrize("name", ["v3-8", "v3-32", "v4-64"])
def test_the_real_strategy_is_made_without_a_tpu(name):
    strategy = fake_tpu.tpu_strategy(name)
    assert isinstance(strategy, tf.distribute.TPUStrategy)
    whole = topology.named_topology(name)
    assert strategy.num_replicas_in_sync == len(whole.cores)
    devices = strategy.extended.worker_devices
    assert len(set(devices)) == len(whole.cores)
    hosts = {tf.DeviceSpec.from_string(device).task for device in devices}
    assert len(hosts) == len(whole.hosts)


def test_the_steps_of_a_config_trace():
    tpu_traces.check(tpu_traces.settings_of("quickstart", ()), "v3-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v3-8", "v3-32", "v4-64"])
@pytest.mark.parametrize(("config", "options"), _EXPERIMENTS)
def test_the_steps_of_every_config_trace(config, options, name):
    tpu_traces.check(tpu_traces.settings_of(config, options), name)


def test_few_children_share_the_cores_of_a_slice():
    settings = tpu_traces.settings_of("ti3_characters", ())
    assert tpu_traces.check(settings, "v3-8").group == 1
    assert tpu_traces.check(settings, "v3-32").group == 4


def test_a_function_that_calls_python_is_refused_by_name_before_it_runs():
    calls = []

    @tf.function
    def telling(x):
        def told(value):
            calls.append(value)
            return value

        return tf.py_function(told, [x], tf.float32, name="telling")

    with pytest.raises(errors.UsageError, match=r"telling.* EagerPyFunc"):
        fake_tpu.check_runnable(telling, [tf.TensorSpec([2], tf.float32)])
    assert not calls


def test_variables_of_a_rehearsal_hold_no_values():
    strategy = fake_tpu.tpu_strategy("v3-8")
    with fake_tpu.without_values(), strategy.scope():
        variable = tf.Variable(tf.zeros([7]), trainable=False)
    assert variable.shape == [7]
    assert len(variable.values) == 8
    assert [value.numpy().size for value in variable.values] == [0] * 8


def test_the_fullest_child_trains_all_that_the_search_can_give_it():
    settings = tpu_traces.settings_of("ti0_cmaterdb", ())
    (child, *_) = tracing.children_of(settings, fullest=True)
    places = [part.spec.name for part in child.components]
    assert "encoderblock_2" in places
    assert all(part.trainable for part in child.components)


def test_draws_made_before_give_the_images_of_a_whole_batch():
    images = samples.data().train.images[:8]
    seed = tf.constant([3, 4])
    hparams, jitter = preprocessing.augment_hparams(samples.DATA_HPARAMS)
    whole = preprocessing.training_images(images, 16, seed, hparams, jitter)
    draws = preprocessing.draws_of(seed, 8)
    half = preprocessing.varied_images(
        tf.constant(images[4:]), 16, draws[:, 4:], hparams, jitter
    )
    tf.debugging.assert_near(half, whole[4:], atol=1e-6)
