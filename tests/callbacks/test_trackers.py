"""Reads back what a job leaves in an MLflow store and in W&B's files."""

from __future__ import annotations

import pathlib
import sys

import pytest
import system_samples as samples

import keras_munet
from keras_munet import errors
from keras_munet.callbacks import callback
from keras_munet.callbacks import tracking


def _evolve(folder, name, num_children=4):
    settings = samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=num_children,
        children_per_generation=2,
    )
    system = keras_munet.System.create(folder, settings)
    system.run(callbacks=[callback.make(name)])
    return system


@pytest.fixture(scope="module")
def mlflow_runs(tmp_path_factory):
    """A system and the runs of its task iteration and children."""
    pytest.importorskip("mlflow", reason="needs keras_munet[mlflow]")
    from mlflow import tracking as mlflow_tracking

    base = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", (base / "store").as_uri())
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        system = _evolve(base / "birds", "mlflow")
        client = mlflow_tracking.MlflowClient()
        experiment = client.get_experiment_by_name("birds").experiment_id
        runs = client.search_runs([experiment])
        history = {
            r.info.run_id: {
                name: client.get_metric_history(r.info.run_id, name)
                for name in r.data.metrics
            }
            for r in runs
        }
        artifacts = {
            r.info.run_id: [
                f.path for f in client.list_artifacts(r.info.run_id)
            ]
            for r in runs
        }
    return system, runs, history, artifacts


def test_a_task_iteration_is_an_mlflow_run(mlflow_runs):
    system, runs, history, artifacts = mlflow_runs
    (task,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert task.info.run_name == "digits"
    assert task.info.status == "FINISHED"
    assert task.data.params["num_samples_per_task"] == "4"
    assert task.data.params["root.source"] == system.settings.root.source
    metrics = system.tasks["digits"].published.metrics
    assert task.data.metrics["published/test_quality"] == pytest.approx(
        metrics["test_quality"]
    )
    scores = history[task.info.run_id]["best_score"]
    assert [m.step for m in scores] == [1, 2]
    assert artifacts[task.info.run_id] == ["path.json"]


def test_a_child_is_a_nested_mlflow_run(mlflow_runs):
    _, runs, history, _ = mlflow_runs
    (task,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in runs if r is not task]
    assert sorted(r.info.run_name for r in children) == [
        f"digits child {i}" for i in range(4)
    ]
    for child in children:
        parent = child.data.tags["mlflow.parentRunId"]
        assert parent == task.info.run_id
        assert float(child.data.params["opt_lr"]) > 0
        assert child.info.status == "FINISHED"
        assert [m.step for m in history[child.info.run_id]["score"]] == [
            *(1, 2)
        ]


def test_weights_and_biases_keeps_a_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs keras_munet[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "wandb").mkdir()
    _evolve(tmp_path / "birds", "wandb", num_children=2)
    (file,) = pathlib.Path(tmp_path / "wandb").rglob("run-*.wandb")
    data = file.read_bytes()
    for text in (b"digits", b"best_score", b"published/test_quality"):
        assert text in data


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_tracker_is_named(monkeypatch, package):
    for name in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"package {package} is absent.*keras_munet\[{package}\]"
    with pytest.raises(errors.UsageError, match=message):
        callback.make(package)


def test_a_child_that_diverged_has_the_cycles_before():
    child = {"scores": [0.5, None], "losses": [1.0, None]}
    assert tracking.child_metrics(child) == {
        1: {"score": 0.5, "loss": 1.0},
        2: {},
    }


@pytest.mark.parametrize(
    "workdir, name",
    [("runs/birds/", "birds"), ("gs://bucket/a/birds", "birds")],
)
def test_a_system_has_its_folders_name(workdir, name):
    assert tracking.system_name(workdir) == name
