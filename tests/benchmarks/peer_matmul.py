"""Products of two square matrices of so many rows. See `peer.py`.

python peer_matmul.py 4096 float32|bfloat16
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import peer
import tensorflow as tf


def make_run(shape: peer.Shape):
    """Returns what `peer.serve` needs; the shape makes no difference."""
    del shape
    side = int(sys.argv[1])
    rng = np.random.default_rng(0)
    left, right = (
        tf.cast(rng.uniform(-1, 1, (side, side)), sys.argv[2]) for _ in range(2)
    )
    multiply = tf.function(tf.matmul, autograph=False)
    said = {"flop": 2 * side**3, "version": f"TensorFlow {tf.__version__}"}
    return peer.timed(lambda: multiply(left, right)), said


if __name__ == "__main__":
    peer.serve(make_run)
