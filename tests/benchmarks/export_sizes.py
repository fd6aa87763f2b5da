"""What an export of N tasks takes: bytes, export, load, memory.

    python tests/benchmarks/export_sizes.py [--num_tasks=2,8,64]
        [--variant=mu] [--num_layers=1] [--image_size=16]

Each task shares all but its norm and head with the others; nothing is trained.
For every N: the bytes beyond 4 per unique parameter, the seconds that the
export took, and the seconds and memory of loading in a process of its own: by
TensorFlow's Python, there also with the first answers of all tasks, and by its
C library, as a server loads it. Exits with 1 if any N takes more than 1 MiB
beyond its parameters.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import export_samples
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

_HELPERS = pathlib.Path(__file__).resolve().parents[1] / "helpers"
_BYTES_BEYOND_MAX = 2**20
_NUM_TASKS = flags.DEFINE_list("num_tasks", ["2", "8", "64"], "Each N.")
_VARIANT = flags.DEFINE_string("variant", "mu", "The root's ViT.")
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 1, "Blocks of every path.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 16, "Pixels.")
_LOAD = (
    "import json, sys, time, psutil\n"
    "sys.modules['keras'] = None\n"
    "import tensorflow as tf\n"
    "tf.zeros([1])\n"
    "def used():\n"
    "    return psutil.Process().memory_info().rss / 2**20\n"
    "before, started = used(), time.perf_counter()\n"
    "loaded = tf.saved_model.load(sys.argv[1])\n"
    "secs, mib = time.perf_counter() - started, used() - before\n"
    "images = tf.zeros([8, 32, 32, 3], tf.uint8)\n"
    "loaded.signatures['all_tasks'](images=images)\n"
    "found = {'load_secs': secs, 'load_mib': mib, 'mib': used() - before}\n"
    "found['secs'] = time.perf_counter() - started\n"
    "print(json.dumps(found))\n"
)
_LOAD_IN_C = (
    "import json, sys, time, psutil\n"
    "import c_process\n"
    "library = c_process.Library(sys.argv[1])\n"
    "library.tensor({'images': [[[[0, 0, 0]]]]})\n"
    "before = psutil.Process().memory_info().rss\n"
    "started = time.perf_counter()\n"
    "library.load(sys.argv[2])\n"
    "secs = time.perf_counter() - started\n"
    "mib = (psutil.Process().memory_info().rss - before) / 2**20\n"
    "print(json.dumps({'secs': secs, 'mib': mib}))\n"
)


def _measured(base: pathlib.Path, num_tasks: int) -> tuple[int, int]:
    """Prints a row; returns bytes and unique parameters."""
    tasks = {f"task/{i}": 4 + i % 3 for i in range(num_tasks)}
    system = export_samples.system(
        base / "system",
        tasks,
        variant=_VARIANT.value,
        num_layers=_NUM_LAYERS.value,
        image_size=_IMAGE_SIZE.value,
    )
    started = time.perf_counter()
    out = pathlib.Path(system.export(base / "served"))
    secs = time.perf_counter() - started
    num_bytes = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    unique = {
        component.id: component.num_params
        for state in system.tasks.values()
        for component in state.published.components
    }
    num_params = sum(unique.values())
    library = pathlib.Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    found = _run(_LOAD, out)
    found_in_c = _run(_LOAD_IN_C, library, out)
    print(
        f"| {num_tasks} | {num_params:,} | {num_bytes - 4 * num_params:,} | "
        f"{secs:.1f} s | {found['load_secs']:.2f} s | "
        f"{found['load_mib']:.0f} MiB | {found['secs']:.2f} s | "
        f"{found['mib']:.0f} MiB | {found_in_c['secs']:.2f} s | "
        f"{found_in_c['mib']:.0f} MiB |",
        flush=True,
    )
    return num_bytes, num_params


def _run(code: str, *args: pathlib.Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(_HELPERS)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Measures and prints a table."""
    del argv
    logging.set_verbosity(logging.ERROR)
    print(
        "| tasks | unique parameters | bytes beyond 4 per parameter | export | "
        "load, Python | memory | with the first answers | memory | "
        "load, C library | memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    over = False
    for text in _NUM_TASKS.value:
        with tempfile.TemporaryDirectory() as base:
            num_bytes, num_params = _measured(pathlib.Path(base), int(text))
        over |= num_bytes - 4 * num_params > _BYTES_BEYOND_MAX
    if over:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
