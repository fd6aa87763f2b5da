"""A short real run of `ti3 characters` on MNIST.

    python tests/benchmarks/characters.py --data_dir=FOLDER
        [--manual_dir=FOLDER] [--num_steps=10]

Everything is the published experiment's but the number of tasks (one), of
children (16), of steps per cycle, and the root's values, on which no time
depends. Prints one JSON object. See `training.py` for what it is held against.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app
from absl import flags

from keras_munet.callbacks import progress
from keras_munet.core import settings as settings_lib
from keras_munet.report import events
from keras_munet.system import system
from keras_munet.train.devices import cpu_threads

_CONFIG = (
    pathlib.Path(__file__).resolve().parents[2] / "configs/ti3_characters.py"
)
_NUM_CHILDREN = 16
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared TFDS data, or where they go.", required=True
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Holds mnist/*.gz.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 10, "Steps of a cycle.")


def _settings() -> tuple[settings_lib.Settings, int]:
    """Returns the short experiment, and the steps of a published cycle."""
    config = runpy.run_path(str(_CONFIG))["get_config"]("offline")
    published = (
        config.num_train_examples_between_validations_max // config.batch_size
    )
    config.task_names = ["mnist"]
    config.num_task_iters = 1
    config.num_samples_per_task = _NUM_CHILDREN
    config.num_train_examples_between_validations_max = (
        _NUM_STEPS.value * config.batch_size
    )
    config.root.source = "random"
    config.data.data_dir = _DATA_DIR.value
    config.data.manual_dir = _MANUAL_DIR.value
    return settings_lib.Settings.from_dict(config.to_dict()), published


def main(argv: list[str]) -> None:
    """Runs and prints."""
    del argv
    settings, num_published_steps = _settings()
    cpu_threads.divide_cores("one_device", settings.children_per_generation)
    with tempfile.TemporaryDirectory() as workdir:
        made = system.System.create(workdir, settings)
        made.run(progress=progress.Progress(workdir, quiet=True))
        history = events.read_history(workdir)
    num_cycles = settings.num_validations_per_path_training
    num_steps = num_cycles * _NUM_STEPS.value * len(history.generations)
    # What a step costs wherever it is compiled already.
    step_secs = history.clock["train_secs"] + history.clock["input_secs"]
    children = [
        {
            "num_layers": child["num_layers"],
            # The programs that are compared have no adapters.
            "trained": [n for n in child["trained"] if "adapter" not in n],
        }
        for generation in history.generations
        for child in generation.children
    ]
    found = {
        "num_children": len(children),
        "num_cycles": num_cycles,
        "num_steps": _NUM_STEPS.value,
        "num_published_steps": num_published_steps,
        "secs": history.total_secs,
        "later_step_secs": step_secs / num_steps,
        "num_generations": len(history.generations),
        "children": children,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    app.run(main)
