"""Roots from Keras models: parity, what is cut how, what is refused."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
import system_samples
import tensorflow as tf
import training_samples

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import specs
from keras_munet.data import npz_reader
from keras_munet.models import layer_factory
from keras_munet.models.vit import functions
from keras_munet.roots import inspection
from keras_munet.roots import keras_file
from keras_munet.roots import keras_source
from keras_munet.roots import root as root_lib
from keras_munet.system import system as system_lib
from keras_munet.train import child_job

_L = keras.layers
_RULE = r"(expanded_conv(?:_\d+)?)_"


@pytest.fixture(autouse=True)
def _restore_policy():
    yield
    keras.config.set_dtype_policy("float32")


def _shaken(model, seed: int = 0):
    """Gives every weight a value of its own, variances positive ones."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            np.abs(w + 0.1 * rng.normal(size=w.shape))
            if "variance" in v.path
            else w + 0.05 * rng.normal(size=w.shape)
            for w, v in zip(model.get_weights(), model.weights, strict=True)
        ]
    )
    return model


def _cnn(num_blocks: int = 3, size: int = 16):
    keras.utils.set_random_seed(0)
    x = images = keras.Input((size, size, 3))
    x = _L.Conv2D(8, 3, padding="same", name="stem")(x)
    x = _L.ReLU(name="stem_relu")(_L.BatchNormalization(name="stem_bn")(x))
    for i in range(num_blocks):
        y = _L.Conv2D(8, 3, padding="same", name=f"b{i}_one")(x)
        y = _L.BatchNormalization(name=f"b{i}_bn")(y)
        y = _L.ReLU(name=f"b{i}_relu")(y)
        y = _L.Conv2D(8, 3, padding="same", name=f"b{i}_two")(y)
        x = _L.Add(name=f"b{i}_add")([x, y])
    return _shaken(keras.Model(images, x, name="cnn"))


def _pixels(size: int, number: int = 2) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (number, size, size, 3)).astype(np.float32)


def _features(root: root_lib.Root, x, dtype=None):
    for component in root.components[:-1]:
        layer = layer_factory.make_layer(
            component.spec, component.spec.name, dtype
        )
        layer.build()
        layer_factory.assign_values(layer, component.spec, component.weights)
        x = layer(x)
    return np.asarray(x, np.float32)


def _names(root: root_lib.Root) -> list[str]:
    return [component.spec.name for component in root.components]


def _refused(model, **options) -> str:
    with pytest.raises(errors.UsageError) as refused:
        keras_source.from_keras(model, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_mobile_net_gives_the_same_features_in_components(policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = _shaken(
        keras.applications.MobileNetV3Small(
            weights=None, input_shape=(64, 64, 3), include_top=False
        )
    )
    roots = [
        keras_source.from_keras(model, blocks=blocks, pixel_range=(0, 255))
        for blocks in (None, _RULE)
    ]
    pixels = _pixels(64)
    # Operation by operation: compiled graphs fuse some of them, which in
    # bfloat16 leaves roundings out.
    tf.config.run_functions_eagerly(True)
    try:
        wanted = np.asarray(model(pixels, training=False), np.float32)
        seen = [_features(root, pixels / 127.5 - 1.0) for root in roots]
    finally:
        tf.config.run_functions_eagerly(False)
    assert np.abs(wanted).max() > 0.1
    for root, features in zip(roots, seen, strict=True):
        np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-5)
        assert root.num_params == model.count_params() + 577 * 2
    wanted_names = [f"expanded_conv_{i}" for i in range(1, 11)]
    assert _names(roots[1]) == [
        *("conv", "expanded_conv", *wanted_names, "conv_1", "head")
    ]


def test_the_whole_classifier_may_be_cut_at_any_layer():
    model = _shaken(
        keras.applications.MobileNetV3Small(
            weights=None, input_shape=(32, 32, 3), classes=7
        )
    )
    root = keras_source.from_keras(
        model, blocks=_RULE, pixel_range=(0, 255), features="conv_2"
    )
    assert _names(root)[-2:] == ["conv_2", "head"]
    assert root.components[-1].spec.config["width"] == 1024
    part = keras.Model(model.input, model.get_layer("conv_2").output)
    pixels = _pixels(32)
    np.testing.assert_allclose(
        _features(root, pixels / 127.5 - 1.0),
        part(pixels, training=False),
        rtol=0,
        atol=1e-5,
    )


def test_another_image_size_is_taken_where_no_layer_fixes_it():
    root = keras_source.from_keras(_cnn(), blocks=r"b\d", image_size=24)
    assert root.hparams == {"num_layers": 3, "ds_image_size": 24}
    x = _pixels(24) / 127.5 - 1.0
    wanted = keras_source.from_keras(_cnn(size=24), blocks=r"b\d")
    np.testing.assert_array_equal(_features(root, x), _features(wanted, x))


def test_a_flattening_model_keeps_its_image_size():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            _L.Conv2D(4, 3, name="conv"),
            _L.Flatten(),
            _L.Dropout(0.5),
            _L.Dense(6, activation="relu", name="dense"),
        ]
    )
    root = keras_source.from_keras(_shaken(model))
    assert _names(root) == ["conv", "dense", "head"]
    x = _pixels(8) / 127.5 - 1.0
    np.testing.assert_allclose(
        _features(root, x), model(x, training=False), atol=1e-6
    )
    with pytest.raises(errors.UsageError, match="takes 8 pixels"):
        keras_source.from_keras(model, image_size=16)


