"""A system whose children are judged by more than their accuracy."""

from __future__ import annotations

import json

import pytest
import system_samples

from keras_munet import errors
from keras_munet.callbacks import progress
from keras_munet.core import qualities
from keras_munet.core import settings as settings_lib
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
    crew = executor.make_executor(
        system._dir, system.family, settings, "one_device"
    )
    logits, labels = crew.trainer.logits(crew._frozen(path), data, "validation")
    wanted = qualities.measure_quality(quality, logits, labels)
    assert path.metrics["quality"] == pytest.approx(wanted, abs=1e-5)
    measured = system.evaluate()["digits"]
    assert measured["score"] == pytest.approx(path.metrics["score"], abs=1e-5)
    right = (logits.argmax(1) == labels).mean()
    assert measured["validation_accuracy"] == pytest.approx(right)
    assert abs(path.metrics["quality"] - right) > 1e-4


def _weighted(weights, **changes):
    return system_samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=1,
        children_per_generation=1,
        num_validations_per_path_training=1,
        data={"class_weights": weights},
        **changes,
    )


def test_class_weights_are_recorded_and_kept_when_it_is_opened(tmp_path):
    weighted, plain = (
        system_lib.System.create(tmp_path / str(i), _weighted(weights))
        for i, weights in enumerate(({"3": 9, "7": 0.5}, "none"))
    )
    for system in (weighted, plain):
        system.run()
    opened = system_lib.System.open(tmp_path / "0")
    assert opened.settings.data.class_weights == '{"3":9.0,"7":0.5}'
    assert opened.settings == weighted.settings
    assert (
        weighted.tasks["digits"].published.id
        != plain.tasks["digits"].published.id
    )
    with pytest.raises(errors.UsageError, match=r"data\.class_weights"):
        system_lib.System.create_or_open(tmp_path / "0", _weighted("auto"))


def test_a_class_that_a_task_lacks_leaves_nothing_behind(tmp_path):
    with pytest.raises(errors.UsageError, match=r"class 'cat'.*'digits'"):
        system_lib.System.create(tmp_path / "run", _weighted({"cat": 2}))
    assert not (tmp_path / "run").exists()
    system = system_lib.System.create(tmp_path / "run", _weighted({"3": 2}))
    system.run()
    more = _weighted({"3": 2}).to_json() | {
        "task_names": ["digits", "glyphs/greek"]
    }
    with pytest.raises(errors.UsageError, match=r"class '3'.*'glyphs/greek'"):
        system_lib.System.create_or_open(
            tmp_path / "run", settings_lib.Settings.from_dict(more)
        )
    assert list(system.tasks) == ["digits"]


def test_an_unknown_quality_is_refused_with_those_there_are(tmp_path):
    settings = system_samples.settings(search={"quality": "recall"})
    with pytest.raises(errors.UsageError, match=r"search\.quality.*macro_f1"):
        system_lib.System.create(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
