"""A two-generation run on logical devices, as a process of its own.

Logical devices, and a cluster, can only be made before TensorFlow starts.

    python placed_run.py WORKDIR NUM_DEVICES STRATEGY ENGINE
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

import system_samples as samples

_ATOL = 2e-3


def settings():
    """One task, two generations of four children."""
    return samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=8,
        children_per_generation=4,
        compute_dtype="float32",
        search={"probe_child": True},
    )


def main(workdir: str, num_devices: str, strategy: str, engine: str):
    """Evolves in `workdir`; every worker of a cluster runs this."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if int(num_devices) > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * int(num_devices)
        tf.config.set_logical_device_configuration(cpu, parts)
    import keras_munet
    from keras_munet.core import devices
    from keras_munet.system import system
    from keras_munet.train.devices import strategy as strategy_lib
    from keras_munet.train.devices import workers

    asked = devices.Devices(strategy, engine)
    job = workers.strategy_workers(strategy_lib.make_strategy(asked))
    evolved = job.from_chief(
        lambda: system.System.create_or_open(workdir, settings()),
        lambda: system.System.open(workdir),
    )
    progress = keras_munet.Progress(
        workdir if job.is_chief else None, quiet=True
    )
    assert evolved.run(strategy=asked, progress=progress)
    crew = evolved._runner.executor(asked)
    print(crew.trainer.engine_name, job.is_chief, flush=True)
    measured = evolved.evaluate(strategy=asked)
    print(sorted(measured["digits"].items()), flush=True)


def assert_same(first, second) -> None:
    """Asserts that two runs chose the same paths, with close values."""
    import numpy as np

    from keras_munet.system import system

    left, right = system.System.open(first), system.System.open(second)
    assert left.tasks.keys() == right.tasks.keys()
    for name, state in left.tasks.items():
        one, other = state.published, right.tasks[name].published
        assert one.created_in == other.created_in
        assert one.hparams == other.hparams
        assert one.metrics["quality"] == other.metrics["quality"]
        for mine, theirs in zip(one.components, other.components, strict=True):
            assert mine.spec_id == theirs.spec_id
            component = left._dir.objects.get(mine)
            for key, value in component.weights.items():
                np.testing.assert_allclose(
                    right._dir.objects.get(theirs).weights[key],
                    value,
                    atol=_ATOL,
                    err_msg=f"{name}/{mine.name}/{key}",
                )
    assert right.check() == []
    assert _children(first) == _children(second)


def _children(workdir):
    """Returns what every child of a run was and whether it improved."""
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        (child["index"], child["hparams"], child["trained"], child["improved"])
        for event in found
        if event["event"] == "generation"
        for child in event["children"]
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
