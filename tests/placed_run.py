"""A two-generation run on logical devices, as a process of its own.

Logical devices, and a cluster, can only be made before TensorFlow starts.

    python placed_run.py WORKDIR NUM_DEVICES STRATEGY PLACEMENT
"""

from __future__ import annotations

import os
import sys

import system_samples as samples


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


def main(workdir: str, num_devices: str, strategy: str, placement: str):
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

    asked = devices.Devices(strategy, placement)
    job = workers.of(strategy_lib.make(asked))
    evolved = job.first(
        lambda: system.System.create_or_open(workdir, settings()),
        lambda: system.System.open(workdir),
    )
    progress = keras_munet.Progress(
        workdir if job.is_chief else None, quiet=True
    )
    assert evolved.run(strategy=asked, progress=progress)
    crew = evolved._crew(asked)
    print(type(crew.trainer).__name__, job.is_chief, flush=True)
    measured = evolved.evaluate(strategy=asked)
    print(sorted(measured["digits"].items()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
