"""Runs the published `ti0 cmaterdb` experiment over seeds and tabulates it.

    python tests/benchmarks/ti0_cmaterdb.py --workdir=DIR --manual_dir=FOLDER \
        [--seeds=0,1,2]

Each seed has a directory of its own below DIR; finished ones are not run again.
Prints test accuracies and seconds by kind of work; see
docs/measured/performance.md.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys

from absl import app
from absl import flags

from keras_munet.report import events
from keras_munet.store import system_dir

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_WORKDIR = flags.DEFINE_string("workdir", None, "Results.", required=True)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "Holds cmaterdb/<config>/*.npz.", required=True
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Root seeds.")


def main(argv: list[str]) -> None:
    """Runs and prints."""
    del argv
    base = pathlib.Path(_WORKDIR.value).resolve()
    means = []
    for seed in _SEEDS.value:
        workdir = base / f"seed_{seed}"
        subprocess.run(
            [
                *(sys.executable, str(_ROOT / "launch" / "evolve.py")),
                f"--config={_ROOT / 'configs' / 'ti0_cmaterdb.py'}",
                f"--workdir={workdir}",
                f"--config.seed={seed}",
                f"--config.data.manual_dir={_MANUAL_DIR.value}",
                f"--config.data.data_dir={base / 'tfds'}",
                "--quiet",
            ],
            check=True,
        )
        tasks = system_dir.SystemDir.open(workdir).tasks()
        tests = {
            name: state.published.metrics["test_quality"]
            for name, state in tasks.items()
        }
        means.append(statistics.mean(tests.values()))
        history = events.read_history(workdir)
        shown = "  ".join(
            f"{name} {value:.3f}" for name, value in tests.items()
        )
        print(f"seed {seed}: {shown}  mean {means[-1]:.3f}")
        work = "  ".join(f"{k} {v:.1f}" for k, v in history.clock.items())
        print(f"  {history.total_secs:.0f} s of generations: {work}")
    spread = statistics.stdev(means) if len(means) > 1 else 0.0
    print(
        f"{len(means)} seeds: mean {statistics.mean(means):.3f}, standard "
        f"deviation {spread:.3f}"
    )


if __name__ == "__main__":
    app.run(main)
