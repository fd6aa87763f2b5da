"""Runs one experiment by several methods and seeds, and compares them.

    python launch/compare.py --config=configs/quickstart.py --workdir=DIR \
        --methods=mu2net,finetune_all,adapters:16 --seeds=0,1

Methods: mu2net, munet, finetune_all, freeze_bottom_layers:K, adapters:D,
linear_probe. Each run is a system in DIR/<method>/seed_<seed>; DIR gets
comparison.json, comparison.md and comparison.html, renewed after each run.
Running the same command again continues what was interrupted or is missing.
"""

from __future__ import annotations

import math
import os

import launching
from absl import flags
from ml_collections import config_flags

from keras_munet import compare as report
from keras_munet import errors
from keras_munet.compare import methods as methods_lib
from keras_munet.compare import runs

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/quickstart.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Holds a folder per method.", required=True
)
_METHODS = flags.DEFINE_list(
    "methods", ["mu2net", "munet", "finetune_all"], "What to compare."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Root seeds of each method.")
_DEADLINE_MINS = flags.DEFINE_float(
    "deadline_mins",
    None,
    "Begin or continue no run after so many minutes; 0 only reports.",
    lower_bound=0.0,
)
_DEVICES = launching.define_device_flags()
_QUIET = flags.DEFINE_bool("quiet", False, "Print the comparison alone.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs what is left and prints the comparison."""
    interrupted = launching.stop_on_interrupt()
    settings = launching.settings_from(_CONFIG)
    devices = _DEVICES()
    if devices.strategy == "multi_worker":
        raise errors.UsageError(
            "--strategy=multi_worker is for one system, and a comparison has "
            "many; use the devices of one machine, or launch/evolve.py"
        )
    seeds = [_seed(text) for text in _SEEDS.value]
    methods = methods_lib.parse(_METHODS.value)
    launching.quiet_tensorflow()
    from keras_munet.train.devices import strategy

    # Before anything is written: a wrong strategy leaves nothing behind.
    strategy.make_strategy(devices)
    compared = runs.Comparison(_WORKDIR.value, settings, methods, seeds)
    mins = _DEADLINE_MINS.value
    result = compared.run(
        strategy=devices,
        deadline_secs=math.inf if mins is None else 60 * mins,
        quiet=_QUIET.value,
        stop=interrupted,
    )
    print(report.text(result), end="")
    print(f"\nwritten: {os.path.join(_WORKDIR.value, report.HTML_FILE)}")
    reasons = result.missing_runs.values()
    failed = [why for why in reasons if why.startswith(runs.FAILED)]
    if failed:
        raise errors.ChildError(
            f"{len(failed)} of {len(methods) * len(seeds)} runs failed: "
            f"{failed[0]}; the others are compared"
        )


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise errors.UsageError(
            f"--seeds has {text!a}; write whole numbers joined by commas"
        ) from None


if __name__ == "__main__":
    launching.run(main)
