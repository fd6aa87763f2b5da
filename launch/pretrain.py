"""Pretrains a root on characters and writes it as a hub SavedModel.

    python launch/pretrain.py --config=configs/pretrain_mu.py --out=FOLDER

Beside the model lies `pretraining.json`: settings, time and accuracies, among
them a linear probe on `digits` from the root and from random weights.
"""

from __future__ import annotations

import dataclasses
import json
import os

import launching
from absl import flags
from ml_collections import config_flags

from keras_munet import errors

RECORD = "pretraining.json"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to train, e.g. configs/pretrain_mu.py."
)
_OUT = flags.DEFINE_string(
    "out", None, "The SavedModel folder to make.", required=True
)
_QUIET = flags.DEFINE_bool("quiet", False, "Print nothing but errors.")
_NUM_RANDOM_ROOTS = 3
flags.mark_flag_as_required("config")


def main() -> None:
    """Trains, probes, and writes the root with its record."""
    launching.quiet_tensorflow()
    from keras_munet.data import tasks
    from keras_munet.roots import hub
    from keras_munet.roots import root as root_lib
    from keras_munet.roots.pretraining import probe
    from keras_munet.roots.pretraining import training

    settings = training.PretrainSettings.from_dict(_CONFIG.value.to_dict())
    folder = _OUT.value
    if os.path.isfile(folder) or (os.path.isdir(folder) and os.listdir(folder)):
        raise errors.UsageError(
            f"--out={folder} is in use; give a folder that does not exist"
        )
    say = (lambda line: None) if _QUIET.value else print
    result = training.pretrain(settings, say)
    digits = tasks.load("digits")
    random = [
        root_lib.random(
            settings.variant, image_size=settings.image_size, seed=seed
        )
        for seed in range(_NUM_RANDOM_ROOTS)
    ]
    record = {
        # Where the data lay is this machine's own business.
        "settings": {
            **dataclasses.asdict(settings),
            "omniglot_dir": "given" if settings.omniglot_dir else "",
        },
        "secs": round(result.secs, 1),
        "num_classes": result.num_classes,
        "validation_accuracy": result.accuracies,
        "digits_probe": probe.linear_probe(result.root, digits),
        "digits_probe_random": [
            probe.linear_probe(root, digits) for root in random
        ],
    }
    hub.save(result.root, folder)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    launching.write_file(os.path.join(folder, RECORD), text)
    say(text + f"written: {folder}")


if __name__ == "__main__":
    launching.run(main)
