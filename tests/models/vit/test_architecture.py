"""Which components a ViT path is made of."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import variants


def _family(name: str = "mu", num_layers_max: int = 12):
    return vit_architecture.VitFamily.of(variants.variant(name), num_layers_max)


def _hparams(num_layers: int = 2, image_size: int = 32, **extra):
    return {"num_layers": num_layers, "ds_image_size": image_size, **extra}


@pytest.mark.parametrize(
    ("name", "num_layers", "image_size", "num_params"),
    [
        ("Ti/16", 3, 32, 1_484_162),
        ("B/16", 12, 32, 85_652_738),
        ("L/16", 24, 224, 303_303_682),
    ],
)
def test_layouts_have_the_published_parameter_counts(
    name, num_layers, image_size, num_params
):
    layout = _family(name, num_layers).layout(
        _hparams(num_layers, image_size), num_classes=2
    )
    assert sum(spec.num_params for spec in layout) == num_params


def test_places_come_in_the_order_of_the_method():
    layout = _family().layout(
        _hparams(adapter_dim=8), num_classes=5, adapters={1}
    )
    assert [spec.name for spec in layout] == [
        "embedding",
        "cls",
        "posembed_input",
        "encoderblock_0",
        "residual_adapter_1",
        "encoderblock_1",
        "encoder_norm",
        "head",
    ]


def test_a_path_without_layers_has_the_five_outer_places():
    layout = _family().layout(_hparams(0), num_classes=5)
    assert len(layout) == 5


def test_adapters_above_the_depth_are_dropped():
    layout = _family().layout(
        _hparams(1, adapter_dim=8), num_classes=5, adapters={0, 3}
    )
    adapters = [s.name for s in layout if s.layer == "ResidualAdapter"]
    assert adapters == ["residual_adapter_0"]


def test_specs_survive_json_and_equal_sizes_exchange_values():
    layout = _family().layout(_hparams(), num_classes=5)
    for spec in layout:
        text = json.dumps(spec.to_json())
        assert specs.ComponentSpec.from_json(json.loads(text)) == spec
    again = _family(num_layers_max=3).layout(_hparams(1), num_classes=5)
    by_name = {spec.name: spec.spec_id for spec in layout}
    assert all(by_name[spec.name] == spec.spec_id for spec in again)


def test_only_the_position_embedding_can_be_resampled():
    family = _family()
    layout = family.layout(_hparams(), num_classes=5)
    names = [spec.name for spec in layout if family.can_resample(spec)]
    assert names == ["posembed_input"]


def test_the_family_survives_json_by_its_registered_name():
    family = _family("B/32", 7)
    value = json.loads(json.dumps(family.to_json()))
    assert value["family"] == "vit"
    assert architecture.from_json(value) == family


@pytest.mark.parametrize("num_layers", [-1, 13, 1.0, True, "1"])
def test_a_depth_outside_the_root_is_refused(num_layers):
    with pytest.raises(errors.UsageError, match="num_layers"):
        _family().layout(_hparams(num_layers), num_classes=2)


@pytest.mark.parametrize("image_size", [0, -8, 4, 33, 32.0])
def test_an_image_size_that_is_no_multiple_of_the_patch_is_refused(image_size):
    with pytest.raises(errors.UsageError, match="multiple of the patch"):
        _family().layout(_hparams(image_size=image_size), num_classes=2)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0])
def test_a_head_without_classes_is_refused(num_classes):
    with pytest.raises(errors.UsageError, match="num_classes"):
        _family().layout(_hparams(), num_classes=num_classes)


def test_heads_that_do_not_divide_the_width_are_refused():
    family = vit_architecture.VitFamily(64, 3, 128, 8, 4)
    with pytest.raises(errors.UsageError, match="do not divide"):
        family.layout(_hparams(), num_classes=2)


def test_a_new_adapter_and_a_new_head_start_at_zero():
    family = _family()
    layout = family.layout(_hparams(1, adapter_dim=8), 3, adapters={0})
    rng = np.random.default_rng(0)
    made = {spec.name: family.initial(spec, rng).weights for spec in layout}
    assert not made["residual_adapter_0"]["dense_1_kernel"].any()
    assert made["residual_adapter_0"]["dense_0_kernel"].any()
    assert not made["head"]["kernel"].any()
    assert not made["cls"]["token"].any()


def test_records_need_neither_tensorflow_nor_keras():
    code = (
        "import sys, keras_munet.models.vit.architecture; "
        "import keras_munet.roots.build; "
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "set()"
