"""Adapters and heads that are trained as factors and published as kernels."""

from __future__ import annotations

import dataclasses
import pathlib

import coordinator_samples
import numpy as np
import pytest
import system_samples
import tensorflow as tf
import training_samples as samples
import two_devices

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import child_job
from keras_munet.train import layer_pool
from keras_munet.train import memory
from keras_munet.train import weight_factors
from keras_munet.train.devices import strategy as strategy_lib

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")
_ADAPTED = {"adapters": (0,), "frozen": _TRUNK}
_SPEC = specs.ComponentSpec(
    name="residual_adapter_0",
    layer="ResidualAdapter",
    config={"width": 6, "hidden_dim": 4},
    weights=(
        ("norm_scale", (6,)),
        ("dense_0_kernel", (6, 4)),
        ("dense_1_kernel", (4, 6)),
        ("square_kernel", (3, 3)),
    ),
)
_FOLDER = pathlib.Path(__file__).resolve().parent


def _drawn(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(number, np.float32)


def _generation(factor_depth: int = 1) -> list[child_job.ChildJob]:
    """Children with factors and one without."""
    return [
        samples.job(0, 1, factor_depth=factor_depth, **_ADAPTED),
        samples.job(1, 1, _TRUNK[:3], factor_depth=factor_depth),
        samples.job(2, 1, **_ADAPTED),
    ]


@pytest.fixture(scope="module")
def here():
    """A trainer whose only worker is this process."""
    return coordinator_samples.trainer()


@pytest.fixture(scope="module")
def fused():
    return samples.train(_generation())


@pytest.mark.parametrize("depth", [1, 3])
def test_the_first_product_is_the_kernel_itself(depth):
    layout = weight_factors.FactorLayout(_SPEC, depth)
    assert layout.num_values == _SPEC.num_params + (depth + 1) * (
        4 * 4 + 4 * 4 + 3 * 3
    )
    values = _drawn(_SPEC.num_params)
    first = layout.first_values(values)
    assert (first.shape, first.dtype) == ((layout.num_values,), np.float32)
    np.testing.assert_array_equal(layout.product(tf.constant(first)), values)


def test_the_first_step_of_a_zero_kernel_is_what_it_is_without_factors():
    layout = weight_factors.FactorLayout(_SPEC, 2)
    goes = tf.constant(_drawn(_SPEC.num_params))
    first = tf.constant(layout.first_values(np.zeros_like(goes)))
    with tf.GradientTape() as tape:
        tape.watch(first)
        loss = tf.reduce_sum(goes * layout.product(first))
    step = first - 1e-3 * tape.gradient(loss, first)
    np.testing.assert_allclose(
        layout.product(step), -1e-3 * goes, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_a_products_momentum_is_where_the_factors_go(depth):
    layout = weight_factors.FactorLayout(_SPEC, depth)
    values = _drawn(layout.num_values).astype(np.float64)
    momentum = _drawn(layout.num_values, 1)
    step = 1e-6
    ahead, behind = (
        layout.product(tf.constant(values + sign * step * momentum))
        for sign in (1, -1)
    )
    seen = layout.momentum(
        tf.constant(values, tf.float32), tf.constant(momentum)
    )
    assert seen.dtype == tf.bfloat16
    expected = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(
        np.asarray(seen, np.float64), expected, rtol=5e-3, atol=5e-3
    )


def test_a_clone_goes_on_with_the_momentum_of_what_it_is_cloned_from():
    layout = weight_factors.FactorLayout(_SPEC, 2)
    values = layout.first_values(_drawn(_SPEC.num_params))
    bits = _drawn(_SPEC.num_params, 1).astype(tf.bfloat16.as_numpy_dtype)
    again = layout.momentum(tf.constant(values), layout.first_momentum(bits))
    np.testing.assert_array_equal(again.numpy(), bits)


def test_children_with_factors_learn_what_others_do():
    made = samples.trainer(num_cycles=16)
    plain = {"ds_crop": False, "ds_flip_left_right": False}
    child, other = samples.train(
        [
            samples.job(0, 2, adapters=(0, 1), factor_depth=2),
            samples.job(0, 2, adapters=(0, 1)),
        ],
        made,
        data_hparams=plain,
    )
    assert child.losses[-1] < 0.5 * child.losses[0]
    assert child.quality > 0.8
    # The same start, another way.
    assert child.losses != other.losses
    assert child.losses[0] == pytest.approx(other.losses[0], rel=0.1)


def test_what_is_published_are_ordinary_kernels_that_answer_as_the_child():
    # Of one cycle, so that the graph is still as the snapshot was.
    made = samples.trainer(num_cycles=1)
    child = samples.job(0, 1, factor_depth=1, adapters=(0,))
    (child,) = samples.train([child], made)
    (graph,) = made._engine._graphs.values()
    ((*_, adapter, _, _, head),) = graph.slots
    assert {adapter.spec.name, head.spec.name} == {"residual_adapter_0", "head"}
    images = trained = tf.constant(
        np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)), tf.float32
    )
    # As it is trained: with the products.
    for place in (*graph._stems._stems[0], *graph._tops[0]):
        trained = graph._functions.output(
            place.signature, place.values, trained
        )
    layers = []
    for slot in graph.slots[0]:
        component = child.components[slot.spec.name]
        assert {n: v.shape for n, v in component.weights.items()} == dict(
            slot.spec.weights
        )
        layers.append(
            layer_factory.make_layer(slot.spec, f"own_{slot.spec.name}")
        )
    model = path_model.build_model({"own": layers}, 16)
    for layer, slot in zip(layers, graph.slots[0], strict=True):
        published = child.components[slot.spec.name]
        layer_factory.assign_values(layer, slot.spec, published.weights)
    np.testing.assert_allclose(model(images)["own"], trained, atol=1e-5)
    assert np.any(child.components["head"].momentum["kernel"])


