"""The names that published files give to a ViT's weights.

Invariant: one table per spelling, from a component's place and weight to the
file's name; shapes are equal on both sides, so loading is a renaming. Only a
position embedding may lack the class token's row (`big_vision`), and a group
norm of a hybrid's ResNet may have three axes of one in front (files of 2021).

Spellings: AugReg counts a block's modules together (`MlpBlock_3`), files of
later Flax count each kind alone (`MlpBlock_0`). `big_vision` keeps the
position embedding at the top or in `Transformer/`, and puts all of it under
`params/` where it saves a training state.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from collections.abc import Iterable

from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import hybrid

EMBEDDING_KERNEL = "embedding/kernel"
HEAD_KERNEL = "head/kernel"
PRE_LOGITS_KERNEL = "pre_logits/kernel"
CLASS_TOKEN = "cls"
STEM_KERNEL = "conv_root/kernel"
# Places of the position embedding, AugReg's first.
POSITIONS = (
    "Transformer/posembed_input/pos_embedding",
    "Transformer/pos_embedding",
    "pos_embedding",
)
# Where a training state keeps the weights, and what else it holds.
PREFIXES = ("params/", "opt/target/")
_STATE = ("opt/", "chrono/", "extra/", "step", "measurements/")

_BLOCK = "Transformer/encoderblock_"
_BLOCK_INDEX = re.compile(re.escape(_BLOCK) + r"(0|[1-9][0-9]{0,3})/.+")
_OUTER = {
    (vit_architecture.EMBEDDING, "kernel"): EMBEDDING_KERNEL,
    (vit_architecture.EMBEDDING, "bias"): "embedding/bias",
    (vit_architecture.CLASS_TOKEN, "token"): CLASS_TOKEN,
    (vit_architecture.ENCODER_NORM, "scale"): "Transformer/encoder_norm/scale",
    (vit_architecture.ENCODER_NORM, "bias"): "Transformer/encoder_norm/bias",
    (vit_architecture.PRE_LOGITS, "kernel"): PRE_LOGITS_KERNEL,
    (vit_architecture.PRE_LOGITS, "bias"): "pre_logits/bias",
    (vit_architecture.HEAD, "kernel"): HEAD_KERNEL,
    (vit_architecture.HEAD, "bias"): "head/bias",
}
_STEM = {
    (hybrid.RESNET_ROOT, "conv_kernel"): STEM_KERNEL,
    (hybrid.RESNET_ROOT, "norm_scale"): "gn_root/scale",
    (hybrid.RESNET_ROOT, "norm_bias"): "gn_root/bias",
}
_RESNET = ("conv_root/", "gn_root/", "block1/")
_UNIT = re.compile(r"block([1-9])/unit([1-9][0-9]{0,2})/.+")
_GROUP_NORM = re.compile(r"(block.+/gn(\d|_proj)|gn_root)/(scale|bias)")


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
# What other models of the same sources have and these do not.
STRANGERS = {
    "MAPHead_0/": "pools by attention (MAPHead_0)",
    "MixerBlock_0/": "is an MLP-Mixer (MixerBlock_0)",
}


def prefix(names: Collection[str]) -> str:
    """Returns what stands before every weight's name; mostly nothing."""
    heads = (p for p in PREFIXES if any(n.startswith(p) for n in names))
    return next(heads, "")


def weight_names(names: Iterable[str], before: str) -> dict[str, str]:
    """Returns name without prefix -> name, less what is a training's state.

    Args:
      names: the file's.
      before: the file's `prefix`.
    """
    names_by_key = {}
    for name in names:
        if name.startswith(before):
            names_by_key[name.removeprefix(before)] = name
        elif not name.startswith(_STATE):
            names_by_key[name] = name
    return names_by_key


def num_layers(names: Iterable[str]) -> int:
    """Returns how many different blocks `names` speak of."""
    matches = (_BLOCK_INDEX.fullmatch(name) for name in names)
    return len({match[1] for match in matches if match})


def num_units(names: Collection[str]) -> tuple[int, ...] | None:
    """Returns the ResNet units of each stage, or None of a plain ViT."""
    if not any(name.startswith(_RESNET) for name in names):
        return None
    matches = (_UNIT.fullmatch(name) for name in names)
    units = {match.groups() for match in matches if match}
    stages = [stage for stage, _ in units]
    return tuple(stages.count(stage) for stage in sorted(set(stages)))


def is_group_norm(name: str) -> bool:
    """Returns whether a name is that of a norm in a hybrid's ResNet."""
    return _GROUP_NORM.fullmatch(name) is not None


def positions(names: Collection[str]) -> str:
    """Returns the name of the position embedding; AugReg's if none is."""
    return next((n for n in POSITIONS if n in names), POSITIONS[0])


def file_names(
    layout: tuple[specs.ComponentSpec, ...], names: Collection[str]
) -> dict[tuple[str, str], str]:
    """Returns (component, weight) -> the file's name, for a whole layout.

    Args:
      layout: components without adapters, which no such file has.
      names: the file's names; they say which of the spellings it uses.
    """
    block = _APART if any(_APART_MARK in n for n in names) else _TOGETHER
    outer = {
        **_OUTER,
        **_STEM,
        (vit_architecture.POSITION_EMBEDDING, "pos_embedding"): positions(
            names
        ),
    }
    by_weight = {}
    for spec in layout:
        index = spec.name.removeprefix(vit_architecture.BLOCK_PREFIX)
        for weight, _ in spec.weights:
            key = (spec.name, weight)
            if spec.layer == "ResNetUnit":
                module, _, part = weight.rpartition("_")
                prefix = spec.name.replace("_", "/")
                by_weight[key] = f"{prefix}/{module}/{part}"
            elif index == spec.name:
                by_weight[key] = outer[key]
            else:
                by_weight[key] = f"{_BLOCK}{index}/{block[weight]}"
    return by_weight


def flax_order(names: Iterable[str]) -> list[str]:
    """Returns `names` as a Flax tree is flattened: sorted at every level.

    Block 10 comes before block 2.
    """
    return sorted(names, key=lambda name: name.split("/"))


def unnamed(
    num_blocks: int,
    *,
    has_head: bool,
    has_pre_logits: bool,
    units: tuple[int, ...] | None = None,
) -> list[str]:
    """Returns the names of a checkpoint that numbers its variables.

    Args:
      num_blocks: of the ViT.
      has_head: whether it has a classification head.
      has_pre_logits: whether it has a layer before the head.
      units: ResNet units of each stage of a hybrid; None of a plain ViT.
    """
    outer = {POSITIONS[0], *_OUTER.values()}
    if not has_head:
        outer -= {HEAD_KERNEL, "head/bias"}
    if not has_pre_logits:
        outer -= {PRE_LOGITS_KERNEL, "pre_logits/bias"}
    blocks = [
        f"{_BLOCK}{i}/{name}"
        for i in range(num_blocks)
        for name in _APART.values()
    ]
    if units is None:
        return flax_order([*outer, *blocks])
    resnet = [
        f"block{stage + 1}/unit{unit + 1}/{name}"
        for stage, num_units in enumerate(units)
        for unit in range(num_units)
        # The first unit of a stage changes its input's width.
        for name in _unit_names(has_projection=not unit)
    ]
    return flax_order([*outer, *blocks, *_STEM.values(), *resnet])


def _unit_names(*, has_projection: bool) -> list[str]:
    parts = ["1", "2", "3", *(["_proj"] if has_projection else [])]
    names = []
    for part in parts:
        names += [f"conv{part}/kernel", f"gn{part}/scale", f"gn{part}/bias"]
    return names
