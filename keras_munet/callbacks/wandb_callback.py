"""Records a job as Weights & Biases runs, one per task iteration.

The project is `WANDB_PROJECT`, or the name of the system's folder; with
`WANDB_MODE=offline` runs are written to files that `wandb sync` uploads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import tracking
from keras_munet.core import plugins

_CHILD_COLUMNS = ("child", "parent_task", "score", "improved", "hparams")


class WeightsAndBiases(callback_lib.Callback):
    """Writes scores, a table of children and published paths.

    Example:
      system.run(callbacks=[WeightsAndBiases()])
    """

    def __init__(self) -> None:
        """Starts no run yet.

        Raises:
          UsageError: the package wandb is not installed.
        """
        self._wandb = plugins.import_extra(
            "wandb", "wandb", "callback wandb needs"
        )
        self._system = ""
        self._settings: dict[str, str] = {}
        self._task_run: Any = None
        self._children: list[list[Any]] = []

    def on_run_begin(self, run: callback_lib.Run) -> None:
        """Keeps what every run is given."""
        self._system = tracking.system_name(run.workdir)
        self._settings = tracking.flat_settings(run.settings)

    def on_task_begin(self, start: callback_lib.TaskStart) -> None:
        """Starts the run of a task iteration."""
        self._end_task(1)
        self._task_run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self._system,
            group=self._system,
            name=start.task,
            config={"task": start.task, **self._settings},
            reinit="finish_previous",
        )

    def on_generation_end(self, event: Mapping[str, Any]) -> None:
        """Logs the scores and seconds of a generation."""
        self._task_run.log(
            tracking.generation_metrics(event), step=event["number"]
        )

    def on_child_end(
        self, event: Mapping[str, Any], child: Mapping[str, Any]
    ) -> None:
        """Adds a child to the table of the task iteration."""
        del event
        self._children.append(
            [
                *(child["index"], child["parent_task"], child["score"]),
                *(child["improved"], str(child["hparams"])),
            ]
        )

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Logs the published path and ends the run of the task iteration."""
        metrics = event["path"]["metrics"]
        self._task_run.summary.update(
            {f"published/{name}": value for name, value in metrics.items()}
        )
        self._end_task(0)

    def on_run_end(self) -> None:
        """Ends the run of a task iteration that was interrupted."""
        self._end_task(1)

    def _end_task(self, exit_code: int) -> None:
        if self._task_run is None:
            return
        table = self._wandb.Table(list(_CHILD_COLUMNS), self._children)
        self._task_run.log({"children": table})
        self._task_run.finish(exit_code=exit_code)
        self._task_run, self._children = None, []
