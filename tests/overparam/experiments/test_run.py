"""Experiments end to end: every method, resumed, measured as deployed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import overparam_samples as samples
import pytest
from forked import launch

from keras_munet import errors
from keras_munet.overparam import layers
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import run as run_lib
from keras_munet.overparam.experiments import settings as settings_lib
from keras_munet.overparam.experiments.datasets import sources
from keras_munet.train.devices import strategy

_ROOT = pathlib.Path(__file__).resolve().parents[3]
_SETTINGS = samples.settings(num_epochs=1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def data():
    return sources.load_source(_SETTINGS)


@pytest.fixture(scope="module")
def one_device():
    return strategy.make_strategy("one_device")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, data, one_device):
    """Runs a method once, and gives its folder and what it found."""
    done = {}

    def run(method):
        if method not in done:
            folder = tmp_path_factory.mktemp(method)
            settings = dataclasses.replace(_SETTINGS, method=method)
            done[method] = folder, _run(folder, settings, data, one_device)
        return done[method]

    return run


def _run(folder, settings, data, one_device):
    return run_lib.run(
        settings, str(folder), one_device, data=data, say=lambda line: None
    )


@pytest.mark.parametrize(
    "method",
    [
        "hard_sharing",
        "overparam",
        # They compile for long and share all but a table's row with others.
        *(
            pytest.param(method, marks=pytest.mark.slow)
            for method in (
                *("single_task", "uncertainty", "pcgrad"),
                *("overparam_common", "overparam_single"),
            )
        ),
    ],
)
def test_a_method_trains_measures_and_deploys_ordinary_layers(
    ran, data, method
):
    folder, found = ran(method)
    assert set(found["metrics"]) == {"first", "second"}
    files = sorted(path.name for path in folder.glob("*.keras"))
    if settings_lib.METHODS[method].is_joint:
        assert files == ["all_tasks.keras"]
        tasks = {"all_tasks": data.tasks}
    else:
        assert files == ["first.keras", "second.keras"]
        tasks = {task.name: (task,) for task in data.tasks}
    for name, own in tasks.items():
        model = keras.models.load_model(folder / f"{name}.keras")
        assert not any(
            isinstance(layer, layers.Factorized) for layer in model.layers
        )
        # What was measured is what lies in the file.
        again = run_lib.measure_network(model, own, data.test)
        for task, values in again.items():
            assert values == pytest.approx(found["metrics"][task], rel=1e-4)
    assert json.loads((folder / "metrics.json").read_text()) == found


def test_products_deploy_what_the_plain_network_has(ran):
    plain, products = (
        ran(method)[1]["cost"] for method in ("hard_sharing", "overparam")
    )
    assert products["deployed_params"] == plain["deployed_params"]
    assert products["multiply_adds"] == plain["multiply_adds"]
    assert products["trained_params"] > plain["trained_params"]


def test_products_begin_as_the_plain_network_of_the_seed(data):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3))
    plain, products = (
        run_lib.make_network(
            dataclasses.replace(_SETTINGS, method=method), data.tasks
        )(images)
        for method in ("hard_sharing", "overparam")
    )
    for task, output in plain.items():
        np.testing.assert_allclose(output, products[task], atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [pytest.param("hard_sharing", marks=pytest.mark.slow), "overparam"],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    method, tmp_path, data, one_device
):
    settings = dataclasses.replace(_SETTINGS, method=method, num_epochs=2)
    whole = _run(tmp_path / "whole", settings, data, one_device)

    def interrupt(line):
        raise KeyboardInterrupt

    # A line of progress comes after each epoch.
    with pytest.raises(KeyboardInterrupt):
        run_lib.run(
            settings,
            str(tmp_path / "cut"),
            one_device,
            data=data,
            say=interrupt,
        )
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = _run(tmp_path / "cut", settings, data, one_device)
    assert resumed["metrics"] == whole["metrics"]
    for folder in ("cut", "whole"):
        assert not list((tmp_path / folder).glob("*.h5"))


def test_a_finished_run_is_not_repeated_nor_mixed_with_another(
    ran, data, one_device
):
    folder, first = ran("hard_sharing")
    same = dataclasses.replace(_SETTINGS, method="hard_sharing")
    assert _run(folder, same, data, one_device) == first
    other = dataclasses.replace(same, width=3, seed=1)
    with pytest.raises(errors.UsageError, match="width, seed differ"):
        _run(folder, other, data, one_device)


def test_a_network_of_no_finite_output_is_refused_in_one_line(data, one_device):
    with one_device.scope():
        model = run_lib.make_network(_SETTINGS, data.tasks)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, np.nan))
    with pytest.raises(errors.DataError, match="not finite") as caught:
        run_lib.measure_network(model, data.tasks, data.test)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_training_makes_every_task_better(tmp_path, data, one_device):
    settings = dataclasses.replace(
        _SETTINGS, method="hard_sharing", num_epochs=200, flip=False, width=4
    )
    untrained = run_lib.measure_network(
        run_lib.make_network(settings, data.tasks), data.tasks, data.train
    )
    _run(tmp_path, settings, data, one_device)
    trained = run_lib.measure_network(
        keras.models.load_model(tmp_path / "all_tasks.keras"),
        data.tasks,
        data.train,
    )
    for task in ("first", "second"):
        before, after = (m[task]["accuracy"] for m in (untrained, trained))
        assert after > before + 0.3


def test_weight_decay_and_networks_without_norms_are_settings(
    tmp_path, data, one_device
):
    settings = dataclasses.replace(
        _SETTINGS, method="overparam", norm=False, weight_decay=0.01, depth=3
    )
    found = _run(tmp_path, settings, data, one_device)
    model = keras.models.load_model(tmp_path / "all_tasks.keras")
    assert not any("norm" in layer.name for layer in model.layers)
    assert found["settings"]["weight_decay"] == 0.01
    other = dataclasses.replace(settings, weight_decay=0.0)
    with pytest.raises(errors.UsageError, match="weight_decay differ"):
        _run(tmp_path, other, data, one_device)


def test_library_and_settings_have_the_same_defaults():
    signature = inspect.signature(model_transform.overparameterize)
    for key in ("depth", "task_factor", "shared_steps", "task_steps"):
        assert signature.parameters[key].default == getattr(
            settings_lib.Settings, key
        )
    for layer in (layers.FactorizedConv2D, layers.FactorizedDense):
        parameters = inspect.signature(layer).parameters
        for key in ("depth", "task_factor"):
            assert parameters[key].default == getattr(
                settings_lib.Settings, key
            )


def test_sizes_that_do_not_divide_are_refused_before_training(
    tmp_path, one_device
):
    settings = dataclasses.replace(_SETTINGS, image_width=12, num_stages=3)
    with pytest.raises(errors.UsageError, match="12"):
        _run(tmp_path, settings, sources.load_source(settings), one_device)
    assert not list(tmp_path.glob("*.keras"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"method": "magic"}, "method is 'magic'"),
        ({"width": 0}, "width is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"widht": 3}, "did you mean width"),
        ({"num_epochs": "2"}, "num_epochs is '2'"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, word):
    with pytest.raises(errors.UsageError, match=word):
        settings_lib.Settings.from_dict(changes)


@pytest.mark.parametrize("name", ["overlaid", "camvid", "nyuv2", "coco"])
def test_configs_are_settings(name):
    import importlib.util

    path = _ROOT / "configs" / f"overparam_{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config().to_dict()
    settings = settings_lib.Settings.from_dict(config)
    assert settings.data == name


def test_settings_data_and_metrics_need_no_tensorflow():
    code = (
        "import sys\n"
        "from keras_munet.overparam.experiments import settings, metrics\n"
        "from keras_munet.overparam.experiments import detection_metrics\n"
        "from keras_munet.overparam.experiments.datasets import overlaid\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_launcher_runs_continues_and_refuses(tmp_path):
    flags = [
        f"--config={_ROOT / 'configs' / 'overparam_overlaid.py'}",
        f"--output_dir={tmp_path / 'out'}",
        *("--config.width=2", "--config.num_train=16", "--config.num_test=4"),
        *(
            "--config.num_epochs=1",
            "--config.image_height=16",
            "--config.batch_size=8",
        ),
        *("--config.image_width=16", "--method=hard_sharing"),
    ]
    first = launch("overparam", *flags)
    assert first.returncode == 0, first.stderr
    assert "accuracy" in first.stdout and "written:" in first.stdout
    again = launch("overparam", *flags)
    assert again.returncode == 0
    other = launch("overparam", *flags, "--seed=3")
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1 and "seed differ" in other.stderr
