"""One SavedModel for all tasks: results, bytes, options, folders."""

from __future__ import annotations

import json
import pathlib
import shutil
import types

import export_samples
import numpy as np
import pytest
import tensorflow as tf

import keras_munet
from keras_munet import errors
from keras_munet.core import classification_metrics
from keras_munet.core import int8
from keras_munet.data import preprocessing
from keras_munet.data.own import images as own_images
from keras_munet.export import golden_outputs
from keras_munet.export import model_card

# Of three tasks, two share all but their heads.
_CLASSES = {"digits": 10, "glyphs/greek": 5, "glyphs/latin": 7}
_OWN = {
    "digits": ("head",),
    "glyphs/greek": ("head",),
    "glyphs/latin": ("encoderblock_1", "encoder_norm", "head"),
}
_SPEC = tf.TensorSpec([None, None, None, 3], tf.uint8)
_IMAGES = np.random.default_rng(0).integers(0, 256, (64, 20, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("export") / "system"
    return export_samples.system(workdir, _CLASSES, own=_OWN)


@pytest.fixture(scope="module")
def folder(system, tmp_path_factory):
    """An export with its defaults; treat it as read-only."""
    out = tmp_path_factory.mktemp("export") / "served"
    return pathlib.Path(system.export(out))


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


@pytest.mark.parametrize("batch_size", [0, 1, 7, 64])
def test_every_signature_answers_what_the_system_computes(
    system, signatures, batch_size
):
    images = tf.constant(_IMAGES[:batch_size])
    pixels = preprocessing.evaluation_images(images, 16, True)
    together = signatures["all_tasks"](images=images)
    features = signatures["features"](images=images)
    for task, num_classes in _CLASSES.items():
        key = task.replace("/", "_")
        alone = signatures[f"predict_{key}"](images=images)
        logits = system.model(task)(pixels).numpy()
        assert alone["logits"].shape == (batch_size, num_classes)
        scale = max(1.0, np.abs(logits).max(initial=0.0))
        np.testing.assert_allclose(
            alone["logits"], logits, rtol=0, atol=1e-6 * scale
        )
        np.testing.assert_allclose(
            alone["scores"], tf.nn.softmax(logits), rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(
            together[f"{key}_scores"], alone["scores"], rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(
            features[f"{key}_features"],
            system.features(task)(pixels),
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_an_export_computes_as_the_systems_own_graph(
    system, signatures, batch_size
):
    # The batch is free in both: where it is fixed TensorFlow adds in another
    # order, and large logits differ in their last bits.
    images = tf.constant(_IMAGES[:batch_size])
    for task in _CLASSES:
        model = system.model(task)

        @tf.function(autograph=False, input_signature=[_SPEC])
        def ask(images, model=model):
            return model(preprocessing.evaluation_images(images, 16, True))

        key = task.replace("/", "_")
        found = signatures[f"predict_{key}"](images=images)["logits"]
        np.testing.assert_allclose(found, ask(images), rtol=0, atol=1e-6)


def test_encoded_images_score_as_their_pixels_do(signatures):
    encoded = [
        tf.io.encode_png(_IMAGES[0]),
        tf.io.encode_jpeg(_IMAGES[1, :11]),
        tf.io.encode_png(_IMAGES[2, :, :, :1]),
    ]
    found = signatures["predict_bytes_digits"](encoded=tf.stack(encoded))
    for number, data in enumerate(encoded):
        image = tf.constant(own_images.decoded(data.numpy()))[tf.newaxis]
        image = tf.broadcast_to(image, [*image.shape[:3], 3])
        expected = signatures["predict_digits"](images=image)
        np.testing.assert_allclose(
            found["scores"][number], expected["scores"][0], rtol=0, atol=1e-6
        )
    none = signatures["predict_bytes_digits"](encoded=tf.zeros([0], tf.string))
    assert none["scores"].shape == (0, 10)


def _num_bytes(folder: pathlib.Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _unique_params(system: keras_munet.System) -> int:
    unique = {
        component.id: component.num_params
        for state in system.tasks.values()
        for component in state.published.components
    }
    return sum(unique.values())


def test_weights_are_written_once(system, folder):
    over = _num_bytes(folder) - 4 * _unique_params(system)
    assert 0 < over < 2**20


@pytest.mark.parametrize(
    "num_tasks", [2, 8, pytest.param(64, marks=pytest.mark.slow)]
)
def test_a_task_adds_few_kilobytes_to_its_weights(num_tasks, tmp_path):
    tasks = {f"task/{i}": 4 + i % 3 for i in range(num_tasks)}
    system = export_samples.system(tmp_path / "system", tasks, num_layers=1)
    out = pathlib.Path(system.export(tmp_path / "served"))
    over = _num_bytes(out) - 4 * _unique_params(system)
    # A fixed part, and signatures, card and canary of each task.
    assert over < 2**19 + num_tasks * 16 * 2**10, over


def test_the_export_names_classes_paths_and_licences(system, folder):
    described = json.loads((folder / "signatures.json").read_text())["tasks"]
    greek = described["glyphs/greek"]
    assert greek["class_names"] == [f"class {i}" for i in range(5)]
    assert greek["path_id"] == system.tasks["glyphs/greek"].published.id
    assert greek["signatures"]["predict_bytes"] == "predict_bytes_glyphs_greek"
    card = (folder / "README.md").read_text()
    assert "| glyphs/greek | `predict_glyphs_greek` | 5 | 0.2500 |" in card
    assert "| glyphs/greek <- the root | drawn from" in card
    assert "CC BY 4.0" in card
    measured = "| glyphs/greek | 4 | 0.0456 to 0.6994 | 0.5000 | 0.2000 | - |"
    assert measured in card
    assert "| class 0 | 0.2500 | 1.0000 | 0.4000 | 1 |" in card
    assert "| class 4 | 0.0000 | 0.0000 | 0.0000 | 0 |" in card
    assert "first: random mu" in card
    assert "matplotlib" in card


def test_a_served_path_is_one_block_per_component(signatures):
    # A shared component's function is called once by all_tasks.
    graph = signatures["all_tasks"].graph.as_graph_def()
    kinds = [
        node.attr["f"].func.name
        for function in graph.library.function
        if "all_tasks" in function.signature.name
        for node in function.node_def
        if "Call" in node.op and "segment" in node.attr["f"].func.name
    ]
    # Images to the first fork, and from there to the two heads' fork.
    assert len(kinds) == len(set(kinds)) == 2


@pytest.mark.parametrize(
    "weights, tolerance", [("bfloat16", 5e-3), ("int8", 2e-2)]
)
def test_smaller_weights_score_nearly_the_same(
    system, signatures, weights, tolerance, tmp_path
):
    out = system.export(tmp_path / weights, ["digits"], weights=weights)
    loaded = tf.saved_model.load(out)
    images = tf.constant(_IMAGES)
    exact = signatures["predict_digits"](images=images)["scores"]
    found = loaded.signatures["predict_digits"](images=images)["scores"]
    apart = np.abs(found - exact).max()
    assert 0 < apart < tolerance
    variables = pathlib.Path(out) / "variables"
    limit = {"bfloat16": 2.1, "int8": 1.3}[weights]
    params = system.tasks["digits"].published.num_params
    assert _num_bytes(variables) < limit * params + 1000


def test_quantised_kernels_are_within_half_a_step():
    kernel = np.random.default_rng(3).normal(size=(5, 2, 7)).astype("f4")
    kernel[..., 3] = 0
    small, scale = int8.quantize_kernel(kernel)
    assert np.all(np.abs(small * scale - kernel) <= 0.5001 * scale)
    assert np.array_equal(small[..., 3], np.zeros((5, 2)))


@pytest.fixture(scope="module")
def with_options(system, tmp_path_factory):
    """What an export of one task with every addition loads as."""
    out = system.export(
        tmp_path_factory.mktemp("export") / "options",
        ["glyphs/greek"],
        classify=True,
        feature_component="encoderblock_0",
    )
    return tf.saved_model.load(out).signatures


def test_classify_answers_with_labels(with_options):
    png = tf.io.encode_png(_IMAGES[0]).numpy()
    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                "image/encoded": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[png])
                )
            }
        )
    ).SerializeToString()
    found = with_options["classify_glyphs_greek"](
        inputs=tf.constant([example, example])
    )
    assert found["classes"].numpy()[1].tolist() == [
        f"class {i}".encode() for i in range(5)
    ]
    expected = with_options["predict_glyphs_greek"](
        images=tf.constant(_IMAGES[:1])
    )
    np.testing.assert_allclose(
        found["scores"][1], expected["scores"][0], rtol=0, atol=1e-6
    )


def test_features_of_a_named_component(system, with_options):
    images = tf.constant(_IMAGES[:3])
    found = with_options["features"](images=images)["glyphs_greek_features"]
    expected = system.features("glyphs/greek", "encoderblock_0")(
        preprocessing.evaluation_images(images, 16, True)
    )
    assert found.shape == (3, 5, 64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["run[2]", "a*", "b?", "c\\d", "[x]/served"])
def test_a_folder_that_tensorflow_cannot_load_from_is_refused_at_once(
    name, system, tmp_path
):
    with pytest.raises(errors.UsageError, match="takes for a pattern"):
        system.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_was_moved_to_such_a_folder_is_replayed(
    folder, tmp_path
):
    moved = tmp_path / "moved[1]"
    shutil.copytree(folder, moved)
    assert golden_outputs.replay(moved, folder).num_outputs


def test_a_used_folder_is_refused_and_kept(system, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(errors.UsageError, match="is in use"):
        system.export(tmp_path)
    with pytest.raises(errors.UsageError, match=r"mine\.txt"):
        system.export(tmp_path, versioned=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "options, named",
    [
        ({"weights": "int4"}, "bfloat16"),
        ({"model_name": "a b"}, "a b"),
        ({"task_names": [3]}, "digits, glyphs/greek"),
        ({"feature_component": "encoderblock_9"}, "encoderblock_1"),
    ],
)
def test_an_option_that_cannot_be_leaves_nothing(
    system, options, named, tmp_path
):
    with pytest.raises(errors.UsageError, match=named):
        system.export(tmp_path / "served", **options)
    assert not list(tmp_path.iterdir())


def test_tasks_of_one_signature_name_are_refused(tmp_path):
    # `predict_bytes_a` of task a is `predict_` of task bytes/a.
    system = export_samples.system(
        tmp_path / "system", {"a": 2, "bytes/a": 2}, num_layers=0
    )
    with pytest.raises(errors.UsageError, match="predict_bytes_a"):
        system.export(tmp_path / "served")


def test_a_class_name_cannot_break_a_table_of_the_card():
    state = types.SimpleNamespace(
        class_names=("a|b\n<img>", "[x](y)"),
        num_classes=2,
        test_metrics=classification_metrics.ClassificationMetrics(
            2, ((0, 0, 1), (1, 1, 1))
        ),
    )
    lines = model_card.quality({"pairs": state})
    (row,) = (line for line in lines if "img" in line)
    assert row.replace("\\|", "").count("|") == 6
    assert "\\<img\\>" in row
    assert any("\\[x\\](y)" in line for line in lines)


def test_a_task_may_have_any_name_that_a_task_can_have(tmp_path):
    classes = {"_x": 3, "_": 2, "shared": 4, "a+b.c": 2}
    system = export_samples.system(tmp_path / "s", classes, num_layers=0)
    out = system.export(tmp_path / "out")
    outputs = tf.saved_model.load(out).signatures["all_tasks"](
        images=tf.zeros([1, 5, 4, 3], tf.uint8)
    )
    assert len(outputs) == 2 * len(classes)
    model = system.model([*classes])
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
