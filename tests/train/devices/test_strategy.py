"""Devices by name: what cannot be had is said in one line, at the start."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import devices
from keras_munet.train.devices import fake_tpu as fake_tpu_lib
from keras_munet.train.devices import strategy
from keras_munet.train.devices import topology

_HOSTS = ["127.0.0.1:1", "127.0.0.1:2"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"strategy": "gpu"}, "unknown strategy 'gpu'; choose one of auto"),
        ({"engine": "fast"}, "unknown engine 'fast'; choose one of"),
        ({"children_per_device": 0}, "children_per_device is 0; use a whole"),
        (
            {"strategy": "mirrored", "tpu": "mine"},
            "a TPU is named .mine. and the strategy is 'mirrored'",
        ),
        ({"tpu_zone": "us-central1-a"}, "a TPU is named"),
    ],
)
def test_what_contradicts_itself_is_refused(asked, message):
    with pytest.raises(errors.UsageError, match=message):
        devices.Devices(**asked)


def test_a_named_tpu_makes_auto_a_tpu():
    assert devices.Devices(tpu="mine").strategy == "tpu"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "is not set"),
        ("{", "is no JSON"),
        ("[]", 'lacks "cluster" or "task"'),
        ({"cluster": {"worker": _HOSTS}}, 'lacks "cluster" or "task"'),
        (
            {"cluster": {"ps": _HOSTS}, "task": {"type": "ps", "index": 0}},
            r"names the jobs \['ps'\]",
        ),
        (
            {"cluster": {"worker": ["one"]}, "task": {}},
            "must list every worker as host:port",
        ),
        (
            {"cluster": {"worker": _HOSTS}, "task": {"type": "chief"}},
            "task type 'chief', which is not in its cluster",
        ),
        (
            {
                "cluster": {"worker": _HOSTS},
                "task": {"type": "worker", "index": 2},
            },
            "task index 2 and 2 of type worker",
        ),
        (
            {
                "cluster": {"worker": _HOSTS},
                "task": {"type": "worker", "index": "0"},
            },
            "task index '0'",
        ),
    ],
)
def test_a_cluster_that_is_none_is_refused_in_one_line(
    monkeypatch, config, message
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(errors.UsageError, match=message) as caught:
        strategy.make_strategy("multi_worker")
    assert "\n" not in str(caught.value)
    assert "for strategy multi_worker set it" in str(caught.value)


@pytest.fixture
def fake_tpu(monkeypatch):
    """A v3-8 whose system can be initialised, though it is not there."""
    whole = topology.named_topology("v3-8")
    calls = []

    def initialize(resolver):
        calls.append(resolver)
        return fake_tpu_lib.tpu_topology(whole)

    monkeypatch.setattr(
        tf.distribute.cluster_resolver,
        "TPUClusterResolver",
        lambda tpu, zone, project: fake_tpu_lib._Resolver(whole),
    )
    monkeypatch.setattr(
        tf.tpu.experimental, "initialize_tpu_system", initialize
    )
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    strategy.tpu_system.cache_clear()
    yield calls
    strategy.tpu_system.cache_clear()


def test_a_tpu_system_is_initialised_once_for_all_its_strategies(fake_tpu):
    asked = devices.Devices("tpu", tpu="local")
    assert strategy.make_strategy(asked).num_replicas_in_sync == 8
    assert strategy.make_strategy(asked).num_replicas_in_sync == 8
    assert len(fake_tpu) == 1


def test_a_tpu_that_does_not_answer_is_a_users_error(monkeypatch):
    def absent(resolver):
        raise tf.errors.NotFoundError(None, None, "No TPU\ndevice was found")

    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", absent)
    strategy.tpu_system.cache_clear()
    with pytest.raises(
        errors.UsageError, match="TPU 'local' does not answer: No TPU device"
    ):
        strategy.make_strategy(devices.Devices("tpu", tpu="local"))
