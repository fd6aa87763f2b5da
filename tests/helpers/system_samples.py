"""Small experiments that the system's tests share."""

from __future__ import annotations

import hashlib
import pathlib

from keras_munet.core import settings as settings_lib


def settings(**changes) -> settings_lib.Settings:
    """Two tasks, two rounds, two generations of three children each."""
    values = {
        "seed": 5,
        "task_names": ["digits", "private:glyphs/digits"],
        "num_task_iters": 2,
        "num_samples_per_task": 6,
        "children_per_generation": 3,
        "num_validations_per_path_training": 2,
        "batch_size": 64,
        "num_train_examples_between_validations_max": 256,
        "num_validation_examples_max": 128,
        "root": {"variant": "mu", "num_layers": 1, "image_size": 16},
        "ranges": {"num_layers": [0, 1, 2]},
        "hparams": {"opt_lr": 0.1, "ds_crop": False},
    }
    values.update(changes)
    return settings_lib.Settings.from_dict(values)


def digests(workdir: str | pathlib.Path) -> dict[str, str]:
    """Returns file -> SHA-256 of everything that a system consists of.

    Locks are empty or say who had them last.
    """
    workdir = pathlib.Path(workdir)
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = str(path.relative_to(workdir))
        locks = name == "lock" or name.startswith("locks")
        logs = name == "metrics.jsonl" or name.startswith("events")
        if path.is_file() and not logs and not locks:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
