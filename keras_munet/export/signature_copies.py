"""Signatures that differ from a traced one by constants alone.

Invariant: a copy is what TensorFlow would write had it traced the signature:
a function, a placeholder, a call and their entries in the tables of signatures
and objects. Tracing and saving takes TensorFlow 60 ms a signature, a copy
less than one.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_SIGNATURES_CHILD = "signatures"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class Copy(NamedTuple):
    """A signature to be added.

    Attributes:
      name: of the signature.
      template: of the signature that was traced.
      constants: name of a node -> its value instead of the template's; none
        where both are one function.
    """

    name: str
    template: str
    constants: Mapping[str, np.ndarray]


def add(meta_graph: Any, copies: Iterable[Copy]) -> None:
    """Adds signatures to what TensorFlow saved.

    Args:
      meta_graph: the `MetaGraphDef` of a SavedModel.
      copies: what to add.
    """
    writer = _Writer(meta_graph)
    for copy in copies:
        writer.add(copy)


class _Writer:
    """Adds to a graph; knows which names it has."""

    def __init__(self, meta_graph: Any):
        self._graph = meta_graph
        self._library = meta_graph.graph_def.library
        self._objects = meta_graph.object_graph_def
        self._nodes = {node.name: node for node in meta_graph.graph_def.node}
        self._functions = {f.signature.name: f for f in self._library.function}
        (self._signatures,) = (
            self._objects.nodes[child.node_id]
            for child in self._objects.nodes[0].children
            if child.local_name == _SIGNATURES_CHILD
        )
        self._children = {
            child.local_name: child.node_id
            for child in self._signatures.children
        }

    def add(self, copy: Copy) -> None:
        """Adds one signature."""
        definition = self._graph.signature_def[copy.name]
        definition.CopyFrom(self._graph.signature_def[copy.template])
        (source,) = definition.inputs.values()
        (called,) = {_node(output) for output in definition.outputs.values()}
        call = self._nodes[called]
        template = call.attr["f"].func.name
        function = template
        if copy.constants:
            function = self._add_function(copy, template)
        placeholder = self._add_node(
            self._nodes[_node(source)], f"{copy.name}_placeholder"
        )
        call = self._add_node(call, f"{copy.name}_call")
        call.attr["f"].func.name = function
        call.input[0] = placeholder.name
        source.name = f"{placeholder.name}:0"
        for output in definition.outputs.values():
            output.name = f"{call.name}:{output.name.rpartition(':')[2]}"
        concrete = self._objects.concrete_functions
        if function != template:
            concrete[function].CopyFrom(concrete[template])
        child = self._signatures.children.add()
        child.local_name = copy.name
        child.node_id = len(self._objects.nodes)
        node = self._objects.nodes.add()
        node.CopyFrom(self._objects.nodes[self._children[copy.template]])
        node.bare_concrete_function.concrete_function_name = function

    def _add_function(self, copy: Copy, template: str) -> str:
        """Adds the function of a signature and returns its name."""
        self._unwrap(template)
        function = self._library.function.add()
        function.CopyFrom(self._functions[template])
        function.signature.name = f"__inference_{copy.name}_copy"
        for node in function.node_def:
            if node.op == "Const" and node.name in copy.constants:
                node.attr["value"].tensor.CopyFrom(
                    tf.make_tensor_proto(
                        copy.constants[node.name],
                        tf.as_dtype(node.attr["dtype"].type),
                    )
                )
        return function.signature.name

    def _unwrap(self, name: str) -> None:
        """Replaces a function that only calls another by the other.

        TensorFlow wraps what it saves; the constants are in what is wrapped.
        """
        wrapper = self._functions[name]
        called = [
            node.attr["f"].func.name
            for node in wrapper.node_def
            if node.op in _CALLS
        ]
        other_ops = {node.op for node in wrapper.node_def} - {*_CALLS}
        if len(called) != 1 or other_ops - {"Identity", "NoOp"}:
            return
        inner = self._functions[called[0]]
        wrapper.CopyFrom(inner)
        wrapper.signature.name = name
        self._library.function.remove(inner)

    def _add_node(self, template: Any, name: str) -> Any:
        """Adds a node like another to the graph itself."""
        while name in self._nodes:
            name += "_"
        node = self._graph.graph_def.node.add()
        node.CopyFrom(template)
        node.name = name
        self._nodes[name] = node
        return node


def _node(tensor_info: Any) -> str:
    """Returns the node of a `TensorInfo`, whose name is `NODE:NUMBER`."""
    return tensor_info.name.rpartition(":")[0]
