"""What was evolved, used like any Keras model: docs/composition.md is run."""

from __future__ import annotations

import copy
import pathlib
import re
import subprocess
import sys

import export_samples
import keras
import numpy as np
import pytest
import system_samples
import tensorflow as tf

import keras_munet
from keras_munet import errors

_DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/composition.md"
_TASKS = {"digits": 10, "glyphs/latin": 5}
_OWN = {"digits": ("head",)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composition") / "runs" / "mine"
    export_samples.system(folder, _TASKS, own=_OWN, num_layers=1)
    return folder


@pytest.fixture(scope="module")
def system(workdir):
    return keras_munet.System.open(workdir)


def _recipes() -> dict[str, str]:
    """Returns the blocks of code under each heading."""
    sections = re.split(r"^## ", _DOCUMENT.read_text(), flags=re.MULTILINE)
    return {
        section.splitlines()[0]: "\n".join(
            re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
        )
        for section in sections
    }


@pytest.fixture(scope="module")
def at_home(workdir):
    """The folder and the names that the recipes share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workdir.parents[1])
        names: dict = {"__name__": "recipes"}
        exec(_recipes()["# Composition"], names)
        yield names
    keras.config.set_dtype_policy("float32")


# Keras warns that an input has nothing to quantise.
@pytest.mark.filterwarnings("ignore:Layer InputLayer")
@pytest.mark.parametrize(
    "title",
    [
        # The tuner trains for 10 s.
        pytest.param(t, marks=[pytest.mark.slow] * ("KerasTuner" in t))
        for t in _recipes()
        if t[0].isdecimal()
    ],
)
def test_a_recipe_runs_and_leaves_the_system(title, at_home, workdir):
    if "Tuner" in title:
        pytest.importorskip("keras_tuner")
    before = system_samples.digests(workdir)
    exec(compile(_recipes()[title], title, "exec"), at_home)
    assert system_samples.digests(workdir) == before


def test_there_are_ten_recipes_at_least():
    assert len([t for t in _recipes() if t[0].isdecimal()]) >= 10


def test_each_component_is_one_named_layer(system):
    model = system.model(["digits", "glyphs/latin"])
    unique = {
        component.id
        for state in system.tasks.values()
        for component in state.published.components
    }
    names = [layer.name for layer in model.layers[1:]]
    assert len(names) == len(unique)
    ends = ("_shared", "_digits", "_glyphs_latin", "_2")
    assert all(name.endswith(ends) for name in names)


def test_a_file_is_loaded_by_a_process_that_imports_the_package_alone(
    system, tmp_path
):
    model = system.model(["digits", "glyphs/latin"])
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3))
    np.save(tmp_path / "images.npy", images.astype("f4"))
    code = (
        "import keras_munet, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "found = model(np.load('images.npy'))\n"
        "np.savez('out.npz', **{k: np.array(v) for k, v in found.items()})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = model(images.astype("f4"))
    with np.load(tmp_path / "out.npz") as found:
        for task in _TASKS:
            np.testing.assert_array_equal(found[task], expected[task])


def test_a_model_is_copied_described_and_kept_as_any_keras_model(
    system, tmp_path
):
    model = system.model("digits")
    images = np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 3))
    expected = np.array(model(images))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    for component in system.tasks["digits"].published.components:
        assert text.count(f"{component.name}_digits") == 1
    assert model.count_params() == system.tasks["digits"].published.num_params
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected, rtol=0, atol=1e-5
    )
    model.save_weights(tmp_path / "model.weights.h5")
    cloned = keras.models.clone_model(model)
    cloned.load_weights(tmp_path / "model.weights.h5")
    described = keras.models.model_from_json(model.to_json())
    described.set_weights(model.get_weights())
    for other in (cloned, described, copy.deepcopy(model)):
        np.testing.assert_array_equal(other(images), expected)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    found = exported.serve(images.astype("f4"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_model_is_fitted_with_kerass_defaults(system, policy):
    # XLA, and with float16 a scaled loss.
    keras.config.set_dtype_policy(policy)
    try:
        model = system.model("digits")
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        images = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3))
        history = model.fit(images, np.arange(8), epochs=20, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert {weight.dtype for weight in model.weights} == {"float32"}


@pytest.mark.parametrize("wrong", [3, None, ["digits"]])
def test_what_is_no_name_is_refused_with_those_there_are(system, wrong):
    with pytest.raises(errors.UsageError, match="digits, glyphs/latin"):
        system.features(wrong)
    with pytest.raises(errors.UsageError, match="digits, glyphs/latin"):
        system.model([wrong])


def test_features_are_what_the_head_reads(system):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3))
    features = system.features("glyphs/latin")
    model = system.model("glyphs/latin")
    head = model.layers[-1]
    np.testing.assert_allclose(
        features(images) @ head.weights[0] + head.weights[1],
        model(images),
        rtol=0,
        atol=1e-5,
    )


def test_an_unknown_component_is_refused_with_those_there_are(system):
    with pytest.raises(errors.UsageError, match="encoderblock_0, encoder_norm"):
        system.features("digits", "encoderblock_7")
