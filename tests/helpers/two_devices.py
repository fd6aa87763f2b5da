"""Programs on two logical devices, each a process of its own."""

from __future__ import annotations

import pathlib

import forked

# Logical devices can only be made before TensorFlow starts.
MAKE = (
    "import tensorflow as tf\n"
    "cpu = tf.config.list_physical_devices('CPU')[0]\n"
    "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
    "tf.config.set_logical_device_configuration(cpu, two)\n"
)


def run(folder: pathlib.Path, code: str, *arguments: str) -> None:
    """Runs a program that may import what lies in `folder`; it must succeed."""
    done = forked.run_code(code, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
