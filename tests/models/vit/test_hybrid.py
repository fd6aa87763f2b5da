"""Hybrids of ResNet and ViT: what a path is made of, and what it computes."""

from __future__ import annotations

import json

import hybrid_samples
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import base
from keras_munet.models.vit import flops
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import layers as _layers_lib  # noqa: F401  registers
from keras_munet.models.vit import resnet_layers
from keras_munet.models.vit import variants
from keras_munet.roots import inspection
from keras_munet.roots import root as root_lib

_SHAPES = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"units": (), "patch_size": 2},
        {"units": (1, 2, 1)},
        {"units": (1, 1), "patch_size": 2},
    ],
)


def _images(number: int = 3) -> np.ndarray:
    size = hybrid_samples.IMAGE_SIZE
    rng = np.random.default_rng(5)
    return rng.uniform(-1, 1, (number, size, size, 3)).astype(np.float32)


def _layers(root: root_lib.Root, **options):
    return [base.from_component(c, **options) for c in root.components]


@pytest.mark.parametrize(
    ("name", "num_params"),
    # With 1,000 classes at 224 pixels, as the authors' models_test.py lists
    # them (github.com/google-research/vision_transformer).
    [
        ("R+Ti/16", 6_337_704),
        ("R26+S/32", 36_431_912),
        ("R26+B/32", 101_383_976),
        ("R50+B/16", 98_659_112),
        ("R50+L/32", 328_994_856),
    ],
)
def test_layouts_have_the_published_parameter_counts(name, num_params):
    variant = variants.variant(name)
    family = hybrid.family_of(variant, variant.num_layers)
    hparams = {"num_layers": variant.num_layers, "ds_image_size": 224}
    layout = family.layout(hparams, 1000)
    assert sum(spec.num_params for spec in layout) == num_params
    # R+Ti/16 cuts patches of 8 from features of a quarter of the sides.
    side = 16 if name == "R50+B/16" else 32
    assert family.token_side == side


def test_every_hybrid_has_its_count_here_and_plain_variants_stay_plain():
    assert len(variants.hybrid_names()) == 5
    assert variants.variant("B/16").units is None
    family = hybrid.family_of(variants.variant("B/16"), 2)
    assert type(family) is vit_architecture.VitFamily
    with pytest.raises(errors.UsageError, match=r"R26\+S/32"):
        variants.variant("R26+S/16")


def test_places_come_in_the_order_of_the_method():
    layout = hybrid_samples.family().layout(
        {"num_layers": 2, "ds_image_size": 32, "adapter_dim": 4}, 5, {1}
    )
    assert [spec.name for spec in layout] == [
        *("resnet_root", "block1_unit1", "block1_unit2", "block2_unit1"),
        *("embedding", "cls", "posembed_input", "encoderblock_0"),
        *("residual_adapter_1", "encoderblock_1", "encoder_norm", "head"),
    ]
    strides = [s.config["strides"] for s in layout if "strides" in s.config]
    assert strides == [1, 1, 2]


@_SHAPES
def test_outputs_equal_the_plain_reference(changes):
    root = hybrid_samples.root(**changes)
    named = hybrid_samples.arrays(root)
    x = _images()
    for layer, component in zip(_layers(root), root.components, strict=True):
        if component.spec.name == "embedding":
            wanted = hybrid_samples.features(named, _images())
            assert wanted.max() > 1.0
            np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-5)
        x = layer(x)
    wanted = hybrid_samples.logits(named, _images(), 2)
    np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-5)


def test_bfloat16_stays_near_float32():
    root = hybrid_samples.root()
    x = short = tf.constant(_images())
    for layer in _layers(root):
        x = layer(x)
    for layer in _layers(root, dtype="mixed_bfloat16"):
        short = layer(short)
    assert short.dtype == tf.float32
    np.testing.assert_allclose(short, x, rtol=0, atol=0.1)


