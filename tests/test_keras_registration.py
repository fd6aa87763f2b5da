"""A saved model is loaded with nothing but `import keras_munet`."""

from __future__ import annotations

import subprocess
import sys

import export_samples
import pytest


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model's file."""
    folder = tmp_path_factory.mktemp("registration")
    system = export_samples.system(folder / "system", {"a": 3}, num_layers=1)
    system.model("a").save(folder / "model.keras")
    return folder


@pytest.mark.parametrize(
    "imports",
    [
        # To look for Keras is not to import it.
        "import importlib.util\nimport keras_munet\n"
        "assert importlib.util.find_spec('keras')\nimport keras",
        # The order in which sorted imports stand.
        pytest.param(
            "import keras_munet\nimport tensorflow as tf\nkeras = tf.keras",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import keras\nimport keras_munet", marks=pytest.mark.slow
        ),
        pytest.param(
            "import keras_munet\n"
            "keras_munet.System.open('system').model('a')\nimport keras",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_model_is_loaded_in_any_order_of_imports(saved, imports):
    code = (
        f"{imports}\n"
        "model = keras.models.load_model('model.keras')\n"
        "assert len({layer.name for layer in model.layers}) == 7\n"
        # Nothing stays in the way of later imports.
        "import sys\n"
        "assert 'registration' not in repr(sys.meta_path)\n"
        "assert 'registration' not in repr(sys.modules['keras'].__spec__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=saved,
    )
    assert done.returncode == 0, done.stderr[-1000:]


def test_the_package_itself_imports_neither():
    code = (
        "import sys, keras_munet\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
