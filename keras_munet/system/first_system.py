"""Evolves a system of a few tasks in one call, for a first try."""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Sequence

from keras_munet import config as config_lib
from keras_munet import errors
from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import progress as progress_lib
from keras_munet.core import config_parsing
from keras_munet.core import settings as settings_lib
from keras_munet.system import system as system_lib


def evolve(
    workdir: str | os.PathLike[str],
    tasks: Sequence[str],
    *,
    preset: str = "small",
    data_dir: str = "",
    manual_dir: str = "",
    seed: int = 0,
    quiet: bool = False,
    callbacks: Iterable[callback_lib.Callback] = (),
) -> system_lib.System:
    """Evolves small tasks into a system and returns it.

    The settings are those of `configs/own_images.py`; `System.create` takes
    any others. The same call again continues what was interrupted, or adds the
    tasks that are new.

    Args:
      workdir: where the system lives.
      tasks: names in order, e.g. `digits`, `own/birds`.
      preset: how much to train: `small`, `medium`, `large`, or `auto` for what
        suits the data.
      data_dir: prepared data, as `data.data_dir` of a config.
      manual_dir: source files, as `data.manual_dir` of a config.
      seed: the root seed of every random choice.
      quiet: whether to print nothing.
      callbacks: follow the job.

    Raises:
      UsageError: a task is unknown, or `workdir` holds another experiment.
      DataError: a task's data are missing or damaged.

    Example:
      >>> system = keras_munet.evolve("runs/first", ["digits"], quiet=True)
      >>> system["digits"].test_accuracy > 0.9
      True
    """
    names = config_parsing.convert_value("tuple[str, ...]", tasks, "task_names")
    if not names:
        raise errors.UsageError(
            "task_names is empty; name the tasks to evolve, e.g. ['digits']"
        )
    config = config_lib.small_tasks().to_dict()
    settings = settings_lib.Settings.from_dict(
        {
            **config,
            "task_names": names,
            "preset": preset,
            "seed": seed,
            "data": {
                **config["data"],
                "data_dir": data_dir,
                "manual_dir": manual_dir,
            },
        }
    )
    system = system_lib.System.create_or_open(workdir, settings)
    with progress_lib.Progress(
        workdir, quiet=quiet, callbacks=callbacks
    ) as progress:
        system.run(progress=progress)
    return system
