"""Evolves the small experiment over the workers that it is given.

    python tests/helpers/coordinator_process.py WORKDIR [HOST:PORT,HOST:PORT]

Without workers by the same program on one device, which they must equal.
"""

from __future__ import annotations

import sys

import system_samples as samples

import keras_munet
from keras_munet.callbacks import progress
from keras_munet.core import devices


def main(workdir: str, workers: str = "") -> None:
    """Runs it to its end; prints a line for each generation."""
    asked = devices.Devices(
        "coordinator" if workers else "one_device",
        "auto" if workers else devices.PROGRAM,
        workers=workers,
    )
    settings = samples.settings(
        task_names=["digits"], search={"probe_child": True}
    )
    system = keras_munet.System.create(workdir, settings)
    system.run(strategy=asked, progress=progress.Progress())


if __name__ == "__main__":
    main(*sys.argv[1:])
