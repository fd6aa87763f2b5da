"""Records a job as MLflow runs: one per task iteration, nested ones per child.

The tracking server is MLflow's own setting, `MLFLOW_TRACKING_URI`; the
experiment is `MLFLOW_EXPERIMENT_NAME`, or the name of the system's folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks import tracking
from keras_munet.core import plugins

# MLflow accepts so many of each in one request.
_NUM_METRICS_MAX = 1000
_NUM_PARAMS_MAX = 100
_NUM_CHARS_MAX = 500


class MLflow(callback_lib.Callback):
    """Writes parameters, scores and published paths to MLflow.

    Example:
      system.run(callbacks=[MLflow()])
    """

    def __init__(self) -> None:
        """Connects to nothing yet.

        Raises:
          UsageError: the package mlflow is not installed.
        """
        mlflow_tracking = plugins.import_extra(
            "mlflow.tracking", "mlflow", "callback mlflow needs"
        )
        self._client = mlflow_tracking.MlflowClient()
        self._experiment = ""
        self._settings: dict[str, str] = {}
        self._task_run = ""

    def on_run_begin(self, run: callback_lib.Run) -> None:
        """Finds or makes the experiment."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or (
            tracking.system_name(run.workdir)
        )
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(name)
        )
        self._settings = tracking.flat_settings(run.settings)

    def on_task_begin(self, start: callback_lib.TaskStart) -> None:
        """Starts the run of a task iteration."""
        self._end_task("KILLED")
        self._task_run = self._start(start.task, {"task": start.task})
        params = {"task": start.task, **self._settings}
        self._log(self._task_run, {}, params)

    def on_generation_end(self, event: Mapping[str, Any]) -> None:
        """Logs the scores and seconds of a generation."""
        self._log(
            self._task_run,
            {event["number"]: tracking.generation_metrics(event)},
        )

    def on_child_end(
        self, event: Mapping[str, Any], child: Mapping[str, Any]
    ) -> None:
        """Writes the run of a child: hyperparameters, scores of its cycles."""
        name = f"{event['task']} child {child['index']}"
        run = self._start(
            name,
            {"task": event["task"], "mlflow.parentRunId": self._task_run},
        )
        self._log(run, tracking.child_metrics(child), child["hparams"])
        failed = child["score"] is None
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED")

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Logs the published path and ends the run of the task iteration."""
        path = event["path"]
        metrics = {f"published/{k}": v for k, v in path["metrics"].items()}
        self._log(self._task_run, {event["iteration"] + 1: metrics})
        self._client.log_dict(self._task_run, dict(path), "path.json")
        self._end_task("FINISHED")

    def on_run_end(self) -> None:
        """Ends the run of a task iteration that was interrupted."""
        self._end_task("KILLED")

    def _start(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self._experiment, tags=dict(tags), run_name=name
        )
        return run.info.run_id

    def _end_task(self, status: str) -> None:
        if self._task_run:
            self._client.set_terminated(self._task_run, status)
            self._task_run = ""

    def _log(
        self,
        run: str,
        metrics: Mapping[int, Mapping[str, float]],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Logs step -> metrics, and parameters."""
        from mlflow import entities

        now = int(1000 * time.time())
        points = [
            entities.Metric(name, float(value), now, step)
            for step, values in metrics.items()
            for name, value in values.items()
        ]
        named = [
            entities.Param(name, str(value)[:_NUM_CHARS_MAX])
            for name, value in (params or {}).items()
        ]
        for i in range(0, len(points), _NUM_METRICS_MAX):
            self._client.log_batch(run, points[i : i + _NUM_METRICS_MAX])
        for i in range(0, len(named), _NUM_PARAMS_MAX):
            self._client.log_batch(run, params=named[i : i + _NUM_PARAMS_MAX])
