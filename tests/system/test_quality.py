"""A system whose children are judged by more than their accuracy."""

from __future__ import annotations

import json

import pytest
import system_samples

from keras_munet import errors
from keras_munet.callbacks import progress
from keras_munet.core import classification_metrics
from keras_munet.system import executor
from keras_munet.system import system as system_lib


@pytest.mark.parametrize("quality", ["balanced_accuracy", "log_loss"])
def test_the_quality_decides_is_recorded_and_measured_again(quality, tmp_path):
    settings = system_samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=4,
        children_per_generation=2,
        search={"quality": quality, "probe_child": True, "score_base": 0.9},
    )
    system = system_lib.System.create(tmp_path / "run", settings)
    system.run(progress=progress.Progress(tmp_path / "run", quiet=True))
    record = json.loads((tmp_path / "run" / "system.json").read_text())
    assert quality in json.dumps(record)
    path = system.tasks["digits"].published
    data = system.data("digits")
    crew = executor.make(system._dir, system.family, settings, "one_device")
    logits, labels = crew.trainer.logits(crew._frozen(path), data, "validation")
    wanted = classification_metrics.quality(quality, logits, labels)
    assert path.metrics["quality"] == pytest.approx(wanted, abs=1e-5)
    measured = system.evaluate()["digits"]
    assert measured["score"] == pytest.approx(path.metrics["score"], abs=1e-5)
    right = (logits.argmax(1) == labels).mean()
    assert measured["validation_accuracy"] == pytest.approx(right)
    assert abs(path.metrics["quality"] - right) > 1e-4


def test_an_unknown_quality_is_refused_with_those_there_are():
    with pytest.raises(errors.UsageError, match=r"search\.quality.*macro_f1"):
        system_samples.settings(search={"quality": "recall"})
