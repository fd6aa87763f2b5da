"""Measures every published path on its validation and test data.

    python launch/evaluate.py --workdir=DIR [--tasks=a,b] [--out=metrics.json]

The JSON is sorted and holds no times: equal systems give equal bytes.
"""

from __future__ import annotations

import json
import sys

import launching
from absl import flags

from keras_munet.core import settings

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_TASKS = flags.DEFINE_list("tasks", None, "Tasks to measure; default all.")
_OUT = flags.DEFINE_string("out", "", "File to write; default prints it.")
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", "", "Data files as <dataset>/<config>/<file>."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Prepared TFDS data; commas between folders."
)
_DEVICES = launching.define_device_flags()


def main() -> None:
    """Prints or writes the measurements."""
    devices = _DEVICES()
    launching.quiet_tensorflow()
    from keras_munet.system import system
    from keras_munet.train.devices import strategy
    from keras_munet.train.devices import workers

    job = workers.strategy_workers(strategy.make_strategy(devices))

    opened = system.System.open(
        _WORKDIR.value,
        settings.DataSettings(
            manual_dir=_MANUAL_DIR.value, data_dir=_DATA_DIR.value
        ),
    )
    measured = opened.evaluate(_TASKS.value, strategy=devices)
    if not job.is_chief:
        return
    plain = {name: one.to_json() for name, one in measured.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    if _OUT.value:
        launching.write_file(_OUT.value, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    launching.run(main)