@pytest.mark.slow
def test_a_unit_runs_and_has_gradients_in_a_compiled_step():
    component = hybrid_samples.root().components[3]
    layer = base.from_component(component)
    weights = layer.weight_values()
    x = tf.random.stateless_normal([2, 8, 8, 128], [0, 1])

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            loss = tf.reduce_sum(tf.sin(layer.compute(x, weights)))
        return loss, *tape.gradient(loss, [x, *weights])

    plain = step(x)
    compiled = tf.function(step, jit_compile=True, autograph=False)(x)
    for one, two in zip(plain, compiled, strict=True):
        assert np.isfinite(one).all()
        scale = np.abs(one).max()
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * scale)


def test_a_constant_kernel_has_finite_gradients():
    kernel = tf.ones([3, 3, 4, 2])
    x = tf.random.stateless_normal([1, 4, 4, 4], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = resnet_layers.standard_convolution(x, kernel)
        loss = tf.reduce_sum(y)
    np.testing.assert_array_equal(y, tf.zeros_like(y))
    assert np.isfinite(tape.gradient(loss, kernel)).all()


def test_a_fresh_unit_that_keeps_the_width_changes_nothing():
    root = root_lib.random("R26+S/32", num_layers=0, image_size=32)
    unit = next(c for c in root.components if c.spec.name == "block1_unit2")
    x = tf.abs(tf.random.stateless_normal([1, 4, 4, 256], [0, 1]))
    np.testing.assert_array_equal(base.from_component(unit)(x), x)
    assert root.source == "random R26+S/32 seed 0"


@_SHAPES
def test_costs_by_formula_equal_those_of_the_graph(changes):
    root = hybrid_samples.root(**changes)
    counted = {row.name: row.multiply_adds for row in inspection.rows(root)}
    layout = [component.spec for component in root.components]
    assert flops.forward_costs(layout) == counted
    assert counted["resnet_root"] == 16 * 16 * 7 * 7 * 3 * 32


def test_a_training_step_keeps_four_of_each_convolution_s_outputs():
    root, _, plain, projected, *_ = _layers(hybrid_samples.root())
    assert root.num_kept((1, 32, 32, 3)) == 4 * 16 * 16 * 32
    assert plain.num_kept((1, 8, 8, 128)) == 4 * 8 * 8 * (32 + 32 + 128)
    outputs = 8 * 8 * 64 + 4 * 4 * (64 + 256 + 256)
    assert projected.num_kept((1, 8, 8, 128)) == 4 * outputs


def test_training_the_head_alone_costs_no_backward_pass_below():
    layout = [c.spec for c in hybrid_samples.root().components]
    costs = flops.forward_costs(layout)
    total = sum(costs.values())
    assert flops.training_cost(layout, {"head"}) == total + 2 * costs["head"]
    seen = flops.training_cost(layout, {"block2_unit1"})
    below = [spec.name for spec in layout[:3]]
    above = sum(cost for name, cost in costs.items() if name not in below)
    assert seen == total + above + costs["block2_unit1"]


def test_the_search_keeps_the_resnet_and_may_clone_its_units():
    rows = {row.name: row for row in inspection.rows(hybrid_samples.root())}
    assert rows["resnet_root"].output_shape == (8, 8, 32)
    assert rows["block2_unit1"].output_shape == (4, 4, 256)
    assert rows["embedding"].output_shape == (16, 16)
    assert rows["block2_unit1"].uses == ("share", "clone")
    assert "drop below num_layers 2" in rows["encoderblock_1"].uses


def test_the_family_survives_json_by_its_registered_name():
    family = hybrid_samples.family()
    value = json.loads(json.dumps(family.to_json()))
    assert value["family"] == "vit_hybrid"
    assert architecture.from_json(value) == family


@pytest.mark.parametrize("image_size", [0, 4, 30, 32.0])
def test_an_image_without_whole_tokens_is_refused(image_size):
    hparams = {"num_layers": 1, "ds_image_size": image_size}
    with pytest.raises(
        errors.UsageError, match="multiple of the patch size, 8"
    ):
        hybrid_samples.family().layout(hparams, 2)


def test_a_stem_without_whole_groups_is_refused():
    hparams = {"num_layers": 1, "ds_image_size": 32}
    with pytest.raises(errors.UsageError, match="multiple of 32"):
        hybrid_samples.family(stem_width=48).layout(hparams, 2)
