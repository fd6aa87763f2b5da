"""A functional model's config cut into a chain of blocks.

Invariant: every block has one input and one output tensor, and the blocks one
after another are the model; branches lie inside a block. This is work on the
JSON that Keras itself writes (`Functional.get_config`): no layer is touched.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from keras_munet import errors

TENSOR = "__keras_tensor__"
# They have weights but belong to the layer before them.
_NORMS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    }
)
# A layer's name -> the name of its block, or None where it has no own.
Rule = Callable[[str], str | None]
# A tensor: (layer, number of its call, number of its output).
Tensor = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Node:
    """One call of a layer.

    Attributes:
      layer: its name.
      number: of the call among the layer's calls.
      inputs: the tensors it reads.
    """

    layer: str
    number: int
    inputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """Some calls in order, with one tensor in and one out.

    Attributes:
      name: of the block.
      nodes: in the order of computation.
      source: the tensor it reads.
      output: the tensor it gives.
    """

    name: str
    nodes: tuple[Node, ...]
    source: Tensor
    output: Tensor

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers, each once, in order."""
        return tuple(dict.fromkeys(node.layer for node in self.nodes))


def rule_of(pattern: str | Rule | None) -> Rule:
    """Returns the rule that a regular expression stands for.

    Layers whose names have equal matches are one block: the first group where
    there is one, else the whole match. None names no block.

    Raises:
      UsageError: it is no regular expression.
    """
    if callable(pattern):
        return pattern
    if pattern is None:
        return lambda name: None
    try:
        compiled = re.compile(pattern)
    except re.error as e:
        raise errors.UsageError(
            f"blocks {pattern!r} is no regular expression ({e}); match the "
            "part of a layer's name that names its block"
        ) from e

    def rule(name: str) -> str | None:
        match = compiled.match(name)
        if match is None:
            return None
        return match[1] if compiled.groups else match[0]

    return rule


def cut_blocks(
    config: dict[str, Any],
    rule: Rule,
    features: str | None,
    has_weights: Callable[[str], bool],
) -> list[Block]:
    """Returns the blocks of a model, input first.

    Without a rule each layer with weights begins a block; layers without
    weights and norms belong to the block before them.

    Args:
      config: what `Functional.get_config` gives.
      rule: names the block of a layer.
      features: the layer whose output ends the last block; None for the
        model's output.
      has_weights: whether a layer of that name has any.

    Raises:
      UsageError: the model or the rule does not give such a chain.
    """
    entries = {entry["name"]: entry for entry in config["layers"]}
    source = input_tensor(config)
    end = (
        _only(config["output_layers"], "outputs")
        if features is None
        else _output_of(entries, features)
    )
    nodes = _needed(entries, source, end)
    segments = list(_segments(nodes, source, end))
    if not segments:
        raise errors.UsageError(
            "the model computes nothing between its input and its features; "
            "name another layer as features"
        )

    def opens(node: Node) -> bool:
        class_name = entries[node.layer]["class_name"]
        return class_name not in _NORMS and has_weights(node.layer)

    return _grouped(segments, rule, opens)


def as_tensor(value: Any) -> Tensor:
    """Returns the tensor that a config writes as a list."""
    layer, number, output = value
    return str(layer), int(number), int(output)


def input_tensor(config: dict[str, Any]) -> Tensor:
    """Returns the one input of a model.

    Raises:
      UsageError: it has several.
    """
    return _only(config["input_layers"], "inputs")


def _only(value: Any, noun: str) -> Tensor:
    """Returns the one tensor that a config names as its inputs or outputs."""
    tensors: list[Tensor] = []

    def walk(item: Any) -> None:
        if isinstance(item, (list, tuple)):
            if len(item) == 3 and isinstance(item[0], str):
                tensors.append(as_tensor(item))
            else:
                for part in item:
                    walk(part)
        elif isinstance(item, dict):
            for part in item.values():
                walk(part)

    walk(value)
    if len(tensors) != 1:
        named = ", ".join(repr(layer) for layer, _, _ in tensors)
        cure = (
            "only models of one image input can be a root"
            if noun == "inputs"
            else "name the layer that a head stands on as features"
        )
        raise errors.UsageError(
            f"the model has {len(tensors)} {noun}, {named}; {cure}"
        )
    return tensors[0]


def _output_of(entries: dict[str, Any], features: str) -> Tensor:
    if features not in entries:
        raise errors.UsageError(
            f"the model has no layer {features!r} to be its features; its "
            f"last ones are {', '.join(list(entries)[-5:])}"
        )
    num_calls = len(entries[features]["inbound_nodes"])
    if num_calls > 1:
        raise errors.UsageError(
            f"layer {features!r} is called {num_calls} times; name one that "
            "is called once as features"
        )
    return features, 0, 0


