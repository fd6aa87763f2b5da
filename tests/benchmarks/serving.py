"""Measures a request to an export, by each runtime that reads it.

    python tests/benchmarks/serving.py [--shapes=mu:1:16,Ti/16:6:64]
        [--batch_sizes=1,16] [--baseline=FOLDER]

Exports one made-up task of each shape (variant, layers, pixels) and asks the
SavedModel in Python and by TensorFlow's C library, the `.onnx` file in ONNX
Runtime and, where it is installed, in OpenVINO, in turns: float32 products,
and in OpenVINO bfloat16, too, which ONNX Runtime does not have on a CPU. Prints
CPU milliseconds (minimum and median) and wall milliseconds (median and 99th
percentile). With `--baseline`, a folder that `--keep=FOLDER` of another
version of the library wrote, its SavedModels take turns too, and the largest
difference of scores is printed. The machine may be loaded: read the ratios.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import c_process
import export_samples
import measuring
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from keras_munet.export import options
from keras_munet.export import saved_model

_SHAPES = flags.DEFINE_list(
    "shapes", ["mu:1:16", "Ti/16:6:64", "Ti/16:12:224"], "What is exported."
)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "16"], "Of requests.")
_SECS = flags.DEFINE_float("secs", 4.0, "Seconds for each program.")
_BASELINE = flags.DEFINE_string("baseline", None, "Exports to compare with.")
_KEEP = flags.DEFINE_string("keep", None, "Where the exports stay.")
_NUM_TURNS = 5
_Ask = Callable[[np.ndarray], np.ndarray]


def _tensorflow(folder: pathlib.Path) -> _Ask:
    signatures = tf.saved_model.load(str(folder)).signatures
    predict = signatures["predict_task_0"]
    return lambda images: predict(images=tf.constant(images))["scores"].numpy()


def _c_library(folder: pathlib.Path) -> _Ask:
    library = c_process.Library(c_process.library_file())
    session, graph = library.load(str(folder))
    names = c_process.tensor_names(folder, "predict_task_0")

    def answer(images: np.ndarray) -> np.ndarray:
        values = library.run(session, graph, {**names, "images": images})
        return np.reshape(values, [len(images), -1])

    return answer


def _onnxruntime(folder: pathlib.Path) -> _Ask:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "onnx" / "task_0.onnx"),
        providers=["CPUExecutionProvider"],
    )
    return lambda images: session.run(["scores"], {"images": images})[0]


def _openvino(folder: pathlib.Path, precision: str = "f32") -> _Ask:
    import openvino

    compiled = openvino.Core().compile_model(
        str(folder / "onnx" / "task_0.onnx"),
        "CPU",
        {"INFERENCE_PRECISION_HINT": precision},
    )
    return lambda images: compiled({"images": images})["scores"]


def _measured(
    requests: dict[str, _Ask], images: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns program -> (CPU seconds, wall seconds) of its answers."""
    secs: dict[str, list[tuple[float, float]]] = {name: [] for name in requests}
    for ask in requests.values():
        ask(images)
    for _ in range(_NUM_TURNS):
        for name, ask in requests.items():
            end = time.perf_counter() + _SECS.value / _NUM_TURNS
            while time.perf_counter() < end:
                started, cpu = time.perf_counter(), time.process_time()
                ask(images)
                secs[name].append(
                    (
                        time.process_time() - cpu,
                        time.perf_counter() - started,
                    )
                )
    return {
        name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1])
        for name, pairs in secs.items()
    }


def _programs(folder: pathlib.Path, shape: str) -> dict[str, _Ask]:
    programs = {
        "SavedModel": _tensorflow(folder),
        "SavedModel, C library": _c_library(folder),
    }
    if _BASELINE.value:
        before = pathlib.Path(_BASELINE.value) / folder.name
        programs["SavedModel before"] = _tensorflow(before)
    for name, make in (
        ("ONNX Runtime", _onnxruntime),
        ("OpenVINO", _openvino),
        ("OpenVINO, bfloat16", functools.partial(_openvino, precision="bf16")),
    ):
        try:
            programs[name] = make(folder)
        except ImportError:
            print(f"{name} is not installed; {shape} is measured without it")
    return programs


def main(argv: list[str]) -> None:
    """Measures and prints a table."""
    del argv
    logging.set_verbosity(logging.ERROR)
    print(measuring.header())
    rows = []
    with tempfile.TemporaryDirectory() as base:
        for shape in _SHAPES.value:
            variant, num_layers, side = shape.split(":")
            folder = pathlib.Path(_KEEP.value or base, shape.replace("/", "_"))
            states, components = export_samples.stand_in(
                1,
                variant=variant,
                num_layers=int(num_layers),
                image_size=int(side),
            )
            saved_model.export(
                folder,
                states,
                lambda ref, parts=components: parts[ref.id],
                options.Options(formats=("savedmodel", "onnx")),
            )
            programs = _programs(folder, shape)
            for batch_size in map(int, _BATCH_SIZES.value):
                images = np.random.default_rng(0).integers(
                    *(0, 256, (batch_size, int(side), int(side), 3), np.uint8)
                )
                expected = programs["SavedModel"](images)
                measured = _measured(programs, images)
                for name, (cpu, wall) in measured.items():
                    apart = np.abs(programs[name](images) - expected).max()
                    rows.append(
                        [
                            *(shape, batch_size, name, len(cpu)),
                            f"{1e3 * cpu.min():.2f}",
                            f"{1e3 * np.median(cpu):.2f}",
                            f"{1e3 * np.median(wall):.2f}",
                            f"{1e3 * np.percentile(wall, 99):.2f}",
                            f"{apart:.1e}",
                        ]
                    )
    head = ["shape", "batch", "program", "requests", "CPU, least, ms"]
    head += ["CPU, median", "wall, median", "wall, p99", "scores apart"]
    print(measuring.table(head, rows))


if __name__ == "__main__":
    app.run(main)
