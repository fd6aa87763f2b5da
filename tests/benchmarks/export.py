"""What one export of many tasks costs, against its parts and against many.

    python tests/benchmarks/export.py [--num_tasks=8] [--variant=Ti]
        [--num_layers=6] [--num_shared=4] [--image_size=64] [--batch_size=8]

Makes a system whose tasks share the trunk and all blocks but the last; nothing
is trained. Three things are run in turns and their medians compared:
`all_tasks`; every unique component once, each on an input of its own kind;
and `predict` of as many separate exports. Then each kind of export is loaded
in a process of its own, for seconds and memory. The machine may be loaded:
read the ratios. Exits with 1 if `all_tasks` costs more than 1.15 times its
unique components.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import export_samples
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

from keras_munet.data import preprocessing
from keras_munet.models import layer_factory
from keras_munet.models import path_model

_RATIO_MAX = 1.15
_NUM_TASKS = flags.DEFINE_integer("num_tasks", 8, "Tasks of the system.")
_VARIANT = flags.DEFINE_string("variant", "Ti", "The root's ViT.")
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 6, "Blocks of every path.")
_NUM_SHARED = flags.DEFINE_integer("num_shared", 4, "Blocks that all share.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images of a request.")
_NUM_TURNS = flags.DEFINE_integer("num_turns", 15, "Runs of each.")
_LOAD = (
    "import json, sys, time, psutil\n"
    "import tensorflow as tf\n"
    "tf.zeros([1])\n"
    "before = psutil.Process().memory_info().rss\n"
    "started = time.perf_counter()\n"
    "kept = [tf.saved_model.load(f) for f in sys.argv[1:]]\n"
    "secs = time.perf_counter() - started\n"
    "rss = psutil.Process().memory_info().rss - before\n"
    "print(json.dumps({'secs': secs, 'mib': rss / 2**20}))\n"
)


def _unique_components(system, images):
    """Returns a function that runs every unique component once.

    Args:
      system: whose tasks are served.
      images: `[batch, height, width, 3] uint8`.
    """
    get = system._dir.objects.get
    runs = {}
    for state in system.tasks.values():
        refs = state.published.components
        components = [get(ref) for ref in refs]
        chain = [
            layer_factory.make_layer(c.spec, c.spec.name) for c in components
        ]
        tensor = preprocessing.evaluation_images(images, _IMAGE_SIZE.value)
        for ref, component, layer, narrow in zip(
            refs,
            components,
            chain,
            path_model.class_token_flags(chain),
            strict=True,
        ):
            options = path_model.call_options(narrow)
            values = [
                tf.Variable(component.weights[name])
                for name, _ in component.spec.weights
            ]
            if ref.id not in runs:
                runs[ref.id] = layer, values, options, tf.Variable(tensor)
            tensor = layer.compute(tensor, values, **options)

    @tf.function(autograph=False)
    def unique(pixels):
        pixels = preprocessing.evaluation_images(pixels, _IMAGE_SIZE.value)
        outputs = [tf.reduce_sum(pixels)]
        for layer, values, options, tensor in runs.values():
            weights = [tf.convert_to_tensor(v) for v in values]
            outputs.append(
                layer.compute(tf.convert_to_tensor(tensor), weights, **options)
            )
        return outputs

    return lambda: unique(images)


def _loaded(folders) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *folders],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    logging.set_verbosity(logging.ERROR)
    own = [f"encoderblock_{i}" for i in range(_NUM_LAYERS.value)]
    own = (*own[_NUM_SHARED.value :], "encoder_norm", "head")
    tasks = {f"task/{i}": 10 for i in range(_NUM_TASKS.value)}
    shape = _BATCH_SIZE.value, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3
    images = tf.constant(
        np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    )
    with tempfile.TemporaryDirectory() as base:
        system = export_samples.system(
            f"{base}/system",
            tasks,
            own=dict.fromkeys(tasks, own),
            variant=_VARIANT.value,
            num_layers=_NUM_LAYERS.value,
            image_size=_IMAGE_SIZE.value,
        )
        together = system.export(f"{base}/together")
        alone = [
            system.export(f"{base}/alone{i}", [task])
            for i, task in enumerate(tasks)
        ]
        served = tf.saved_model.load(together)
        separate = [tf.saved_model.load(folder) for folder in alone]
        asked = {
            "all_tasks": lambda: served.signatures["all_tasks"](images=images),
            "unique components": _unique_components(system, images),
            "separate models": lambda: [
                model.signatures[f"predict_task_{i}"](images=images)
                for i, model in enumerate(separate)
            ],
        }
        secs: dict[str, list[float]] = {name: [] for name in asked}
        for turn in range(_NUM_TURNS.value + 2):
            for name, ask in asked.items():
                started = time.perf_counter()
                ask()
                if turn > 1:
                    secs[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(s) for name, s in secs.items()}
        print(f"{_NUM_TASKS.value} tasks, {_VARIANT.value}")
        for name, median in medians.items():
            print(f"{name}: {1e3 * median:.1f} ms")
        ratio = medians["all_tasks"] / medians["unique components"]
        print(f"all_tasks / unique components: {ratio:.2f}")
        saved = medians["separate models"] / medians["all_tasks"]
        print(f"separate models / all_tasks: {saved:.2f}")
        for name, folders in {"one": [together], "separate": alone}.items():
            num_bytes = sum(
                path.stat().st_size
                for folder in folders
                for path in pathlib.Path(folder).rglob("*")
                if path.is_file()
            )
            found = _loaded(folders)
            print(
                f"{name}: {num_bytes / 2**20:.1f} MiB on disk, loaded in "
                f"{found['secs']:.2f} s, {found['mib']:.0f} MiB of memory"
            )
    if ratio > _RATIO_MAX:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