def test_nested_models_shared_layers_and_operations_are_kept_in_a_block():
    inner_in = keras.Input((None, None, 6))
    inner = keras.Model(
        inner_in,
        _L.BatchNormalization()(_L.Conv2D(6, 1, name="inner_conv")(inner_in)),
        name="inner",
    )
    shared = _L.Conv2D(6, 1, name="shared")
    images = keras.Input((8, 8, 3))
    x = _L.Conv2D(6, 3, padding="same", name="first")(images)
    y = shared(inner(x))
    x = keras.ops.relu(shared(x)) * 0.5 + y
    model = _shaken(keras.Model(images, x))
    root = keras_source.from_keras(model)
    assert _names(root) == ["first", "inner", "head"]
    x = _pixels(8) / 127.5 - 1.0
    np.testing.assert_allclose(
        _features(root, x), model(x, training=False), rtol=0, atol=1e-5
    )


def _trunk(name):
    images = keras.Input((None, None, 3))
    x = _L.ReLU()(_L.Conv2D(3, 3, padding="same", name=f"{name}_conv")(images))
    return keras.Model(images, x, name=name)


def _around(*layers):
    """Returns a functional model of layers one after another."""
    x = images = keras.Input((8, 8, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


def _twice(layer):
    """Returns a model that ends in the second call of a layer."""
    images = keras.Input((8, 8, 3))
    return keras.Model(images, layer(layer(images) * 0.5))


def _first_of_two(layer):
    """Returns a model that ends in the first call of a layer."""
    images = keras.Input((8, 8, 3))
    first = layer(images)
    layer(first)
    return keras.Model(images, first)


_COMPOSED = {
    "ends in a model": lambda: _around(_L.Conv2D(3, 1), _trunk("trunk")),
    "begins with a model": lambda: _around(_trunk("trunk"), _L.Conv2D(4, 1)),
    "is a model within": lambda: _around(_trunk("trunk")),
    "models at both ends": lambda: _around(
        _trunk("one"), _L.Conv2D(3, 1), _trunk("two")
    ),
    "an activation before a model": lambda: _around(
        _L.LeakyReLU(), _trunk("trunk")
    ),
    "ends in a Sequential": lambda: _around(
        _L.Conv2D(3, 1), keras.Sequential([_L.Conv2D(4, 1), _L.ReLU()])
    ),
    "Sequential of models": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), _trunk("one"), _trunk("two")]
    ),
    "Sequential of a Sequential": lambda: keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            _L.Conv2D(3, 1),
            keras.Sequential([_L.Conv2D(4, 1)]),
        ]
    ),
    "a model within a model": lambda: _around(
        _around(_L.Conv2D(3, 1), _around(_trunk("inner")))
    ),
    "a model called twice": lambda: _twice(_trunk("trunk")),
    "the first call of two": lambda: _first_of_two(_trunk("trunk")),
    "a layer called twice": lambda: _twice(_L.Conv2D(3, 1)),
    "a branch around a model": lambda: (
        lambda images, trunk: keras.Model(images, trunk(images) + images)
    )(keras.Input((8, 8, 3)), _trunk("trunk")),
}


@pytest.mark.parametrize("kind", _COMPOSED)
def test_models_may_be_composed_of_models_at_either_end(kind):
    model = _shaken(_COMPOSED[kind]())
    # What is called twice must be one block with all between.
    blocks = "()" if "twice" in kind else None
    root = keras_source.from_keras(model, blocks=blocks)
    x = _pixels(8) / 127.5 - 1.0
    np.testing.assert_allclose(
        _features(root, x), model(x, training=False), rtol=0, atol=1e-5
    )


