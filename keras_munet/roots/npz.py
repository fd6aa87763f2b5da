"""A root from an AugReg `.npz` checkpoint.

Invariant: strict both ways. Every array of the file has a place in the ViT
and every weight an array of its own shape, float32 and finite; what differs
is named in one CheckpointError and nothing is loaded. Only then are blocks
left out, the head cut and the position embedding resampled.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.roots import archive
from keras_munet.roots import augreg
from keras_munet.roots import root as root_lib
from keras_munet.vit import family as vit_family
from keras_munet.vit import variants

_NUM_NAMED_MAX = 6
_FLOAT32 = np.dtype("<f4")


def from_npz(
    path: str | os.PathLike[str],
    *,
    variant: str | None = None,
    num_layers: int | None = None,
    num_layers_max: int | None = None,
    image_size: int | None = None,
    num_classes: int | None = None,
) -> root_lib.Root:
    """Returns the root that an AugReg checkpoint holds.

    Args:
      path: a local `.npz` file.
      variant: the ViT's name; None to tell it from the shapes.
      num_layers: blocks to keep, the first ones; None for all.
      num_layers_max: the deepest path; None for the root's own depth.
      image_size: side of the square input, pixels, which the position
        embedding is resampled to; None for the checkpoint's own.
      num_classes: columns of the head to keep, the first ones; None for all.

    Raises:
      CheckpointError: the file cannot be read or is another model's.
      UsageError: more layers or classes than the checkpoint has, or an image
        size that is no multiple of the patch.
    """
    with archive.Archive(path) as opened:
        _refuse_pre_logits(opened)
        sizes = _sizes(opened, variant)
        family, depth, own_image_size = sizes
        layout = family.layout(
            {"num_layers": depth, "ds_image_size": own_image_size},
            _num_classes(opened),
        )
        names = augreg.file_names(layout, opened.shapes)
        _check_headers(opened, layout, names)
        kept = _first("num_layers", num_layers, depth, lowest=0)
        classes = _first(
            "num_classes", num_classes, _num_classes(opened), lowest=1
        )
        family = dataclasses.replace(
            family,
            num_layers_max=kept if num_layers_max is None else num_layers_max,
        )
        hparams = {
            "num_layers": kept,
            "ds_image_size": own_image_size
            if image_size is None
            else image_size,
        }
        wanted = family.layout(hparams, classes)
        by_name = {spec.name: spec for spec in layout}
        read = _read(opened, [by_name[spec.name] for spec in wanted], names)
    components = tuple(
        _fitted(family, component, spec)
        for component, spec in zip(read, wanted, strict=True)
    )
    source = f"npz {os.path.basename(os.fspath(path))}"
    return root_lib.Root(family, components, hparams, source)


def _refuse_pre_logits(opened: archive.Archive) -> None:
    extra = sorted(n for n in opened.shapes if n.startswith(augreg.PRE_LOGITS))
    if extra:
        raise errors.CheckpointError(
            f"{opened.path} has {', '.join(extra[:_NUM_NAMED_MAX])}, a layer "
            "between norm and head that this ViT lacks; use a checkpoint "
            "without pre_logits"
        )


def _sizes(
    opened: archive.Archive, variant: str | None
) -> tuple[vit_family.VitFamily, int, int]:
    """Returns (family, number of blocks, image size) of the file."""
    if variant is None:
        depth = augreg.num_layers(opened.shapes)
        family = _inferred_family(opened, depth)
    else:
        found = variants.variant(variant)
        depth = found.num_layers
        family = vit_family.VitFamily.of(found, depth)
    positions = _shape(opened, augreg.POSITIONS, 3)
    grid = math.isqrt(max(positions[1] - 1, 0))
    if grid < 1 or grid * grid + 1 != positions[1]:
        raise _unlike(
            opened,
            augreg.POSITIONS,
            positions,
            "a class token and a square grid of patches",
        )
    return family, depth, grid * family.patch_size


def _inferred_family(
    opened: archive.Archive, depth: int
) -> vit_family.VitFamily:
    kernel = _shape(opened, augreg.EMBEDDING_KERNEL, 4)
    query = _shape(opened, _present(opened, augreg.QUERY_KERNELS), 3)
    mlp = _shape(opened, _present(opened, augreg.MLP_KERNELS), 2)
    return vit_family.VitFamily(
        width=kernel[3],
        num_heads=_divisor(opened, query, kernel[3]),
        mlp_dim=mlp[1],
        patch_size=kernel[0],
        num_layers_max=depth,
    )


def _divisor(
    opened: archive.Archive, query: tuple[int, ...], width: int
) -> int:
    if width % query[1]:
        name = _present(opened, augreg.QUERY_KERNELS)
        raise _unlike(
            opened, name, query, f"heads that divide the width {width}"
        )
    return query[1]


def _present(opened: archive.Archive, names: tuple[str, ...]) -> str:
    return next((n for n in names if n in opened.shapes), names[0])


def _num_classes(opened: archive.Archive) -> int:
    return _shape(opened, augreg.HEAD_KERNEL, 2)[1]


def _shape(
    opened: archive.Archive, name: str, num_axes: int
) -> tuple[int, ...]:
    """Returns the shape of an array that sizes are told from."""
    if name not in opened.shapes:
        raise errors.CheckpointError(
            f"{opened.path} lacks {name}; it must be an AugReg ViT checkpoint"
        )
    shape = opened.shapes[name]
    if len(shape) != num_axes or 0 in shape:
        raise _unlike(opened, name, shape, f"{num_axes} axes, none empty")
    return shape


def _unlike(
    opened: archive.Archive, name: str, shape: tuple[int, ...], allowed: str
) -> errors.CheckpointError:
    return errors.CheckpointError(
        f"{opened.path} has {name} of shape {list(shape)}; it must have "
        f"{allowed}, so use an AugReg ViT checkpoint"
    )


def _check_headers(
    opened: archive.Archive,
    layout: tuple[specs.ComponentSpec, ...],
    names: dict[tuple[str, str], str],
) -> None:
    expected = {
        names[spec.name, weight]: shape
        for spec in layout
        for weight, shape in spec.weights
    }
    problems = []
    for name in sorted({*expected, *opened.shapes}):
        if name not in opened.shapes:
            problems.append(f"missing {name}")
        elif name not in expected:
            problems.append(f"unexpected {name!r}")
        elif opened.shapes[name] != expected[name]:
            problems.append(
                f"{name} is {list(opened.shapes[name])}, not "
                f"{list(expected[name])}"
            )
        elif opened.dtypes[name] != _FLOAT32:
            problems.append(f"{name} is {opened.dtypes[name]}, not float32")
    _raise_all(opened, problems)


def _read(
    opened: archive.Archive,
    layout: list[specs.ComponentSpec],
    names: dict[tuple[str, str], str],
) -> list[specs.Component]:
    components, problems = [], []
    for spec in layout:
        values = {}
        for weight, _ in spec.weights:
            name = names[spec.name, weight]
            values[weight] = opened.read(name)
            if not np.isfinite(values[weight]).all():
                problems.append(f"{name} has values that are not finite")
        components.append(specs.Component(spec, values))
    _raise_all(opened, sorted(problems))
    return components


def _raise_all(opened: archive.Archive, problems: list[str]) -> None:
    if not problems:
        return
    named = "; ".join(problems[:_NUM_NAMED_MAX])
    more = len(problems) - _NUM_NAMED_MAX
    rest = f"; and {more} more" if more > 0 else ""
    raise errors.CheckpointError(
        f"{opened.path} does not fit the ViT: {named}{rest}; use a whole "
        "AugReg checkpoint and the variant it was trained as"
    )


def _first(key: str, asked: int | None, there: int, *, lowest: int) -> int:
    if asked is None:
        return there
    if not lowest <= asked <= there:
        raise errors.UsageError(
            f"{key} is {asked}; this checkpoint allows {lowest} to {there}"
        )
    return asked


def _fitted(
    family: vit_family.VitFamily,
    component: specs.Component,
    spec: specs.ComponentSpec,
) -> specs.Component:
    """Returns `component` as `spec`: itself, resampled, or its head cut."""
    if component.spec == spec:
        return component
    if spec.name == vit_family.HEAD:
        cut: dict[str, Any] = dict(component.weights)
        num_classes = spec.config["num_classes"]
        return specs.Component(
            spec, {k: v[..., :num_classes].copy() for k, v in cut.items()}
        )
    return family.resample(component, spec)
