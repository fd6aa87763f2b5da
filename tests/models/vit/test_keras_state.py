"""A program's own Keras settings change nothing that a system computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import pytest
import system_samples

import keras_munet
from keras_munet import errors
from keras_munet.core import keras_backend
from keras_munet.models.vit import keras_state


@pytest.fixture
def restored():
    """Puts Keras's settings back, whatever a test did to them."""
    yield
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


def _published(workdir):
    system = keras_munet.System.create(workdir, system_samples.settings())
    system.run()
    return {task: state.published.id for task, state in system.tasks.items()}


def _set(floatx="float32", data_format="channels_last", policy="float32"):
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)


_OTHERS = {
    "floatx float16": {"floatx": "float16"},
    "policy and format": {
        "policy": "mixed_bfloat16",
        "data_format": "channels_first",
    },
}


def test_the_same_paths_evolve_whatever_the_program_set(tmp_path, restored):
    expected = _published(tmp_path / "plain")
    for name, settings in _OTHERS.items():
        _set(**settings)
        assert _published(tmp_path / name.replace(" ", "_")) == expected, name
        # The program's own settings are as they were.
        assert keras.config.floatx() == settings.get("floatx", "float32")
        assert keras.config.dtype_policy().name == settings.get(
            "policy", "float32"
        )


@pytest.mark.parametrize("name", _OTHERS)
def test_settings_return_after_an_error(name, restored):
    _set(**_OTHERS[name])
    before = (
        keras.config.floatx(),
        keras.config.image_data_format(),
        keras.config.dtype_policy().name,
    )
    with (
        pytest.raises(ValueError, match="mine"),
        keras_state.default_keras_state(),
    ):
        assert keras.config.dtype_policy().name == "float32"
        raise ValueError("mine")
    assert before == (
        keras.config.floatx(),
        keras.config.image_data_format(),
        keras.config.dtype_policy().name,
    )


def _run(code, tmp_path, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


_FIRST_USES = {
    "create": "import keras_munet as k; k.System.create('w', k.Settings())",
    "roots": "from keras_munet import roots; roots.from_keras",
    "compact networks": "import keras_munet.overparam as o; o.contract",
    "training": "import keras_munet.train",
}


@pytest.mark.parametrize("use", _FIRST_USES)
def test_another_backend_is_refused_at_the_first_use(use, tmp_path):
    done = _run(_FIRST_USES[use], tmp_path, KERAS_BACKEND="torch")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "UsageError: Keras's backend is 'torch'" in last
    assert "KERAS_BACKEND=tensorflow" in last
    assert not list(tmp_path.iterdir())


def test_a_backend_of_keras_own_file_is_refused_too(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps({"backend": "openvino"}))
    done = _run(_FIRST_USES["roots"], tmp_path, KERAS_HOME=str(home))
    assert "'openvino', chosen by" in done.stderr
    (home / "keras.json").write_text("[1, 2")
    done = _run(_FIRST_USES["roots"], tmp_path, KERAS_HOME=str(home))
    assert done.returncode == 0, done.stderr


def test_what_needs_no_keras_is_not_refused(tmp_path):
    code = "import keras_munet as k; print(k.Settings().seed, k.__version__)"
    done = _run(code, tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr


def test_a_program_on_another_backend_is_told_so(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(errors.UsageError, match="imported Keras"):
        keras_backend.require_tensorflow()
