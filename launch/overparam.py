"""Trains compact networks for several dense tasks and measures them.

    python launch/overparam.py --config=configs/overparam_overlaid.py \
        --output_dir=DIR [--method=overparam] [--tasks=a,b] [--seed=0]

Methods: overparam (products of shared and task factors), overparam_common,
overparam_single, hard_sharing, single_task, uncertainty, pcgrad. DIR gets
metrics.json and the contracted networks as .keras files of ordinary layers.
Running the same command again continues what was interrupted.
"""

from __future__ import annotations

import dataclasses

import launching
from absl import flags
from ml_collections import config_flags

from keras_munet.overparam.experiments import settings as settings_lib

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/overparam_overlaid.py."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "The folder of this one run.", required=True
)
_METHOD = flags.DEFINE_string(
    "method", None, "How to train; default the config's."
)
_TASKS = flags.DEFINE_list("tasks", None, "Tasks; default the config's.")
_SEED = flags.DEFINE_integer("seed", None, "Default the config's.")
_STRATEGY = flags.DEFINE_string(
    "strategy",
    "auto",
    "Devices: auto, one_device or mirrored.",
)
_QUIET = flags.DEFINE_bool("quiet", False, "Print nothing but errors.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs the experiment and prints what it found."""
    settings = settings_lib.Settings.from_dict(_CONFIG.value.to_dict())
    if _METHOD.value is not None:
        settings = dataclasses.replace(settings, method=_METHOD.value)
    if _TASKS.value is not None:
        settings = dataclasses.replace(settings, task_names=tuple(_TASKS.value))
    if _SEED.value is not None:
        settings = dataclasses.replace(settings, seed=_SEED.value)
    launching.quiet_tensorflow()
    from keras_munet.overparam.experiments import run
    from keras_munet.train.devices import strategy

    say = (lambda line: None) if _QUIET.value else print
    result = run.run(
        settings,
        _OUTPUT_DIR.value,
        strategy.make_strategy(_STRATEGY.value),
        say=say,
    )
    for task, values in sorted(result["metrics"].items()):
        values_text = ", ".join(f"{k} {v:.4f}" for k, v in values.items())
        say(f"{task}: {values_text}")
    cost = result["cost"]
    say(
        f"deployed: {cost['deployed_params']:,} parameters, "
        f"{cost['multiply_adds'] / 1e6:.1f} M multiply-adds an image"
    )
    say(f"written: {_OUTPUT_DIR.value}")


if __name__ == "__main__":
    launching.run(main)
