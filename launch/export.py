"""Writes published paths as one SavedModel.

python launch/export.py --workdir=DIR --out=OUT [--tasks=a,b]
"""

from __future__ import annotations

import launching
from absl import flags

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_OUT = flags.DEFINE_string("out", None, "The folder to make.", required=True)
_TASKS = flags.DEFINE_list("tasks", None, "Tasks to serve; default all.")


def main() -> None:
    """Exports and says where."""
    launching.quiet_tensorflow()
    from keras_munet import system

    opened = system.System.open(_WORKDIR.value)
    print(f"SavedModel: {opened.export(_OUT.value, _TASKS.value)}")


if __name__ == "__main__":
    launching.run(main)
