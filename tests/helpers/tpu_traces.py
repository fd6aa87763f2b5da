"""The program of a config, traced for a TPU that is not there."""

from __future__ import annotations

import collections
import importlib.util
import pathlib

from keras_munet.aot import tracing
from keras_munet.core import settings as settings_lib
from keras_munet.train.devices import fake_tpu
from keras_munet.train.program import call_data
from keras_munet.train.program import runner

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def settings_of(name, options):
    """Returns the settings of a published config."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*options)
    return settings_lib.Settings.from_dict(config.to_dict())


def check(settings, name):
    """Traces the call of a job's program and checks its operations."""
    strategy = fake_tpu.tpu_strategy(name)
    bucket = tracing.bucket_of(settings, strategy.num_replicas_in_sync)
    with fake_tpu.without_values():
        made = runner.Runner(strategy, bucket, tracing.products_of(settings))
    plan = call_data.plan_specs(bucket)
    traced = fake_tpu.check_runnable(made._call, [plan])
    operations = collections.Counter(
        op.type for op in traced.graph.get_operations()
    )
    assert operations["TPUReplicateMetadata"] == 1
    library = traced.graph.as_graph_def().library.function
    sums = [n for f in library for n in f.node_def if n.op == "CrossReplicaSum"]
    # Gradients meet only where cores share a child.
    assert bool(sums) == (bucket.group > 1)
    return bucket
