"""What a ViT path costs to run and to train."""

from __future__ import annotations

import pytest

from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import flops
from keras_munet.models.vit import variants


def _layout(name="Ti/16", num_layers=2, image_size=32, adapters=(), **extra):
    family = vit_architecture.VitFamily.of(variants.variant(name), 24)
    hparams = {"num_layers": num_layers, "ds_image_size": image_size, **extra}
    return family.layout(hparams, 10, frozenset(adapters))


@pytest.mark.parametrize(
    ("name", "num_layers", "giga"),
    # Multiply-adds at 224 pixels as arXiv 2012.12877 (table 5) and the ViT
    # literature round them, here without the 1,000-way head.
    [("Ti/16", 12, 1.3), ("S/16", 12, 4.6), ("B/16", 12, 17.6)],
)
def test_the_published_variants_cost_what_is_published(name, num_layers, giga):
    costs = flops.forward_costs(_layout(name, num_layers, 224))
    assert sum(costs.values()) / 1e9 == pytest.approx(giga, abs=0.06)


def test_each_place_has_its_cost():
    costs = flops.forward_costs(_layout(adapters=[1], adapter_dim=16))
    # 32 pixels are 4 patches and 5 tokens of width 192.
    assert costs["embedding"] == 4 * 16 * 16 * 3 * 192
    assert costs["encoderblock_0"] == 5 * 12 * 192**2 + 2 * 5**2 * 192
    assert costs["residual_adapter_1"] == 5 * 2 * 192 * 16
    assert costs["head"] == 192 * 10
    for name in ("cls", "posembed_input", "encoder_norm"):
        assert costs[name] == 0


def test_training_costs_3_2_or_1_forward_passes():
    layout = _layout()
    costs = flops.forward_costs(layout)
    block, rest = costs["encoderblock_0"], costs["embedding"] + costs["head"]
    everything = flops.training_cost(layout, {s.name for s in layout})
    assert everything == 3 * sum(costs.values())
    assert flops.training_cost(layout, {"head"}) == (
        sum(costs.values()) + 2 * costs["head"]
    )
    # The upper block is frozen, but the lower one's gradient goes through.
    assert flops.training_cost(layout, {"encoderblock_0", "head"}) == (
        (3 + 2) * block + rest + 2 * costs["head"]
    )
