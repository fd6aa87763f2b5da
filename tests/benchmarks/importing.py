"""Measures how long a new process takes for imports and its first result.

    python tests/benchmarks/importing.py [--repeats=9]

Prints the median and the least of several processes, less what an empty one
takes: wall milliseconds, and CPU milliseconds of all threads. The first results
are the end of a training cycle of one step by `launch/evolve.py`, and an answer
to a request of one picture by an export's SavedModel in Python, by TensorFlow's
C library and by its `.onnx` file; programs take turns.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

_HERE = pathlib.Path(__file__).resolve().parent
_HELPERS = _HERE.parent / "helpers"
_CODES = {
    "import numpy": "import numpy",
    "import keras_munet": "import keras_munet",
    "... and its settings": "import keras_munet; keras_munet.Settings",
    "... and its report": "import keras_munet.report",
    "... and its systems": "import keras_munet; keras_munet.System",
    "keras-munet --version": (
        "import sys; sys.argv = ['', '--version']\n"
        "import keras_munet.__main__ as command; command.main()"
    ),
    "import tensorflow": "import tensorflow",
    "import keras": "import keras",
}
_EXPORT = """
import sys
sys.path.insert(0, {helpers!r})
import export_samples
from keras_munet.export import options, saved_model
states, components = export_samples.stand_in(
    1, variant="mu", num_layers=4, image_size=32)
saved_model.export({folder!r}, states, lambda ref: components[ref.id],
    options.Options(formats=("savedmodel", "onnx")))
import c_process
print(c_process.tensor_names({folder!r}, "predict_task_0"))
"""
_STARTS = {
    "evolve: first cycle": """
import os, runpy, sys
from keras_munet.callbacks import callback
callback.Callback.on_cycle_end = lambda *numbers: os._exit(0)
sys.argv = ["evolve.py", "--config={root}/configs/own_images.py:digits",
    "--workdir={workdir}",
    "--config.num_train_examples_between_validations_max=64"]
sys.path[0] = "{root}/launch"
runpy.run_path("{root}/launch/evolve.py", run_name="__main__")
""",
    "SavedModel: first answer": """
import numpy, tensorflow
signatures = tensorflow.saved_model.load("{folder}").signatures
images = tensorflow.zeros([1, 32, 32, 3], "uint8")
signatures["predict_task_0"](images=images)["scores"].numpy()
""",
    "C library: first answer": """
import sys
sys.path.insert(0, "{helpers}")
import c_process
library = c_process.Library(c_process.library_file())
session, graph = library.load("{folder}")
images = [[[[0] * 3] * 32] * 32]
library.run(session, graph, dict({names}, images=images))
""",
    "ONNX Runtime: first answer": """
import numpy, onnxruntime
session = onnxruntime.InferenceSession("{folder}/onnx/task_0.onnx",
    providers=["CPUExecutionProvider"])
session.run(["scores"], dict(images=numpy.zeros([1, 32, 32, 3], "uint8")))
""",
}


def main() -> None:
    """Prints a line per import and per start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as base:
        folder = f"{base}/export"
        helpers = str(_HELPERS)
        printed = _run(_EXPORT.format(helpers=helpers, folder=folder))
        tensor_names = printed.splitlines()[-1]
        codes = {"": "pass", **_CODES}
        secs: dict[str, list[tuple[float, float]]] = {}
        for number in range(repeats):
            starts = {
                name: code.format(
                    root=_HERE.parents[1],
                    workdir=f"{base}/{number}",
                    folder=folder,
                    helpers=helpers,
                    names=tensor_names,
                )
                for name, code in _STARTS.items()
            }
            for name, code in (codes | starts).items():
                secs.setdefault(name, []).append(_timed(code))
    empty = [
        statistics.median(values) for values in zip(*secs.pop(""), strict=True)
    ]
    print("| | wall, median, ms | least | CPU, median, ms | least |")
    print("|---|---|---|---|---|")
    for name, pairs in secs.items():
        row = [
            f"{1e3 * (of_all(values) - without):.0f}"
            for values, without in zip(
                zip(*pairs, strict=True), empty, strict=True
            )
            for of_all in (statistics.median, min)
        ]
        print(f"| {name} | {' | '.join(row)} |")


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def _timed(code: str) -> tuple[float, float]:
    """Returns wall and CPU seconds of a process."""
    started, before = time.perf_counter(), _cpu_secs()
    _run(code)
    return time.perf_counter() - started, _cpu_secs() - before


def _cpu_secs() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
