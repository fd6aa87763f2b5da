"""How long a new process takes to import what, without and with TensorFlow.

    python tests/benchmarks/importing.py [--repeats=9]

Prints the median and the least of several processes, less what an empty one
takes, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

_CODES = {
    "import keras_munet": "import keras_munet",
    "... and its settings": "import keras_munet; keras_munet.Settings",
    "... and its report": "import keras_munet.report",
    "... and its systems": "import keras_munet; keras_munet.System",
    "keras-munet --version": (
        "import sys; sys.argv = ['', '--version']\n"
        "import keras_munet.__main__ as command; command.main()"
    ),
    "import tensorflow": "import tensorflow",
}


def main() -> None:
    """Prints a line per import."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    empty = statistics.median(_secs("pass") for _ in range(repeats))
    for name, code in _CODES.items():
        secs = [_secs(code) - empty for _ in range(repeats)]
        print(
            f"{name:<24} {1e3 * statistics.median(secs):7.0f} ms, least "
            f"{1e3 * min(secs):.0f}"
        )


def _secs(code: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
