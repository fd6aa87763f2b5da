"""The config of small tasks does what docs/own_data.md says of it."""

from __future__ import annotations

import pytest

import keras_munet
from keras_munet import config as config_lib


@pytest.mark.slow
@pytest.mark.parametrize(
    # A hundredth below logistic regression on the frozen root.
    ("task", "accuracy_min"),
    [("digits", 0.973), ("glyphs/greek", 0.95)],
)
def test_a_small_task_is_learned_as_well_as_a_linear_probe(
    task, accuracy_min, tmp_path
):
    config = config_lib.small_tasks()
    config.task_names = (task,)
    settings = keras_munet.Settings.from_dict(config.to_dict())
    system = keras_munet.System.create(tmp_path / "system", settings)
    system.run()
    path = system.tasks[task].published
    assert path.metrics["test_quality"] >= accuracy_min
    # Both suit the root's features, so half of the root is shared.
    of_root = {ref.id for ref in system.root.components}
    num_shared = sum(
        ref.num_params for ref in path.components if ref.id in of_root
    )
    assert num_shared > 0.5 * path.num_params


def test_small_tasks_are_complete_settings_once_tasks_are_named():
    config = config_lib.small_tasks()
    config.task_names = ("digits",)
    settings = keras_munet.Settings.from_dict(config.to_dict())
    assert settings.preset == "auto"
    # Any of these can be given on the command line.
    config.num_samples_per_task = 5
    given = keras_munet.Settings.from_dict(config.to_dict())
    assert given.num_samples_per_task == 5
