"""Writes the report of a system, as text and as one HTML page.

    python launch/report.py --workdir=DIR [--out=DIR]

Needs no TensorFlow.
"""

from __future__ import annotations

import os

import launching
from absl import flags

from keras_munet import report

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_OUT = flags.DEFINE_string("out", "", "Folder; default <workdir>/report.")


def main() -> None:
    """Prints the text and says where the page is."""
    out = _OUT.value or os.path.join(_WORKDIR.value, "report")
    print(report.text(_WORKDIR.value))
    for path in report.write(_WORKDIR.value, out):
        print(f"written: {path}")


if __name__ == "__main__":
    launching.run(main)
