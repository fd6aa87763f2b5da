"""A ViT root from named arrays in any kind of storage.

Invariant: strict both ways. Every array has a place in the ViT and every
weight an array of its own shape, float32 and finite; what differs is named in
one CheckpointError and nothing is loaded. Only then are blocks left out, the
head cut and the position embedding resampled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any
from typing import Protocol

import numpy as np

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import hybrid
from keras_munet.models.vit import shapes
from keras_munet.models.vit import variants
from keras_munet.roots import augreg_names
from keras_munet.roots import root as root_lib

# Larger than any published ViT has; bounds what a lying header can ask for.
NUM_LAYERS_MAX = 1_000
_NUM_NAMED_MAX = 6
_FLOAT32 = np.dtype("<f4")
_ABSENT = "nothing"


class Arrays(Protocol):
    """Named arrays whose headers were read and whose values were not."""

    @property
    def path(self) -> str:
        """Returns the path of the file or folder."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype]:
        """Name -> dtype."""

    def read(self, name: str) -> np.ndarray:
        """Returns one array."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One name on which a file and the ViT do not agree.

    Attributes:
      name: the file's name.
      expected: what the ViT needs, e.g. `float32 [192]`.
      actual: what the file has.
    """

    name: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.name!r}: expected {self.expected}, found {self.actual}"


class MismatchError(errors.CheckpointError):
    """A file that is another model's.

    Attributes:
      differences: every difference, sorted by name.
    """

    def __init__(self, path: str, differences: list[Difference]):
        """Says the first few in one line."""
        self.differences = differences
        named = "; ".join(str(d) for d in differences[:_NUM_NAMED_MAX])
        more = len(differences) - _NUM_NAMED_MAX
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(
            f"{path} does not fit the ViT: {named}{rest}; use a whole ViT "
            "checkpoint and the variant it was trained as"
        )


def load_vit(
    opened: Arrays,
    source: str,
    *,
    variant: str | None = None,
    num_layers: int | None = None,
    num_layers_max: int | None = None,
    image_size: int | None = None,
    num_classes: int | None = None,
    exact_gelu: bool = False,
    norm_epsilon: float = vit_architecture.NORM_EPSILON,
) -> root_lib.Root:
    """Returns the root that named arrays hold.

    Args:
      opened: the arrays, named in any spelling of `roots.augreg`.
      source: what the root's `source` says.
      variant: the ViT's name; None to tell it from the shapes.
      num_layers: blocks to keep, the first ones; None for all.
      num_layers_max: the deepest path; None for the root's own depth.
      image_size: side of the square input, pixels, which the position
        embedding is resampled to; None for the checkpoint's own.
      num_classes: columns of the head to keep, the first ones; None for all.
        A file without a head gets one of zeros.
      exact_gelu: whether its GELU is by the error function, not by tanh.
      norm_epsilon: what its norms add to the variance.

    Raises:
      CheckpointError: the arrays are another model's or damaged.
      UsageError: more layers or classes than the checkpoint has, or an image
        size that is no multiple of the patch.
    """
    file = _File(opened)
    family, depth, own_image_size = _sizes(file, variant)
    family = dataclasses.replace(
        family, exact_gelu=exact_gelu, norm_epsilon=norm_epsilon
    )
    has_head = file.has("head/")
    own_classes = (
        file.shape(augreg_names.HEAD_KERNEL, 2)[1]
        if has_head
        else num_classes or root_lib.NUM_CLASSES
    )
    layout = family.layout(
        {"num_layers": depth, "ds_image_size": own_image_size}, own_classes
    )
    stored = layout if has_head else layout[:-1]
    names = augreg_names.file_names(stored, file.names)
    _check_headers(file, stored, names)
    depth_used = _first("num_layers", num_layers, depth, lowest=0)
    classes = _first("num_classes", num_classes, own_classes, lowest=1)
    deepest = depth_used if num_layers_max is None else num_layers_max
    family = dataclasses.replace(family, num_layers_max=deepest)
    hparams = {
        "num_layers": depth_used,
        "ds_image_size": own_image_size if image_size is None else image_size,
    }
    target_layout = family.layout(hparams, classes)
    by_name = {spec.name: spec for spec in stored}
    file_specs = [by_name[s.name] for s in target_layout if s.name in by_name]
    read = {c.spec.name: c for c in _read(file, file_specs, names)}
    components = tuple(
        _fitted(family, read[spec.name], spec)
        if spec.name in read
        else family.initial(spec, np.random.default_rng(0))
        for spec in target_layout
    )
    return root_lib.Root(family, components, hparams, source)


