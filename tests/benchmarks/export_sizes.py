"""Measures an export of N tasks: time, bytes, load, memory.

    python tests/benchmarks/export_sizes.py [--num_tasks=10,100,1000]
        [--variant=mu] [--num_layers=1] [--image_size=16]

Each task shares all but its norm and head with the others; they are made up in
memory, so that no store is measured. For every N, each in a process of its own:
seconds, CPU seconds and memory of the export, the bytes of its graph, and
the seconds and memory of loading: by TensorFlow's Python, there also with the
first answers of all tasks, and by its C library, as a server loads it. Exits
with 1 if an export takes more than 60 s, or a task more than 16 KiB of graph.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import measuring
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

_HELPERS = pathlib.Path(__file__).resolve().parents[1] / "helpers"
_EXPORT_SECS_MAX = 60.0
_GRAPH_BYTES_MAX = 2**14
_NUM_TASKS = flags.DEFINE_list("num_tasks", ["10", "100", "1000"], "Each N.")
_VARIANT = flags.DEFINE_string("variant", "mu", "The root's ViT.")
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 1, "Blocks of every path.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 16, "Pixels.")
_EXPORT = (
    "import json, os, resource, sys, time\n"
    "import export_samples\n"
    "from keras_munet.export import saved_model\n"
    "out, count, variant, layers, size = sys.argv[1:]\n"
    "made = export_samples.stand_in(\n"
    "    int(count), variant=variant, num_layers=int(layers),\n"
    "    image_size=int(size))\n"
    "def used():\n"
    "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "    return peak / 1024\n"
    "before, started, cpu = used(), time.perf_counter(), time.process_time()\n"
    "saved_model.export(out, made[0], lambda ref: made[1][ref.id])\n"
    "print(json.dumps({\n"
    "    'secs': time.perf_counter() - started,\n"
    "    'cpu': time.process_time() - cpu, 'mib': used() - before}))\n"
)
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


def _measured(out: pathlib.Path, num_tasks: int) -> tuple[float, int]:
    """Prints a row; returns the seconds and the bytes of a graph."""
    made = _run(
        *(_EXPORT, out, num_tasks, _VARIANT.value, _NUM_LAYERS.value),
        _IMAGE_SIZE.value,
    )
    num_bytes = (out / "saved_model.pb").stat().st_size
    library = pathlib.Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    loaded = _run(_LOAD, out)
    loaded_in_c = _run(_LOAD_IN_C, library, out)
    print(
        f"| {num_tasks} | {made['secs']:.1f} s | {made['cpu']:.1f} s | "
        f"{made['mib']:.0f} MiB | {num_bytes:,} | "
        f"{num_bytes / num_tasks:,.0f} | "
        f"{loaded['load_secs']:.2f} s | {loaded['load_mib']:.0f} MiB | "
        f"{loaded['secs']:.2f} s | {loaded['mib']:.0f} MiB | "
        f"{loaded_in_c['secs']:.2f} s | {loaded_in_c['mib']:.0f} MiB |",
        flush=True,
    )
    return made["secs"], num_bytes


def _run(code: str, *args: object) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(_HELPERS), os.environ.get("PYTHONPATH", "")]
            ),
        },
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Measures and prints a table."""
    del argv
    logging.set_verbosity(logging.ERROR)
    print(measuring.header())
    print(
        "| tasks | export | CPU | memory | bytes of graph | of a task | "
        "load, Python | memory | with the first answers | memory | "
        "load, C library | memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    sizes = {}
    secs = 0.0
    for text in _NUM_TASKS.value:
        with tempfile.TemporaryDirectory() as base:
            secs, size = _measured(pathlib.Path(base) / "out", int(text))
        sizes[int(text)] = size
    fewest, most = min(sizes), max(sizes)
    more = (sizes[most] - sizes[fewest]) / max(1, most - fewest)
    print(f"A task more takes {more:,.0f} bytes of graph.")
    if secs > _EXPORT_SECS_MAX or more > _GRAPH_BYTES_MAX:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
