"""The named ViT sizes."""

from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.models.vit import variants


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Ti", (192, 3, 768, 12, 16)),
        ("S", (384, 6, 1536, 12, 16)),
        ("B", (768, 12, 3072, 12, 16)),
        ("L", (1024, 16, 4096, 24, 16)),
        ("H", (1280, 16, 5120, 32, 14)),
    ],
)
def test_a_name_without_a_patch_size_has_the_published_sizes(name, sizes):
    found = variants.variant(name)
    assert (
        found.width,
        found.num_heads,
        found.mlp_dim,
        found.num_layers,
        found.patch_size,
    ) == sizes


def test_a_patch_size_after_the_slash_changes_the_patch_alone():
    assert variants.variant("Ti/16") == variants.variant("Ti")
    other = variants.variant("B/32")
    assert (other.name, other.patch_size, other.width) == ("B/32", 32, 768)
    assert variants.variant("B/08").name == "B/8"


def test_heads_divide_the_width_of_every_variant():
    for name in variants.plain_names():
        found = variants.variant(name)
        assert found.width % found.num_heads == 0


@pytest.mark.parametrize(
    "name", ["", "X", "ti", "Ti/", "Ti/0", "Ti/x", "Ti/65", "Ti/-1", "Ti/16/2"]
)
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(errors.UsageError) as refused:
        variants.variant(name)
    assert "\n" not in str(refused.value)
