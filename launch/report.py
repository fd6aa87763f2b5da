"""Writes the report of a system, as text and as one HTML page.

    python launch/report.py --workdir=DIR [--out=DIR] [--watch]

Needs no TensorFlow, but for --predictions: what the published paths answer on
test images, measured once for each path and kept in the report's folder.
"""

from __future__ import annotations

import os

import launching
from absl import flags

from keras_munet import report
from keras_munet.core import settings
from keras_munet.report import predictions as predictions_lib

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_OUT = flags.DEFINE_string("out", "", "Folder; default <workdir>/report.")
_COMPARISON = flags.DEFINE_string(
    "comparison",
    None,
    "Folder of launch/compare.py whose methods to show beside the system.",
)
_PREDICTIONS = flags.DEFINE_bool(
    "predictions",
    False,
    "Measure confusion matrices and sample predictions; needs the test data.",
)
_WATCH = flags.DEFINE_bool(
    "watch", False, "Write it again while a job runs; the page follows."
)
_WATCH_SECS = flags.DEFINE_float(
    "watch_secs", 10.0, "Seconds between two looks.", lower_bound=1.0
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", "", "Data files as <dataset>/<config>/<file>."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Prepared TFDS data; commas between folders."
)


def main() -> None:
    """Prints the text and says where the page is."""
    out = _OUT.value or os.path.join(_WORKDIR.value, "report")
    if _WATCH.value:
        html_path = os.path.join(out, report.HTML_FILE)
        print(f"watching; open {html_path}, stop with Ctrl-C", flush=True)
        written = report.watch(
            _WORKDIR.value,
            out,
            every_secs=_WATCH_SECS.value,
            comparison=_COMPARISON.value,
            prepare=lambda: _predict(out),
        )
    else:
        _predict(out)
        written = report.write(
            _WORKDIR.value, out, comparison=_COMPARISON.value
        )
    print(report.text(_WORKDIR.value))
    for path in written:
        print(f"written: {path}")


def _predict(out: str) -> None:
    """Measures the published paths that were not measured before."""
    if not _PREDICTIONS.value:
        return
    launching.quiet_tensorflow()
    from keras_munet.report import measure_predictions
    from keras_munet.system import system

    opened = system.System.open(
        _WORKDIR.value,
        settings.DataSettings(
            manual_dir=_MANUAL_DIR.value, data_dir=_DATA_DIR.value
        ),
    )
    stored = predictions_lib.read_predictions(out)
    published = {n: s.published.id for n, s in opened.tasks.items()}
    by_task = {n: p for n, p in stored.items() if published.get(n) == p.path_id}
    for name in opened.tasks:
        if name not in by_task:
            by_task[name] = measure_predictions.measure_predictions(
                opened, name
            )
            predictions_lib.write_predictions(out, by_task)


if __name__ == "__main__":
    launching.run(main)
