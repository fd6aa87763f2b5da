"""Lists the parts of a root and the search's uses of each.

Invariant: shapes and costs come from the layers' own graphs at the root's
image size, and what the search may do from the family's layouts; nothing is
written down twice.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from keras_munet.core import registry
from keras_munet.core import specs
from keras_munet.roots import root as root_lib

_HEAD = "head"
_HEADER = ("component", "layer", "output", "parameters", "multiply-adds")


@dataclasses.dataclass(frozen=True)
class Row:
    """One component of a root.

    Attributes:
      name: its place.
      layer: the kind of its layer.
      output_shape: of one image, without the batch.
      num_params: its parameters.
      multiply_adds: products of one image; norms and activations are not
        counted.
      uses: what the search may do with it.
    """

    name: str
    layer: str
    output_shape: tuple[int | None, ...]
    num_params: int
    multiply_adds: int
    uses: tuple[str, ...]


def rows(root: root_lib.Root) -> list[Row]:
    """Returns a row per component, input first."""
    # Registers every layer that a root can have.
    from keras_munet.models.keras_blocks import layers as _blocks  # noqa: F401
    from keras_munet.models.vit import layers as _vit_layers  # noqa: F401

    size = root.hparams["ds_image_size"]
    shape: tuple[int | None, ...] = (1, size, size, 3)
    uses = _uses(root)
    result = []
    for component in root.components:
        spec = component.spec
        layer = registry.LAYERS.get(spec.layer)(**spec.config)
        cost = _multiply_adds(layer, spec, shape)
        shape = tuple(layer.compute_output_shape(shape))
        result.append(
            Row(
                name=spec.name,
                layer=spec.layer,
                output_shape=shape[1:],
                num_params=spec.num_params,
                multiply_adds=cost,
                uses=uses[spec.name],
            )
        )
    return result


def root_text(root: root_lib.Root) -> str:
    """Returns a root as a table for people to read."""
    table_rows = rows(root)
    cells = [
        (
            row.name,
            row.layer,
            " x ".join("?" if s is None else str(s) for s in row.output_shape),
            f"{row.num_params:,}",
            f"{row.multiply_adds:,}",
        )
        for row in table_rows
    ]
    total = (
        "total",
        "",
        "",
        f"{root.num_params:,}",
        f"{sum(row.multiply_adds for row in table_rows):,}",
    )
    table = [_HEADER, *cells, total]
    widths = [max(len(line[i]) for line in table) for i in range(len(_HEADER))]
    uses = ["search may", *("; ".join(row.uses) for row in table_rows), ""]
    lines = [
        "  ".join(
            cell.rjust(width) if i > 2 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + f"  {what}"
        for line, what in zip(table, uses, strict=True)
    ]
    size = root.hparams["ds_image_size"]
    head = (
        f"{root.source}: family {root.family.name}, "
        f"{root.hparams['num_layers']} layers, {size} x {size} px"
    )
    return "\n".join([head, "", *(line.rstrip() for line in lines)]) + "\n"


def _uses(root: root_lib.Root) -> dict[str, tuple[str, ...]]:
    """Returns place -> what the search may do there."""
    depth = root.hparams["num_layers"]
    hparams = {"adapter_dim": 1, **root.hparams}

    def places(num_layers: int, adapters: Sequence[int] = ()) -> list[str]:
        layout = root.family.layout(
            {**hparams, "num_layers": num_layers}, 2, frozenset(adapters)
        )
        return [spec.name for spec in layout]

    kept_from = {
        name: num_layers
        for num_layers in range(depth, -1, -1)
        for name in places(num_layers)
    }
    plain = set(places(depth))
    adapted = places(depth, range(depth))
    has_adapter = {
        after
        for name, after in itertools.pairwise(adapted)
        if name not in plain
    }
    uses_by_name = {}
    for component in root.components:
        name = component.spec.name
        uses = ["share", "clone"]
        if name == _HEAD:
            uses = ["start afresh for a task"]
        if root.family.can_resample(component.spec):
            uses.append("resample")
        if kept_from[name]:
            uses.append(f"drop below num_layers {kept_from[name]}")
        if name in has_adapter:
            uses.append("put an adapter in front")
        uses_by_name[name] = tuple(uses)
    return uses_by_name


def _multiply_adds(
    layer: Any, spec: specs.ComponentSpec, shape: tuple[int | None, ...]
) -> int:
    """Returns the products of a layer's graph for one image."""
    import tensorflow as tf

    math_of = functools.partial(layer.compiled.python_function, **layer.options)
    graph = (
        tf.function(math_of, autograph=False)
        .get_concrete_function(
            tf.TensorSpec(shape, tf.float32),
            *(tf.TensorSpec(s, tf.float32) for _, s in spec.weights),
        )
        .graph
    )
    return _of_graph(graph)


def _of_graph(graph: Any) -> int:
    """Returns the products of a graph and of the functions that it calls."""
    total = 0
    for op in graph.get_operations():
        total += _of_operation(op)
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            name = op.get_attr("f").name
            total += _of_graph(graph._get_function(name).graph)
    return total


def _of_operation(op: Any) -> int:
    """Returns the products of one operation of a graph, by its shapes."""
    if op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
        transposed = op.type == "MatMul" and op.get_attr("transpose_a")
        adjoint = op.type != "MatMul" and op.get_attr("adj_x")
        inner = op.inputs[0].shape[-2 if transposed or adjoint else -1]
        return math.prod(op.outputs[0].shape.as_list()) * inner
    if op.type == "Conv2D":
        # Height, width, inputs of a group, outputs.
        *window, _ = op.inputs[1].shape.as_list()
        return math.prod(op.outputs[0].shape.as_list()) * math.prod(window)
    if op.type == "Conv2DBackpropInput":
        # A transposed convolution: every pixel of its input is spread.
        *window, _, inputs = op.inputs[1].shape.as_list()
        outputs = op.outputs[0].shape.as_list()[-1]
        pixels = math.prod(op.inputs[2].shape.as_list()[:-1])
        return pixels * math.prod(window) * inputs * outputs
    if op.type == "DepthwiseConv2dNative":
        rows_, columns, *_ = op.inputs[1].shape.as_list()
        return math.prod(op.outputs[0].shape.as_list()) * rows_ * columns
    if op.type == "Einsum":
        sides: dict[str, int] = {}
        terms = op.get_attr("equation").decode().split("->")[0].split(",")
        for term, tensor in zip(terms, op.inputs, strict=True):
            sides.update(zip(term, tensor.shape.as_list(), strict=False))
        return math.prod(sides.values())
    return 0