class _File:
    """Arrays by their names without prefix."""

    def __init__(self, opened: Arrays):
        self.path = opened.path
        self._opened = opened
        before = augreg_names.prefix(opened.shapes)
        self.names = augreg_names.weight_names(opened.shapes, before)

    def has(self, start: str) -> bool:
        return any(name.startswith(start) for name in self.names)

    def shape_of(self, name: str) -> tuple[int, ...]:
        shape = tuple(self._opened.shapes[self.names[name]])
        # Files of 2021 keep group norms as [1, 1, 1, features].
        is_wide = shape[:-1] == (1, 1, 1) and augreg_names.is_group_norm(name)
        return shape[-1:] if is_wide else shape

    def dtype_of(self, name: str) -> np.dtype:
        return self._opened.dtypes[self.names[name]]

    def read(self, name: str) -> np.ndarray:
        value = self._opened.read(self.names[name])
        return value.reshape(self.shape_of(name))

    def shape(self, name: str, num_axes: int) -> tuple[int, ...]:
        """Returns the shape of an array that gives sizes."""
        if name not in self.names:
            raise self._foreign(name)
        shape = self.shape_of(name)
        if len(shape) != num_axes or 0 in shape:
            raise self.unlike(name, f"{num_axes} axes, none empty")
        return shape

    def unlike(self, name: str, allowed: str) -> errors.CheckpointError:
        return errors.CheckpointError(
            f"{self.path} has {name} of shape {list(self.shape_of(name))}; it "
            f"must have {allowed}, so use a ViT checkpoint"
        )

    def _foreign(self, name: str) -> errors.CheckpointError:
        marks = augreg_names.STRANGERS.items()
        matches = [text for mark, text in marks if self.has(mark)]
        problem = matches[0] if matches else f"lacks {name}"
        return errors.CheckpointError(
            f"{self.path} {problem}; supported is a ViT, plain or on a ResNet, "
            "with a class token in AugReg's or big_vision's names"
        )


def _sizes(
    file: _File, variant: str | None
) -> tuple[vit_architecture.VitFamily, int, int]:
    """Returns (family, number of blocks, image size) of the file."""
    # The class token tells a ViT of this kind from its relatives.
    file.shape(augreg_names.CLASS_TOKEN, 3)
    representation_size = 0
    if file.has("pre_logits/"):
        representation_size = file.shape(augreg_names.PRE_LOGITS_KERNEL, 2)[1]
    if variant is None:
        depth = augreg_names.num_layers(file.names)
        family = _inferred_family(file, depth, representation_size)
    else:
        vit_variant = variants.variant(variant)
        depth = vit_variant.num_layers
        family = hybrid.family_of(vit_variant, depth, representation_size)
    name = augreg_names.positions(file.names)
    num_positions = file.shape(name, 3)[1]
    grid = math.isqrt(_num_patches(num_positions))
    if grid < 1 or grid * grid != _num_patches(num_positions):
        raise file.unlike(
            name, "a square grid of patches, with or without a class token"
        )
    return family, depth, grid * family.token_side


def _num_patches(num_positions: int) -> int:
    """Returns the positions less the class token's, where it has one."""
    is_square = math.isqrt(num_positions) ** 2 == num_positions
    return num_positions if is_square else num_positions - 1