def _read_by(value: Any) -> Iterator[Tensor]:
    """Yields the tensors among a call's arguments."""
    if isinstance(value, dict):
        if value.get("class_name") == TENSOR:
            yield as_tensor(value["config"]["keras_history"])
        else:
            for item in value.values():
                yield from _read_by(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _read_by(item)


def _needed(entries: dict[str, Any], source: Tensor, end: Tensor) -> list[Node]:
    """Returns the calls that `end` depends on, in an order to compute."""
    visited: dict[tuple[str, int], Node] = {}
    # Deep models are deeper than Python's stack: an explicit one.
    stack: list[tuple[str, int]] = [end[:2]]
    while stack:
        key = stack[-1]
        if key in visited or key == source[:2]:
            stack.pop()
            continue
        layer, number = key
        inputs = tuple(_read_by(entries[layer]["inbound_nodes"][number]))
        waiting = [
            t[:2]
            for t in inputs
            if t[:2] not in visited and t[:2] != source[:2]
        ]
        if waiting:
            stack += waiting
        else:
            visited[key] = Node(layer, number, inputs)
            stack.pop()
    return list(visited.values())


def _segments(
    nodes: list[Node], source: Tensor, end: Tensor
) -> Iterator[tuple[tuple[Node, ...], Tensor, Tensor]]:
    """Yields (calls, tensor in, tensor out) between places of one tensor.

    Walking in an order of computation, the model can be cut wherever a single
    tensor is still to be read.
    """
    num_readers: dict[Tensor, int] = {end: 1}
    for node in nodes:
        for tensor in set(node.inputs):
            num_readers[tensor] = num_readers.get(tensor, 0) + 1
    outputs: dict[tuple[str, int], list[Tensor]] = {}
    for tensor in num_readers:
        outputs.setdefault(tensor[:2], []).append(tensor)
    live, start, part = {source}, source, []
    for node in nodes:
        part.append(node)
        for tensor in set(node.inputs):
            num_readers[tensor] -= 1
            if not num_readers[tensor]:
                live.discard(tensor)
        live |= set(outputs.get((node.layer, node.number), []))
        if len(live) == 1:
            (cut,) = live
            yield tuple(part), start, cut
            start, part = cut, []


def _grouped(
    segments: list[tuple[tuple[Node, ...], Tensor, Tensor]],
    rule: Rule,
    opens: Callable[[Node], bool],
) -> list[Block]:
    groups: list[tuple[str | None, str, list]] = []
    for segment in segments:
        nodes, _, _ = segment
        label = _label(nodes, rule)
        openers = [node.layer for node in nodes if opens(node)]
        if groups and label is not None and groups[-1][0] == label:
            groups[-1][2].append(segment)
        elif label is not None:
            groups.append((label, label, [segment]))
        elif groups and not openers:
            groups[-1][2].append(segment)
        else:
            name = (openers or [nodes[0].layer])[0]
            groups.append((None, name, [segment]))
    # What stands before the first weights belongs to them.
    while len(groups) > 1 and not any(
        opens(node) for part in groups[0][2] for node in part[0]
    ):
        lead = groups.pop(0)
        groups[0] = (*groups[0][:2], lead[2] + groups[0][2])
    blocks = [
        Block(
            name=name,
            nodes=tuple(node for part in parts for node in part[0]),
            source=parts[0][1],
            output=parts[-1][2],
        )
        for _, name, parts in groups
    ]
    _check_apart(blocks)
    return blocks


def _label(nodes: tuple[Node, ...], rule: Rule) -> str | None:
    labels: dict[str, str] = {}
    for node in nodes:
        label = rule(node.layer)
        if label is not None:
            labels.setdefault(label, node.layer)
    if len(labels) > 1:
        (one, in_one), (two, in_two) = list(labels.items())[:2]
        raise errors.UsageError(
            f"layers {in_one!r} and {in_two!r} stand on branches that no "
            f"single tensor parts, but the rule puts them into blocks {one!r} "
            f"and {two!r}; give both one block"
        )
    return next(iter(labels), None)


def _check_apart(blocks: list[Block]) -> None:
    homes: dict[str, int] = {}
    for number, block in enumerate(blocks):
        for layer in block.layers:
            if layer in homes:
                raise errors.UsageError(
                    f"layer {layer!r} is called in block "
                    f"{blocks[homes[layer]].name!r} and again in a later one; "
                    "a component cannot be in two places, so let the rule put "
                    "both calls, and all between, into one block"
                )
            homes[layer] = number
    names = [block.name for block in blocks]
    for name in names:
        if names.count(name) > 1:
            raise errors.UsageError(
                f"block {name!r} is in two places of the model; let the rule "
                "name them apart"
            )