def test_what_a_normalization_layer_learnt_of_data_is_kept():
    layer = _L.Normalization(name="adapted")
    model = _shaken(_with(layer, _L.Conv2D(4, 3, name="conv")))
    pixels = _pixels(8, 16)
    layer.adapt(pixels * [0.5, 1.0, 2.0])
    root = keras_source.from_keras(model, pixel_range=(0, 255))
    assert _names(root) == ["conv", "head"]
    weights = [name for name, _ in root.components[0].spec.weights]
    assert weights == ["conv.kernel", "conv.bias"]
    wanted = model(pixels, training=False)
    seen = _features(root, pixels / 127.5 - 1.0)
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-5)
    assert layer in model.layers and len(layer.weights) == 3


@keras.saving.register_keras_serializable(package="keras_munet_tests")
class _TwoScales(_L.Layer):
    """A layer that leaves its weights unnamed."""

    def build(self, input_shape):
        self.one = self.add_weight(shape=(input_shape[-1],), name=None)
        self.two = self.add_weight(shape=(input_shape[-1],), name=None)

    def call(self, x):
        return x * self.one + self.two


def test_weights_without_a_name_have_the_same_records_in_every_process():
    def made():
        return _shaken(
            _with(_L.Conv2D(4, 1, name="conv"), _TwoScales(name="two"))
        )

    model = made()
    one, two = (keras_source.from_keras(m) for m in (model, made()))
    assert [c.spec for c in one.components] == [c.spec for c in two.components]
    names = [name for name, _ in one.components[1].spec.weights]
    assert names == ["two.variable", "two.variable.1"]
    x = _pixels(8) / 127.5 - 1.0
    np.testing.assert_allclose(_features(one, x), model(x), atol=1e-6)


def test_multiply_adds_are_those_of_grouped_and_transposed_convolutions_too():
    model = _with(
        _L.Conv2D(8, 3, padding="same", groups=1, name="plain"),
        _L.Conv2D(8, 3, padding="same", groups=4, name="grouped"),
        _L.Conv2DTranspose(6, 2, strides=2, name="spread"),
        _L.DepthwiseConv2D(3, padding="same", name="deep"),
        _L.Dense(5, name="dense"),
    )
    rows = inspection.rows(keras_source.from_keras(_shaken(model)))
    assert {row.name: row.multiply_adds for row in rows} == {
        "plain": 8 * 8 * 3 * 3 * 3 * 8,
        "grouped": 8 * 8 * 3 * 3 * 2 * 8,
        "spread": 8 * 8 * 2 * 2 * 8 * 6,
        "deep": 16 * 16 * 3 * 3 * 6,
        "dense": 16 * 16 * 6 * 5,
        "head": 5 * 2,
    }
    assert rows[2].output_shape == (16, 16, 6)


def test_casts_keep_their_dtype_in_any_policy():
    images = keras.Input((8, 8, 3))
    x = keras.ops.cast(_L.Conv2D(4, 3, name="conv")(images), "float32")
    model = _shaken(keras.Model(images, _L.Conv2D(4, 3, name="two")(x)))
    root = keras_source.from_keras(model)
    x = _pixels(8) / 127.5 - 1.0
    np.testing.assert_allclose(_features(root, x), model(x), atol=1e-6)
    short = _features(root, x, "mixed_bfloat16")
    np.testing.assert_allclose(short, model(x), atol=0.05)


def test_layers_that_were_frozen_can_be_trained_as_components():
    model = _cnn()
    model.trainable = False
    root = keras_source.from_keras(model, blocks=r"b\d")
    spec = root.components[1].spec
    # As training has it: all weights in one.
    layer = layer_factory.make_layer(spec, "b0")
    layer.pack()
    layer.build()
    layer_factory.assign_values(layer, spec, root.components[1].weights)
    weights = layer.weight_values()
    with tf.GradientTape() as tape:
        tape.watch(weights)
        y = layer.compute(tf.ones([2, 4, 4, 8]), weights)
        loss = tf.reduce_sum(tf.square(y))
    (gradient,) = tape.gradient(loss, weights)
    shapes = [shape for _, shape in spec.weights]
    parts = functions.unpacked(gradient, shapes)
    for (name, _), part in zip(spec.weights, parts, strict=True):
        moves = bool(np.abs(part).max() > 0)
        assert moves == ("moving_" not in name), name