def test_an_untrained_child_is_published_with_the_bytes_that_it_was_given():
    child = samples.job(
        0, 1, factor_depth=1, hparams={"opt_lr": 0.0}, **_ADAPTED
    )
    (result,) = samples.train([child])
    for part in child.components:
        if part.trainable:
            seen = result.components[part.spec.name].weights
            for name, value in part.load().weights.items():
                np.testing.assert_array_equal(seen[name], value)


def test_children_without_factors_do_not_see_those_with(fused):
    (alone,) = samples.train([_generation()[2]])
    samples.assert_close(fused[2], alone, atol=2e-4)
    np.testing.assert_allclose(alone.losses, fused[2].losses, atol=1e-4)


def test_the_same_generation_gives_the_same_bits_whatever_was_before(fused):
    made = samples.trainer()
    samples.train([samples.job(4, 1, factor_depth=1, seed=3)], made)
    for one, other in zip(
        fused, samples.train(_generation(), made), strict=True
    ):
        assert one.scores == other.scores
        samples.assert_close(one, other, atol=0.0)


def test_batches_in_parts_change_factors_by_rounding_alone(fused):
    largest = max(memory.child_need(c, 16).bytes_at(8) for c in _generation())
    made = samples.trainer(num_bytes_max=largest)
    assert made.passes(_generation(), 16).num_parts == 2
    for one, other in zip(
        fused, samples.train(_generation(), made), strict=True
    ):
        samples.assert_close(one, other)


@pytest.mark.slow
def test_a_child_that_is_sent_away_becomes_what_it_would_here(here):
    children = _generation(2)[:2]
    alone = [samples.train([child])[0] for child in children]
    for one, other in zip(alone, samples.train(children, here), strict=True):
        assert one.scores == other.scores
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
        samples.assert_close(one, other, atol=1e-5)
        for name, component in one.components.items():
            again = other.components[name].momentum
            assert (component.momentum is None) == (again is None)


@pytest.mark.slow
def test_mirrored_replicas_train_factors_as_one_device_does(fused, tmp_path):
    code = (
        two_devices.MAKE + "import sys, numpy as np\n"
        "import training_samples as samples, test_weight_factors as t\n"
        "out = {}\n"
        "made = samples.trainer('mirrored')\n"
        "assert made._strategy.num_replicas_in_sync == 2\n"
        "for child in samples.train(t._generation(), made):\n"
        "    for name, c in child.components.items():\n"
        "        for key, value in c.weights.items():\n"
        "            out[f'{child.index}/{name}/{key}'] = value\n"
        "np.savez(sys.argv[1], **out)\n"
    )
    path = tmp_path / "mirrored.npz"
    two_devices.run(_FOLDER, code, str(path))
    with np.load(path) as mirrored:
        for child in fused:
            for name, component in child.components.items():
                for key, value in component.weights.items():
                    found = mirrored[f"{child.index}/{name}/{key}"]
                    np.testing.assert_allclose(found, value, atol=2e-4)


def test_products_of_bfloat16_train_factors_in_float32():
    made = samples.trainer(compute_dtype="bfloat16")
    (child,) = samples.train([_generation()[0]], made)
    (exact,) = samples.train([_generation()[0]])
    assert np.isfinite(child.losses).all()
    np.testing.assert_allclose(child.losses, exact.losses, rtol=0.05)
    (graph,) = made._engine._graphs.values()
    assert graph.slots[0][-1].trained.dtype == "float32"


def test_memory_counts_factors():
    plain, wide, deep = (
        memory.child_need(samples.job(0, 1, factor_depth=d, **_ADAPTED), 16)
        for d in (0, 1, 2)
    )
    assert plain.fixed < wide.fixed < deep.fixed
    assert plain.per_example == wide.per_example == deep.per_example


def test_a_slot_holds_kernels_and_factors_apart():
    spec = samples.job(0, 1).components[-1].spec
    pool = layer_pool.LayerPool(strategy_lib.make_strategy("one_device"))
    slot = pool.get(layer_pool.trained_role(1), spec, 0)
    assert slot.weights.shape == (spec.num_params,)
    assert slot.trained.shape == slot.momentum.shape
    assert slot.trained.shape[0] > spec.num_params
    assert pool.get(layer_pool.TRAINED, spec, 0).factors is None


def test_settings_say_which_components_have_factors():
    settings = system_samples.settings(factorized=["head"], factor_depth=2)
    layout = samples.FAMILY.layout(
        {"num_layers": 1, "ds_image_size": 16, "adapter_dim": 8},
        3,
        frozenset({0}),
    )
    found = {s.name: child_job.factor_depth(settings, s) for s in layout}
    assert {name for name, depth in found.items() if depth} == {"head"}
    assert found["head"] == 2
    both = dataclasses.replace(settings, factorized=("head", "adapter"))
    assert child_job.factor_depth(both, layout[3]) == 2
    assert not settings_lib.Settings().factorized


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"factorized": ["trunk"]}, "factorized is 'trunk'"),
        ({"factorized": "head"}, "factorized is 'head'"),
        ({"factorized": ["head", "head"]}, "'head' is named twice"),
        ({"factor_depth": 0}, "factor_depth is 0"),
        ({"factor_depth": 17}, "factor_depth is 17"),
        ({"factor_depth": True}, "factor_depth is True"),
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line(given, told):
    with pytest.raises(errors.UsageError, match=told) as refused:
        system_samples.settings(**given)
    assert "\n" not in str(refused.value)
