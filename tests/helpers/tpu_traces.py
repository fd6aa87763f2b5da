"""The steps of a config, traced for a TPU that is not there."""

from __future__ import annotations

import collections
import importlib.util
import pathlib

from keras_munet.aot import tracing
from keras_munet.core import settings as settings_lib
from keras_munet.train import memory
from keras_munet.train.devices import fake_tpu
from keras_munet.train.devices import placement
from keras_munet.train.devices import topology

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def settings_of(name, options):
    """Returns the settings of a published config."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*options)
    return settings_lib.Settings.from_dict(config.to_dict())


def _trace(settings, name, children):
    """Returns how often each operation is in a generation's two functions."""
    whole = topology.named_topology(name)
    plan = placement.plan_placement(
        whole,
        [_need(settings)] * len(children),
        settings.batch_size,
    )
    (group, *_) = [
        group
        for group in placement.assign_children(len(children), len(plan.slices))
        if group
    ]
    strategy = fake_tpu.tpu_strategy(whole, len(plan.slices[0]))
    steps = tracing.steps_of(
        settings, strategy, children=[children[i] for i in group]
    )
    counts = []
    for function, inputs in (
        (steps.train, steps.train_inputs),
        (steps.evaluate, steps.evaluate_inputs),
    ):
        traced = fake_tpu.check_runnable(function, inputs)
        counts.append(
            collections.Counter(op.type for op in traced.graph.get_operations())
        )
    return strategy.num_replicas_in_sync, counts


def _need(settings):
    (fullest, *_) = tracing.children_of(settings, fullest=True)
    size = int(fullest.hparams["ds_image_size"])
    return memory.child_need(fullest, size, "TPU")


def check(settings, name):
    """Traces a generation for a topology and checks the operations."""
    children = tracing.children_of(settings)
    num_replicas, (train, evaluate) = _trace(settings, name, children)
    assert train["TPUReplicateMetadata"] == 1
    assert evaluate["TPUReplicateMetadata"] == 1
    # Gradients meet only where there is somebody to meet.
    assert bool(train["CrossReplicaSum"]) == (num_replicas > 1)
    assert not evaluate["CrossReplicaSum"]