def test_training_leaves_batch_statistics_as_they_came():
    root = keras_source.from_keras(_cnn(1), blocks=r"b\d", num_classes=3)
    child = child_job.ChildJob(
        index=0,
        components=tuple(
            child_job.JobComponent(c.spec, lambda c=c: c, None, True)
            for c in root.components
        ),
        hparams=training_samples.HPARAMS,
    )
    (trained,) = training_samples.train([child])
    for component in root.components[:-1]:
        after = trained.components[component.spec.name].weights
        for name, value in component.weights.items():
            stays = "moving_" in name
            assert (after[name] == value).all() == stays, name


def test_blocks_above_the_depth_are_kept_for_no_path_and_may_come_fresh():
    root = keras_source.from_keras(
        _cnn(), blocks=r"b\d", num_layers=1, num_layers_max=3
    )
    assert _names(root) == ["stem", "b0", "head"]
    deep = root.family.layout({**root.hparams, "num_layers": 3}, 4)
    fresh = root.family.initial(deep[-2], np.random.default_rng(0))
    assert fresh.weights["b2_bn.moving_variance"].tolist() == [1.0] * 8
    assert fresh.weights["b2_bn.gamma"].tolist() == [1.0] * 8
    kernel = fresh.weights["b2_one.kernel"]
    assert kernel.std() == pytest.approx((2 / 72) ** 0.5, rel=0.1)


def test_a_fresh_adapter_between_blocks_changes_nothing():
    root = keras_source.from_keras(_cnn(), blocks=r"b\d")
    layout = root.family.layout({**root.hparams, "adapter_dim": 4}, 2, {1})
    assert [spec.name for spec in layout] == [
        *("stem", "b0", "residual_adapter_1", "b1", "b2", "head")
    ]
    adapter = root.family.initial(layout[2], np.random.default_rng(0))
    layer = layer_factory.make_layer(adapter.spec, "adapter")
    layer.build()
    layer_factory.assign_values(layer, adapter.spec, adapter.weights)
    x = tf.random.normal([2, 5, 4, 8])
    np.testing.assert_array_equal(layer(x), x)
    adapter.weights["dense_1_kernel"][...] = 1.0
    layer_factory.assign_values(layer, adapter.spec, adapter.weights)
    assert layer(x).shape == x.shape
    assert np.abs(np.asarray(layer(x) - x)).max() > 0.1


def test_families_and_records_survive_json():
    root = keras_source.from_keras(_cnn(), blocks=r"b\d")
    text = json.dumps(root.family.to_json())
    assert architecture.from_json(json.loads(text)) == root.family
    for component in root.components:
        value = json.loads(json.dumps(component.spec.to_json()))
        assert specs.ComponentSpec.from_json(value) == component.spec


def test_equal_models_have_equal_records_and_a_block_s_batch_is_unused():
    one = keras_source.from_keras(_cnn(), blocks=r"b\d")
    two = keras_source.from_keras(_cnn(), blocks=r"b\d")
    assert [c.spec for c in one.components] == [c.spec for c in two.components]
    x = _pixels(16, 6) / 127.5 - 1.0
    np.testing.assert_allclose(
        _features(one, x)[:2], _features(one, x[:2]), atol=1e-6
    )


def _two_inputs():
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([one, two], _L.Add()([one, two]))


def _two_outputs():
    x = keras.Input((8, 8, 3))
    return keras.Model(x, [_L.Conv2D(2, 1)(x), _L.Conv2D(3, 1)(x)])


def _with(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


class _Subclass(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (_two_inputs, {}, "has 2 inputs"),
        (_two_outputs, {}, "has 2 outputs"),
        (_Subclass, {}, "no graph of layers"),
        (_cnn, {"features": "none"}, "no layer 'none'"),
        (_cnn, {"blocks": "("}, "no regular expression"),
        (_cnn, {"blocks": r"b\d_(one|two)"}, "'b0_one' and 'b0_two'"),
        (_cnn, {"blocks": lambda name: "all"[: name != "b1_add"]}, ""),
        (_cnn, {"blocks": lambda name: "head"}, "'head' cannot have that"),
        (_cnn, {"num_layers": 4}, "0 to 3 blocks"),
        (_cnn, {"pixel_range": (1, 0)}, "pixel_range"),
        (lambda: _with(_L.Lambda(lambda x: x)), {}, "kind Lambda"),
        (lambda: _with(_L.Rescaling(2.0), _L.Conv2D(1, 1)), {}, "rescaling"),
        (
            lambda: _with(_L.Normalization(), _L.Conv2D(1, 1)),
            {},
            "normalization",
        ),
        (lambda: _with(_L.Dense(2), shape=(8, 8, 4)), {}, "3 channels"),
        (lambda: _with(_L.Dense(2), shape=(None, None, 3)), {}, "image_size"),
    ],
)
def test_what_cannot_be_a_root_is_refused_by_name(made, options, said):
    assert said in _refused(made(), **options)


