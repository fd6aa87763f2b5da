"""Every config's steps trace under the real TPUStrategy, without a TPU."""

from __future__ import annotations

import pytest
import tensorflow as tf
import tpu_traces
import training_samples as samples

from keras_munet import errors
from keras_munet.aot import tracing
from keras_munet.data import preprocessing
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train.devices import fake_tpu
from keras_munet.train.devices import topology
from keras_munet.train.graph import generation

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


def test_a_step_that_calls_python_is_refused_by_name_before_it_runs():
    calls = []

    class _Calling(generation.GenerationGraph):
        def _count(self, images, labels, mask):
            def told(value):
                calls.append(value)
                return value

            mask = tf.py_function(told, [mask], tf.float32, name="telling")
            mask = tf.ensure_shape(mask, labels.shape)
            return super()._count(images, labels, mask)

    strategy = fake_tpu.tpu_strategy("v3-8")
    children = [samples.job(0, 1)]
    with fake_tpu.without_values():
        graph = _Calling(
            generation_structure.structure_of(children, 16),
            layer_pool.LayerPool(strategy),
            strategy,
        )
    inputs = (
        tf.TensorSpec([2, 16, 16, 3], tf.uint8),
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([2], tf.float32),
    )
    with pytest.raises(errors.UsageError, match=r"telling.* EagerPyFunc"):
        fake_tpu.check_runnable(graph.count_shares, inputs)
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


def test_a_batch_that_does_not_divide_is_named():
    settings = tpu_traces.settings_of("ti0_cmaterdb", ())
    strategy = fake_tpu.tpu_strategy("v3-8")
    with pytest.raises(errors.UsageError, match="batch_size 12 does not"):
        tracing.steps_of(settings, strategy, batch_size=12)


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
