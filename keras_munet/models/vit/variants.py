"""The sizes of Vision Transformer that have a name.

Invariant: a variant is a row of these tables, with another patch size where
the name asks for one (`B/32`). Sizes are the published ones; `mu` is small
enough for tests and examples on one core. A hybrid (`R26+S/32`) has a ResNet
below the embedding, and only the published ones have a name.
"""

from __future__ import annotations

import dataclasses

from keras_munet import errors

_PATCH_SIZE_MAX_PX = 64


@dataclasses.dataclass(frozen=True)
class Variant:
    """One size of Vision Transformer.

    Attributes:
      name: its published name, e.g. `Ti/16`.
      width: features per token.
      num_heads: attention heads; divides `width`.
      mlp_dim: hidden features of a block's MLP.
      num_layers: blocks of the whole model.
      patch_size: side of a square patch, pixels; of a hybrid, positions of
        the ResNet's output.
      units: bottleneck units of each ResNet stage of a hybrid, its stem
        alone where empty; None without a ResNet.
    """

    name: str
    width: int
    num_heads: int
    mlp_dim: int
    num_layers: int
    patch_size: int
    units: tuple[int, ...] | None = None


_TABLE = {
    "mu": Variant("mu/8", 64, 2, 128, 4, 8),
    "Ti": Variant("Ti/16", 192, 3, 768, 12, 16),
    "S": Variant("S/16", 384, 6, 1536, 12, 16),
    "B": Variant("B/16", 768, 12, 3072, 12, 16),
    "L": Variant("L/16", 1024, 16, 4096, 24, 16),
    "H": Variant("H/14", 1280, 16, 5120, 32, 14),
}
# Dosovitskiy et al. 2020 (arXiv 2010.11929, appendix B.1) and AugReg. A stage
# halves the sides but the first, the stem quarters them.
_HYBRIDS = {
    row.name: row
    for row in (
        Variant("R+Ti/16", 192, 3, 768, 12, 8, ()),
        Variant("R26+S/32", 384, 6, 1536, 12, 1, (2, 2, 2, 2)),
        Variant("R26+B/32", 768, 12, 3072, 12, 1, (2, 2, 2, 2)),
        Variant("R50+B/16", 768, 12, 3072, 12, 1, (3, 4, 9)),
        Variant("R50+L/32", 1024, 16, 4096, 24, 1, (3, 4, 6, 3)),
    )
}


def plain_names() -> list[str]:
    """Returns the names of the plain sizes, smallest model first."""
    return list(_TABLE)


def hybrid_names() -> list[str]:
    """Returns the names of the hybrids of ResNet and ViT."""
    return list(_HYBRIDS)


def variant(name: str) -> Variant:
    """Returns the variant called `name`, e.g. `Ti`, `B/32` or `R26+S/32`.

    Raises:
      UsageError: the size is not in the table, or the part after the slash
        is no patch size.
    """
    if name in _HYBRIDS:
        return _HYBRIDS[name]
    size, slash, patch = str(name).partition("/")
    if size not in _TABLE:
        raise errors.UsageError(
            f"unknown ViT variant {name!r}; there are: {', '.join(_TABLE)}, "
            "each with an optional patch size as in 'B/32'; hybrids: "
            f"{', '.join(_HYBRIDS)}"
        )
    row = _TABLE[size]
    if not slash:
        return row
    plain = patch.isascii() and patch.isdigit() and len(patch) <= 2
    if not plain or not 1 <= int(patch) <= _PATCH_SIZE_MAX_PX:
        raise errors.UsageError(
            f"ViT variant {name!r} has no patch size after the slash; give "
            f"1 to {_PATCH_SIZE_MAX_PX} pixels, as in '{row.name}'"
        )
    size_px = int(patch)
    return dataclasses.replace(
        row, name=f"{size}/{size_px}", patch_size=size_px
    )