def _inferred_family(
    file: _File, depth: int, representation_size: int
) -> vit_architecture.VitFamily:
    kernel = file.shape(augreg_names.EMBEDDING_KERNEL, 4)
    query_name = _present(file, augreg_names.QUERY_KERNELS)
    query = file.shape(query_name, 3)
    mlp = file.shape(_present(file, augreg_names.MLP_KERNELS), 2)
    if kernel[3] % query[1]:
        raise file.unlike(
            query_name, f"heads that divide the width {kernel[3]}"
        )
    sizes: dict[str, Any] = {
        "width": kernel[3],
        "num_heads": query[1],
        "mlp_dim": mlp[1],
        "patch_size": kernel[0],
        "num_layers_max": depth,
        "representation_size": representation_size,
    }
    units = augreg_names.num_units(file.names)
    if units is None:
        return vit_architecture.VitFamily(**sizes)
    stem = file.shape(augreg_names.STEM_KERNEL, 4)
    if stem[3] % shapes.NUM_GROUPS:
        raise file.unlike(
            augreg_names.STEM_KERNEL,
            f"a multiple of {shapes.NUM_GROUPS} features",
        )
    return hybrid.HybridFamily(**sizes, units=units, stem_width=stem[3])


def _present(file: _File, names: tuple[str, ...]) -> str:
    return next((n for n in names if n in file.names), names[0])


def _check_headers(
    file: _File,
    layout: tuple[specs.ComponentSpec, ...],
    names: dict[tuple[str, str], str],
) -> None:
    expected = {
        names[spec.name, weight]: shape
        for spec in layout
        for weight, shape in spec.weights
    }
    positions = augreg_names.positions(file.names)
    if positions in file.names:
        # Without the class token's row, as big_vision keeps it.
        num_positions = file.shape_of(positions)[1]
        if _num_patches(num_positions) == num_positions:
            one, tokens, width = expected[positions]
            expected[positions] = (one, tokens - 1, width)
    differences = []
    for name in sorted({*expected, *file.names}):
        expected_text = _described(expected.get(name), _FLOAT32)
        actual = _ABSENT
        if name in file.names:
            actual = _described(file.shape_of(name), file.dtype_of(name))
        if expected_text != actual:
            differences.append(Difference(name, expected_text, actual))
    if differences:
        raise MismatchError(file.path, differences)


def _described(shape: tuple[int, ...] | None, dtype: np.dtype) -> str:
    return _ABSENT if shape is None else f"{dtype} {list(shape)}"


def _read(
    file: _File,
    layout: list[specs.ComponentSpec],
    names: dict[tuple[str, str], str],
) -> list[specs.Component]:
    components, differences = [], []
    for spec in layout:
        values = {}
        for weight, shape in spec.weights:
            name = names[spec.name, weight]
            value = file.read(name)
            num_wrong = int((~np.isfinite(value)).sum())
            if num_wrong:
                problem = f"{num_wrong} that are not"
                differences.append(Difference(name, "finite values", problem))
            if value.shape != shape:
                # The class token's position: nothing is added to it.
                value = np.pad(value, ((0, 0), (1, 0), (0, 0)))
            values[weight] = value
        components.append(specs.Component(spec, values))
    if differences:
        raise MismatchError(file.path, sorted(differences, key=str))
    return components


def _first(key: str, number: int | None, there: int, *, lowest: int) -> int:
    if number is None:
        return there
    if not lowest <= number <= there:
        raise errors.UsageError(
            f"{key} is {number}; this checkpoint allows {lowest} to {there}"
        )
    return number


def _fitted(
    family: vit_architecture.VitFamily,
    component: specs.Component,
    spec: specs.ComponentSpec,
) -> specs.Component:
    """Returns `component` as `spec`: itself, resampled, or its head cut."""
    if component.spec == spec:
        return component
    if spec.name == vit_architecture.HEAD:
        cut: dict[str, Any] = dict(component.weights)
        num_classes = spec.config["num_classes"]
        return specs.Component(
            spec, {k: v[..., :num_classes].copy() for k, v in cut.items()}
        )
    return family.resample(component, spec)
