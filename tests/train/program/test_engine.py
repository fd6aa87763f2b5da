"""The program trains every child as layer by layer does, traced once."""

from __future__ import annotations

import pathlib

import hybrid_samples
import keras
import numpy as np
import pytest
import training_samples as samples
import two_devices

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.core import specs
from keras_munet.models.vit import base
from keras_munet.roots import keras_source
from keras_munet.train import child_job
from keras_munet.train.devices import strategy as strategy_lib

import tensorflow as tf  # isort: skip

_FOLDER = pathlib.Path(__file__).resolve().parent
_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")
_ADAMW = {"opt_name": "adamw", "opt_lr": 0.002, "opt_weight_decay": 0.1}


def generation():
    """Unlike children of one job: depths 0 to 4, adapters, both optimizers."""
    return [
        samples.job(0, 2, _TRUNK, adapters=(1,)),
        samples.job(1, 3, _TRUNK[:3], hparams={"opt_nesterov": True}),
        samples.job(2, 2, ("cls", "encoderblock_0", "encoder_norm")),
        samples.job(3, 4, ("encoderblock_1",), hparams=_ADAMW),
        samples.job(4, 0, ("embedding",), hparams={"opt_lr": 0.01}),
        samples.job(5, 1, hparams={"opt_label_smoothing": 0.1}),
    ]


def assert_equal(first, second):
    """Asserts that two engines' children are one within float rounding."""
    for one, other in zip(first, second, strict=True):
        assert one.scores == other.scores
        assert (one.index, one.quality) == (other.index, other.quality)
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
        samples.assert_close(one, other, atol=1e-5)
        for name, component in one.components.items():
            momentum = other.components[name].momentum
            assert (component.momentum is None) == (momentum is None)
            for key, bits in (component.momentum or {}).items():
                dtype = tf.bfloat16.as_numpy_dtype
                # A momentum may be rounded to its neighbour.
                np.testing.assert_allclose(
                    bits.view(dtype).astype(np.float32),
                    momentum[key].view(dtype).astype(np.float32),
                    rtol=2**-6,
                    atol=2e-3,
                )


def _trainer(engine):
    return samples.trainer(engine=engine)


def num_traces(trainer):
    """Returns how many programs a trainer traced, and each how often."""
    return [runner.num_traces for runner in trainer._engine.runners]


@pytest.fixture(scope="module")
def layer_by_layer():
    return samples.train(generation())


