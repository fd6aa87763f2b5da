"""What a generation takes against what was predicted.

    python tests/benchmarks/memory.py

Prints a line per generation of equal children, all of them trained. Each is
a process of its own, in which a small generation is trained first, so that
what TensorFlow and tracing keep is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ours
import peer

from keras_munet.roots import root as root_lib
from keras_munet.train import memory
from keras_munet.train.devices import cpu_threads

# Layers, side of the input in pixels, batch, children, dtype of products.
_CASES = (
    (3, 32, 512, 1, "float32"),
    (3, 32, 512, 8, "float32"),
    (3, 32, 512, 8, "bfloat16"),
    (12, 32, 256, 4, "float32"),
    (12, 224, 8, 2, "float32"),
)
_SMALL_BATCH_SIZE = 2


def _measure(
    num_layers: int,
    image_size: int,
    batch_size: int,
    num_children: int,
    dtype: str,
) -> None:
    """Prints the case's line."""
    root = root_lib.random(
        "Ti/16",
        num_layers=num_layers,
        image_size=image_size,
        num_classes=ours.NUM_CLASSES,
    )
    one = ours.full_child(root.components)
    ours.Bench(_SMALL_BATCH_SIZE, image_size, 1, dtype).step_secs([one])
    before = peer.peak_mib()
    bench = ours.Bench(batch_size, image_size, 1, dtype)
    bench.step_secs([one] * num_children)
    taken = peer.peak_mib() - before
    needs = [memory.child_need(one, image_size)] * num_children
    together = cpu_threads.num_operations()
    predicted = memory.joint_bytes(needs, batch_size, together) / 2**20
    print(
        f"{num_layers} layers, {image_size} px, batch {batch_size}, "
        f"{num_children} children, {dtype}: {taken:.0f} MiB taken, "
        f"{predicted:.0f} predicted, {predicted / taken:.2f} times",
        flush=True,
    )


def main() -> None:
    """Measures one case in this process, or each in one of its own."""
    if len(sys.argv) > 1:
        *numbers, dtype = sys.argv[1:]
        _measure(*map(int, numbers), dtype=dtype)
        return
    for case in _CASES:
        subprocess.run([sys.executable, __file__, *map(str, case)], check=True)


if __name__ == "__main__":
    main()
