"""Evolves a multitask system: the main job.

    python launch/evolve.py --config=configs/quickstart.py --workdir=DIR
    python launch/evolve.py --config=configs/ti0_cmaterdb.py --workdir=DIR \
        --config.data.manual_dir=FOLDER --config.seed=1

Running the same command again continues what was interrupted. A terminal shows
bars; a file or a pipe gets lines, with --json one JSON object each.
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
_DEVICES = launching.define_device_flags()
_QUIET = flags.DEFINE_bool("quiet", False, "Print nothing but errors.")
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object a line.")
_TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write event files to <workdir>/tensorboard."
)
_TENSORBOARD_DIR = flags.DEFINE_string(
    "tensorboard_dir", "", "Write TensorBoard's event files there."
)
_CALLBACKS = flags.DEFINE_multi_string(
    "callback", [], "Follow the job by this callback of a plug-in; repeatable."
)
flags.mark_flag_as_required("config")


def main() -> None:
    """Creates or continues the system and runs what is left."""
    interrupted = launching.stop_on_interrupt()
    terminated = launching.stop_on_terminate()
    devices = _DEVICES()
    settings = launching.settings_from(_CONFIG)

    def configure() -> None:
        from keras_munet.train.devices import cpu_threads

        # A preset that is chosen by the data is `small` as a rule.
        num_children = settings.children_per_generation or 1
        cpu_threads.divide_cores(devices.strategy, num_children)

    launching.quiet_tensorflow(configure)
    from keras_munet.callbacks import callback
    from keras_munet.callbacks import progress_bar
    from keras_munet.callbacks import tensorboard_callback
    from keras_munet.system import system
    from keras_munet.train.devices import strategy
    from keras_munet.train.devices import workers

    # Before anything is written: a wrong strategy leaves nothing behind.
    job = workers.strategy_workers(strategy.make_strategy(devices))
    folder = tensorboard_callback.log_folder(
        _WORKDIR.value, _TENSORBOARD_DIR.value, _TENSORBOARD.value
    )
    if folder:
        tensorboard_callback.require_tensorboard()
    # Before anything is written, as a plug-in may be missing.
    callbacks = [callback.make(name) for name in _CALLBACKS.value]
    evolved = job.from_chief(
        lambda: system.System.create_or_open(_WORKDIR.value, settings),
        lambda: system.System.open(_WORKDIR.value, settings.data),
    )
    if folder and job.is_chief:
        callbacks.append(
            tensorboard_callback.TensorBoard(
                folder, evolved.settings.num_generations, evolved.data
            )
        )
    reporter = progress_bar.make_reporter(
        _WORKDIR.value,
        launching.terminal(),
        quiet=_QUIET.value,
        as_json=_JSON.value,
        stop=interrupted,
        terminate=terminated,
        callbacks=callbacks,
    )
    if folder and job.is_chief:
        reporter.line(
            f"to look at: {tensorboard_callback.tensorboard_command(folder)}"
        )
    # What is there by now stays; walking through it again with every
    # collection would cost a tenth of all tracing.
    gc.freeze()
    with reporter:
        worked = evolved.run(strategy=devices, progress=reporter)
    if not job.is_chief:
        return
    if not worked:
        reporter.line(f"{_WORKDIR.value} is finished: nothing left to do")
        return
    for name, state in evolved.tasks.items():
        metrics = state.published.metrics
        measure = state.target.test_measure(evolved.settings.search.quality)
        reporter.line(
            f"{name}: test {measure.replace('_', ' ')} "
            f"{metrics['test_quality']:.4f}, "
            f"{state.published.num_params:,} parameters"
        )


if __name__ == "__main__":
    launching.run(main)