@pytest.mark.parametrize(
    "children_per_device", [pytest.param(1, marks=pytest.mark.slow), 4]
)
def test_unlike_children_are_trained_by_one_program(
    layer_by_layer, children_per_device
):
    made = samples.trainer(
        engine="program", children_per_device=children_per_device
    )
    assert_equal(layer_by_layer, samples.train(generation(), made))
    assert num_traces(made) == [1]
    (runner,) = made._engine.runners
    # One call of each wave and cycle.
    waves = -(-len(generation()) // children_per_device)
    assert runner.num_calls == 2 * waves


@pytest.mark.slow
def test_logical_devices_train_a_child_each(layer_by_layer, tmp_path):
    code = (
        two_devices.MAKE.replace("* 2", "* 4") + "import sys, pickle\n"
        "import training_samples as samples, test_engine as t\n"
        "made = samples.trainer('mirrored')\n"
        "assert made._strategy.num_replicas_in_sync == 4\n"
        "trained = samples.train(t.generation(), made)\n"
        "assert t.num_traces(made) == [1]\n"
        "assert made._engine.runners[0].num_calls == 4\n"
        "path = samples.job(0, 2, tuple(\n"
        "    p.spec.name for p in samples.job(0, 2).components)).components\n"
        "right = made.evaluate(path, samples.data(), 'test', 16)\n"
        "assert t.num_traces(made) == [1]\n"
        "pickle.dump((trained, right), open(sys.argv[1], 'wb'))\n"
    )
    path = tmp_path / "trained.pkl"
    two_devices.run(_FOLDER, code, str(path))
    import pickle

    trained, right = pickle.loads(path.read_bytes())
    assert_equal(layer_by_layer, trained)
    names = tuple(p.spec.name for p in samples.job(0, 2).components)
    parts = samples.job(0, 2, names).components
    assert right == samples.trainer().evaluate(
        parts, samples.data(), "test", 16
    )


def _children(family, components, hparams, changes):
    """Children of a root: depth, names of frozen places, adapters of each."""
    values = {c.spec.name: c for c in components}
    children = []
    for index, (depth, frozen, adapters) in enumerate(changes):
        layout = family.layout(
            {**hparams, "num_layers": depth, "adapter_dim": 4},
            samples.NUM_CLASSES,
            frozenset(adapters),
        )

        def part(spec, index=index, frozen=frozen):
            known = values.get(spec.name)
            if known is None or known.spec.weights != spec.weights:
                rng = np.random.default_rng([index, len(spec.name)])
                known = family.initial(spec, rng)
            is_frozen = spec.name in frozen
            return child_job.JobComponent(
                spec,
                lambda: known,
                spec.name if is_frozen else None,
                not is_frozen,
            )

        children.append(
            child_job.ChildJob(index, tuple(map(part, layout)), samples.HPARAMS)
        )
    return children


def _both(children, image_size):
    hparams = {"ds_image_size": image_size}
    made = samples.trainer(engine="program")
    assert_equal(
        samples.train(children, data_hparams=hparams),
        samples.train(children, made, hparams),
    )
    return made


@pytest.mark.slow
def test_hybrids_are_trained_as_layer_by_layer():
    root = hybrid_samples.root()
    stem = tuple(c.spec.name for c in root.components[:5])
    children = _children(
        root.family,
        root.components,
        root.hparams,
        [(2, stem[:2], (0,)), (1, (), ()), (2, stem, (0, 1))],
    )
    made = _both(children, hybrid_samples.IMAGE_SIZE)
    assert num_traces(made) == [1]


def _cnn_root():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = images = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    for i, width in enumerate((8, 12)):
        x = layers.Conv2D(width, 3, 1 + i, padding="same", name=f"c{i}")(x)
        x = layers.BatchNormalization(name=f"n{i}")(x)
        x = layers.ReLU(name=f"r{i}")(x)
    return keras_source.from_keras(keras.Model(images, x))


def test_a_keras_root_has_a_program_for_each_depth():
    root = _cnn_root()
    depth = root.hparams["num_layers"]
    stem = root.components[0].spec.name
    children = _children(
        root.family,
        root.components,
        {"ds_image_size": 16},
        [(depth, (stem,), (0,)), (depth, (), ()), (depth - 1, (), ())],
    )
    made = _both(children, 16)
    assert num_traces(made) == [1, 1]


def _shift_math(x, shift):
    return x + tf.cast(shift, x.dtype)


class _Shift(base.VitLayer):
    size_names = ("width",)
    function = tf.function(_shift_math, autograph=False)

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    @property
    def spec_weights(self):
        return (("shift", (self.width,)),)


@pytest.mark.slow
def test_an_adapter_of_a_plug_in_is_passed_by_where_a_child_has_none(
    monkeypatch,
):
    monkeypatch.setitem(registry.LAYERS._entries, "Shift", _Shift)

    def shifted(part):
        if "adapter" not in part.spec.name:
            return part
        spec = specs.ComponentSpec(
            part.spec.name, "Shift", {"width": 64}, (("shift", (64,)),)
        )
        values = specs.Component(spec, {"shift": np.ones(64, np.float32)})
        return child_job.JobComponent(spec, lambda: values, None, True)

    children = [
        samples.job(0, 3, _TRUNK, adapters=(1,)),
        samples.job(1, 2, adapters=(0, 1)),
        samples.job(2, 2),
    ]
    children = [
        child_job.ChildJob(
            child.index, tuple(map(shifted, child.components)), child.hparams
        )
        for child in children
    ]
    assert num_traces(_both(children, 16)) == [1]


def test_tasks_generations_and_depths_share_one_trace():
    """3 tasks, 2 rounds, 3 generations: with the largest path known."""
    largest = samples.job(0, 4, adapters=(0, 1, 2, 3)).components
    made = samples.trainer(engine="program", largest=largest, num_cycles=1)
    rng = np.random.default_rng(5)
    for round_ in range(2):
        for task, sizes in enumerate(((64, 20), (96, 50), (40, 33))):
            data = samples.data(*sizes)
            data = type(data)(**{**vars(data), "name": f"task{task}"})
            for number in range(3):
                depth = int(rng.integers(0, 5))
                adapters = tuple(np.flatnonzero(rng.integers(0, 2, depth)))
                child = samples.job(number, depth, adapters=adapters)
                made.train(
                    [child],
                    data,
                    samples.DATA_HPARAMS,
                    (data.name, round_, number),
                    accept_ties=True,
                )
    assert num_traces(made) == [1]
    (runner,) = made._engine.runners
    assert runner.num_calls == 18


@pytest.mark.parametrize(
    "quality", ["macro_f1", pytest.param("log_loss", marks=pytest.mark.slow)]
)
def test_other_qualities_are_measured_as_layer_by_layer(quality):
    children = [samples.job(0, 1), samples.job(1, 2, _TRUNK)]
    layers, program = (
        samples.train(children, samples.trainer(engine=e, quality=quality))
        for e in ("layerwise", "program")
    )
    for one, other in zip(layers, program, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


@pytest.mark.slow
def test_colours_vary_and_images_are_averaged_as_layer_by_layer():
    hparams = {
        "ds_saturation_delta": 0.2,
        "ds_hue_delta": 0.1,
        "ds_brightness_delta": 0.1,
        "ds_contrast_delta": 0.2,
    }
    for more in ({}, {"ds_antialias": True, "ds_shift": 0.1, "ds_zoom": 0.1}):
        both = [
            samples.train(
                [samples.job(0, 1)],
                samples.trainer(engine=e),
                {**hparams, **more},
            )
            for e in ("layerwise", "program")
        ]
        assert_equal(*both)


def test_a_diverged_child_has_no_snapshot_and_harms_no_other(layer_by_layer):
    children = generation()
    children[1] = samples.job(
        1, 3, _TRUNK[:3], hparams={"opt_lr": float("nan")}
    )
    made = samples.trainer(engine="program", children_per_device=3)
    results = samples.train(children, made)
    assert results[1].quality is None and results[1].components == {}
    assert_equal([layer_by_layer[0]], [results[0]])


@pytest.mark.slow
def test_examples_that_do_not_fit_on_a_device_come_call_by_call(
    layer_by_layer, monkeypatch
):
    from keras_munet.train.program import sizes

    monkeypatch.setitem(sizes._POOL_BYTES, "CPU", 32 * 16 * 16 * 3)
    made = samples.trainer(engine="program")
    assert_equal(layer_by_layer[:1], samples.train(generation()[:1], made))
    (runner,) = made._engine.runners
    assert runner.bucket.pool == 32 and runner.num_calls > 2 * 4


def test_layers_that_do_not_fit_together_are_refused_before_a_step():
    made = samples.trainer(engine="program")
    with pytest.raises(errors.UsageError, match="patches"):
        samples.train([samples.job(0, 1)], made, {"ds_image_size": 17})
    assert not made._engine.runners


def test_engines_that_do_not_run_on_the_devices_are_refused():
    with pytest.raises(errors.UsageError, match="'layerwise' runs on one CPU"):
        samples.trainer("mirrored", engine="layerwise")
    with pytest.raises(errors.UsageError, match="children_per_device is 2"):
        samples.trainer(engine="layerwise", children_per_device=2)
    assert samples.trainer().engine_name == "layerwise"
    assert samples.trainer("mirrored").engine_name == "program"
    assert strategy_lib.is_one_cpu(strategy_lib.make_strategy("one_device"))
