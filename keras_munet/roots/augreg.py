"""The names that AugReg's `.npz` files give to a ViT's weights.

Invariant: one table per spelling, from a component's place and weight to the
file's name; shapes are equal on both sides, so loading is a renaming.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from collections.abc import Iterable

from keras_munet.core import specs
from keras_munet.vit import family as vit_family

POSITIONS = "Transformer/posembed_input/pos_embedding"
EMBEDDING_KERNEL = "embedding/kernel"
HEAD_KERNEL = "head/kernel"
HEAD_BIAS = "head/bias"
PRE_LOGITS = "pre_logits/"

_BLOCK = "Transformer/encoderblock_"
_BLOCK_INDEX = re.compile(re.escape(_BLOCK) + r"(0|[1-9][0-9]{0,3})/.+")
_OUTER = {
    (vit_family.EMBEDDING, "kernel"): EMBEDDING_KERNEL,
    (vit_family.EMBEDDING, "bias"): "embedding/bias",
    (vit_family.CLASS_TOKEN, "token"): "cls",
    (vit_family.POSITION_EMBEDDING, "pos_embedding"): POSITIONS,
    (vit_family.ENCODER_NORM, "scale"): "Transformer/encoder_norm/scale",
    (vit_family.ENCODER_NORM, "bias"): "Transformer/encoder_norm/bias",
    (vit_family.HEAD, "kernel"): HEAD_KERNEL,
    (vit_family.HEAD, "bias"): HEAD_BIAS,
}


def _block_names(
    norm_0: str, attention: str, norm_1: str, mlp: str
) -> dict[str, str]:
    return {
        "norm_0_scale": f"{norm_0}/scale",
        "norm_0_bias": f"{norm_0}/bias",
        "query_kernel": f"{attention}/query/kernel",
        "query_bias": f"{attention}/query/bias",
        "key_kernel": f"{attention}/key/kernel",
        "key_bias": f"{attention}/key/bias",
        "value_kernel": f"{attention}/value/kernel",
        "value_bias": f"{attention}/value/bias",
        "out_kernel": f"{attention}/out/kernel",
        "out_bias": f"{attention}/out/bias",
        "norm_1_scale": f"{norm_1}/scale",
        "norm_1_bias": f"{norm_1}/bias",
        "mlp_0_kernel": f"{mlp}/Dense_0/kernel",
        "mlp_0_bias": f"{mlp}/Dense_0/bias",
        "mlp_1_kernel": f"{mlp}/Dense_1/kernel",
        "mlp_1_bias": f"{mlp}/Dense_1/bias",
    }


# Older files count a block's modules together, newer ones each kind alone.
_TOGETHER = _block_names(
    "LayerNorm_0",
    "MultiHeadDotProductAttention_1",
    "LayerNorm_2",
    "MlpBlock_3",
)
_APART = _block_names(
    "LayerNorm_0",
    "MultiHeadDotProductAttention_0",
    "LayerNorm_1",
    "MlpBlock_0",
)
_APART_MARK = "/MultiHeadDotProductAttention_0/"
QUERY_KERNELS = tuple(
    f"{_BLOCK}0/{names['query_kernel']}" for names in (_TOGETHER, _APART)
)
MLP_KERNELS = tuple(
    f"{_BLOCK}0/{names['mlp_0_kernel']}" for names in (_TOGETHER, _APART)
)


def num_layers(names: Iterable[str]) -> int:
    """Returns how many different blocks `names` speak of."""
    matches = (_BLOCK_INDEX.fullmatch(name) for name in names)
    return len({match[1] for match in matches if match})


def file_names(
    layout: tuple[specs.ComponentSpec, ...], seen: Collection[str]
) -> dict[tuple[str, str], str]:
    """Returns (component, weight) -> the file's name, for a whole layout.

    Args:
      layout: components without adapters, which no such file has.
      seen: the file's names; they say which of the two spellings it uses.
    """
    block = _APART if any(_APART_MARK in n for n in seen) else _TOGETHER
    found = {}
    for spec in layout:
        index = spec.name.removeprefix(vit_family.BLOCK_PREFIX)
        for weight, _ in spec.weights:
            key = (spec.name, weight)
            if index == spec.name:
                found[key] = _OUTER[key]
            else:
                found[key] = f"{_BLOCK}{index}/{block[weight]}"
    return found
