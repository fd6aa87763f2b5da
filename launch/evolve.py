"""Evolves a multitask system: the main job.

    python launch/evolve.py --config=configs/quickstart.py --workdir=DIR
    python launch/evolve.py --config=configs/ti0_cmaterdb.py --workdir=DIR \
        --config.data.manual_dir=FOLDER --config.seed=1

Running the same command again continues what was interrupted.
"""

from __future__ import annotations

import gc

import launching
from absl import flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/quickstart.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's folder, or gs://....", required=True
)
_STRATEGY = flags.DEFINE_string(
    "strategy", "auto", "Devices: auto, one_device or mirrored."
)
_QUIET = flags.DEFINE_bool("quiet", False, "Print nothing but errors.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Creates or continues the system and runs what is left."""
    interrupted = launching.stop_on_interrupt()
    settings = launching.settings_from(_CONFIG)
    launching.quiet_tensorflow()
    from keras_munet import progress
    from keras_munet import system
    from keras_munet.train import strategy

    # Before anything is written: a wrong strategy leaves nothing behind.
    strategy.make(_STRATEGY.value)
    evolved = system.System.create_or_open(_WORKDIR.value, settings)
    reporter = progress.Progress(
        _WORKDIR.value, quiet=_QUIET.value, stop=interrupted
    )
    # What is there by now stays; walking through it again with every
    # collection would cost a tenth of all tracing.
    gc.freeze()
    worked = evolved.run(strategy=_STRATEGY.value, progress=reporter)
    if not worked:
        reporter.line(f"{_WORKDIR.value} is finished: nothing left to do")
        return
    for name, state in evolved.tasks.items():
        metrics = state.published.metrics
        reporter.line(
            f"{name}: test accuracy {metrics['test_quality']:.4f}, "
            f"{state.published.num_params:,} parameters"
        )


if __name__ == "__main__":
    launching.run(main)