def test_a_layer_in_two_blocks_is_refused_by_name():
    shared = _L.Conv2D(3, 1, name="shared")
    x = images = keras.Input((8, 8, 3))
    for i in range(2):
        x = _L.Conv2D(3, 1, name=f"own{i}")(shared(x))
    model = keras.Model(images, x)
    assert "layer 'shared' is called in block 'shared'" in _refused(model)
    root = keras_source.from_keras(model, blocks=lambda name: "shared")
    assert _names(root) == ["shared", "head"]


def test_a_keras_file_is_read_and_other_files_are_refused(tmp_path):
    model = _cnn()
    path = tmp_path / "cnn.keras"
    model.save(path)
    root = keras_file.from_file(path, blocks=r"b\d", pixel_range=(-1.0, 1.0))
    # Nothing is left for Keras to make later.
    with keras.StatelessScope():
        pass
    x = _pixels(16) / 127.5 - 1.0
    np.testing.assert_allclose(
        _features(root, x), model(x, training=False), atol=1e-6
    )
    (tmp_path / "bad.keras").write_bytes(path.read_bytes()[:1000])
    (tmp_path / "cnn.h5").write_bytes(path.read_bytes())
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    (tmp_path / "folder.keras").mkdir()
    for wrong in (
        *("bad.keras", "none.keras", ".", "cnn.h5", "empty.keras"),
        "folder.keras",
    ):
        with pytest.raises(errors.CheckpointError) as refused:
            keras_file.from_file(tmp_path / wrong)
        assert "\n" not in str(refused.value)


def test_a_file_of_absurd_shapes_is_refused_without_memory(
    tmp_path, monkeypatch
):
    model = _with(_L.Flatten(), _L.Dense(5, name="dense"))
    model.save(tmp_path / "small.keras")
    with (
        zipfile.ZipFile(tmp_path / "small.keras") as read,
        zipfile.ZipFile(tmp_path / "absurd.keras", "w") as written,
    ):
        for name in read.namelist():
            content = read.read(name)
            if name == "config.json":
                content = content.replace(b'"units": 5', b'"units": 500000000')
            written.writestr(name, content)
    # 96 billion values would take 386 GB.
    with pytest.raises(errors.CheckpointError, match="tells of 96500000000"):
        keras_file.from_file(tmp_path / "absurd.keras")
    monkeypatch.setattr(npz_reader, "NUM_BYTES_MAX", 1000)
    with pytest.raises(errors.CheckpointError, match="allowed are 1000"):
        keras_file.from_file(tmp_path / "small.keras")


def test_a_file_with_code_is_refused_and_runs_none(tmp_path):
    model = _with(_L.Lambda(lambda x: x + 1))
    model.save(tmp_path / "code.keras")
    with pytest.raises(errors.CheckpointError, match="Lambda"):
        keras_file.from_file(tmp_path / "code.keras")


@pytest.mark.slow
def test_a_cnn_root_evolves_forgets_nothing_and_is_served(tmp_path):
    root = keras_source.from_keras(_cnn(2), blocks=r"b\d")
    settings = system_samples.settings(
        # The quickstart's.
        task_names=["digits", "glyphs/greek", "glyphs/cyrillic"],
        ranges={"num_layers": [0, 1, 2], "adapter_dim": [4, 8]},
        search={"mutate_adapters": True},
        hparams={"opt_lr": 0.1, "ds_crop": False, "adapter_dim": 4},
        num_task_iters=1,
        num_samples_per_task=6,
    )
    system = system_lib.System.create(tmp_path / "system", settings, root)
    first, *others = settings.task_names
    system.evolve(first)
    x = _pixels(16, 4) / 127.5 - 1.0
    before = np.asarray(system.model("digits")(x))
    for name in others:
        system.evolve(name)
    opened = system_lib.System.open(tmp_path / "system")
    np.testing.assert_array_equal(opened.model("digits")(x), before)
    assert opened.evaluate()["digits"]["test_accuracy"] > 0.11
    for state in opened.tasks.values():
        path = state.published
        assert path.components[0].name == "stem"
        stem = opened.root.component("stem")
        assert path.component("head").id != opened.root.component("head").id
        assert stem is not None
    served = tf.saved_model.load(opened.export(tmp_path / "served"))
    images = _pixels(16, 4).astype(np.uint8)
    seen = served.signatures["predict_digits"](images=tf.constant(images))
    np.testing.assert_allclose(seen["logits"], before, atol=1e-4)
