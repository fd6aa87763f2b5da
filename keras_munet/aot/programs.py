"""Turns a traced function into the pure function that a TPU core runs.

Invariant: a program is the part of the graph that the strategy replicates,
operation by operation, on replica 0; variables become arguments, and what they
end as becomes outputs. What surrounds it runs on the host and is only counted.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# TensorFlow offers these nowhere else.
from tensorflow.python.framework import function_def_to_graph
from tensorflow.python.framework import ops as framework_ops
from tensorflow.python.ops import handle_data_util

from keras_munet import errors

# The attribute by which TensorFlow marks what is replicated.
_CLUSTER = "_tpu_replicate"
_SUM = "CrossReplicaSum"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
# They say how to compile, and compute nothing.
_IGNORED = ("NoOp", "TPUReplicateMetadata", "TPUCompilationResult")
# They cost nothing on the host.
_FREE = ("Placeholder", "Const", "NoOp", "Identity")
# Attributes of placement, which a pure function has none of.
_DROPPED = ("_output_shapes", "_tpu_", "_xla_outside", "_class")


@dataclasses.dataclass(frozen=True)
class Program:
    """One pure function that every core runs.

    Attributes:
      function: from the arguments to the outputs, all tensors.
      arguments: its arguments; those of variables are the last.
      aliases: argument number -> output number of each variable it changes.
      host_ops: op type -> how many of them run on the host.
      reduced_bytes: what a core puts in sums over all cores.
      variable_bytes: what its variables take.
      changed_bytes: what those of them take that it changes.
    """

    function: Callable[..., list[tf.Tensor]]
    arguments: tuple[tf.TensorSpec, ...]
    aliases: Mapping[int, int]
    host_ops: Mapping[str, int]
    reduced_bytes: int
    variable_bytes: int
    changed_bytes: int


def core_programs(
    traced: tf.types.experimental.ConcreteFunction,
) -> list[Program]:
    """Returns what the cores are given by a function traced under TPUStrategy.

    Raises:
      UsageError: nothing in it is replicated.
    """
    result = [
        _program(graph, cluster) for graph, cluster in _clusters(traced.graph)
    ]
    if not result:
        raise errors.UsageError(
            "the traced function replicates nothing; trace a function that "
            "calls strategy.run under a TPUStrategy"
        )
    return result


def _clusters(graph: tf.Graph) -> Iterator[tuple[tf.Graph, str]]:
    """Yields each replicated part, also of functions that the host calls."""
    clusters = set()
    for op in graph.get_operations():
        cluster = _cluster(op)
        if cluster is not None:
            if cluster not in clusters:
                clusters.add(cluster)
                yield graph, cluster
            continue
        for name in _function_names(op):
            yield from _clusters(_function_graph(graph, name))


def _cluster(op: tf.Operation) -> str | None:
    if _CLUSTER not in op.node_def.attr:
        return None
    return op.get_attr(_CLUSTER).decode()


def _program(graph: tf.Graph, cluster: str) -> Program:
    inside: list[tf.Operation] = []
    outside: list[tf.Operation] = []
    for op in graph.get_operations():
        (inside if _cluster(op) == cluster else outside).append(op)
    produced = {out.name for op in inside for out in op.outputs}
    values: list[tf.Tensor] = []
    handles: list[tf.Tensor] = []
    for tensor in _distinct(t for op in inside for t in op.inputs):
        if tensor.name not in produced:
            inputs = handles if tensor.dtype == tf.resource else values
            inputs.append(tensor)
    results = [
        tensor
        for op in outside
        for tensor in op.inputs
        if tensor.name in produced
    ]
    changed = _assigned(graph, inside, {t.name: t.name for t in handles})

    def function(*arguments: tf.Tensor) -> list[tf.Tensor]:
        cells = [_Cell(value) for value in arguments[len(values) :]]
        tensors: dict[str, Any] = dict(
            zip((t.name for t in values + handles), arguments, strict=True)
        )
        tensors.update(zip((t.name for t in handles), cells, strict=True))
        _replay(graph, inside, tensors)
        return [tensors[tensor.name] for tensor in results] + [
            cell.value
            for handle, cell in zip(handles, cells, strict=True)
            if handle.name in changed
        ]

    input_specs = [tf.TensorSpec(t.shape, t.dtype) for t in values]
    variables = [_variable_spec(handle) for handle in handles]
    places = [i for i, t in enumerate(handles) if t.name in changed]
    return Program(
        function=function,
        arguments=(*input_specs, *variables),
        aliases={
            len(values) + position: len(results) + number
            for number, position in enumerate(places)
        },
        host_ops=collections.Counter(
            op.type for op in outside if op.type not in _FREE
        ),
        reduced_bytes=sum(
            _num_bytes(op.inputs[0]) for op in inside if op.type == _SUM
        ),
        variable_bytes=sum(map(_num_bytes, variables)),
        changed_bytes=sum(_num_bytes(variables[i]) for i in places),
    )


def _distinct(tensors: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    return list({tensor.name: tensor for tensor in tensors}.values())


def _num_bytes(tensor: tf.Tensor | tf.TensorSpec) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size


def _variable_spec(handle: tf.Tensor) -> tf.TensorSpec:
    """Returns the shape and dtype of what a variable's handle stands for."""
    data = handle_data_util.get_resource_handle_data(handle)
    if data is None or not data.is_set:
        # A handle on its way through ops of placement.
        return _variable_spec(handle.op.inputs[0])
    (cell,) = data.shape_and_type
    return tf.TensorSpec(tf.TensorShape(cell.shape), cell.dtype)


def _assigned(
    graph: tf.Graph, ops: Iterable[tf.Operation], handles: Mapping[str, str]
) -> set[str]:
    """Returns which variables ops change, also in the functions they call.

    Args:
      graph: whose ops they are.
      ops: in an order in which they can run.
      handles: tensor name -> which variable it is the handle of.
    """
    handles, assigned = dict(handles), set()
    for op in ops:
        names = [handles.get(tensor.name, "") for tensor in op.inputs]
        if not any(names):
            continue
        if op.type.startswith("Assign"):
            assigned.add(names[0])
        elif op.type == "Identity":
            handles[op.outputs[0].name] = names[0]
        for function in _function_names(op):
            body = _function_graph(graph, function)
            pairs = zip((t.name for t in body.inputs), names, strict=False)
            inner = {key: name for key, name in pairs if name}
            assigned |= _assigned(body, body.get_operations(), inner)
    return assigned


class _Cell:
    """A variable while a graph is replayed: what it holds by now."""

    def __init__(self, value: tf.Tensor):
        self.value = value

    def assign(self, value: tf.Tensor) -> None:
        """Makes `value` what is read from now on."""
        self.value = tf.identity(value)


def _replay(
    graph: tf.Graph, ops: list[tf.Operation], tensors: dict[str, Any]
) -> None:
    """Adds `ops`, in their order, to the graph that is being traced.

    Args:
      graph: whose ops they are.
      ops: in an order in which they can run.
      tensors: tensor name -> its tensor or cell; what the ops make is added.
    """
    for op in ops:
        if op.type in _IGNORED:
            continue
        inputs = [tensors[tensor.name] for tensor in op.inputs]
        outputs = _replayed(graph, op, inputs)
        tensors.update(
            (tensor.name, value)
            for tensor, value in zip(op.outputs, outputs, strict=True)
        )


def _replayed(graph: tf.Graph, op: tf.Operation, inputs: list[Any]) -> Any:
    """Returns the outputs of one op on `inputs`."""
    if op.type in _CALLS:
        # What a called function returns as a constant, e.g. the axis that a
        # gradient needs, must be one when the caller is compiled.
        return _called(_function_graph(graph, op.get_attr("f").name), inputs)
    if not any(isinstance(value, _Cell) for value in inputs):
        return _copied(graph, op, inputs)
    cell = inputs[0]
    if op.type == "ReadVariableOp":
        return [tf.identity(cell.value)]
    if op.type == "AssignVariableOp":
        cell.assign(inputs[1])
        return []
    if op.type == "AssignAddVariableOp":
        cell.assign(cell.value + inputs[1])
        return []
    if op.type == "AssignSubVariableOp":
        cell.assign(cell.value - inputs[1])
        return []
    if op.type == "VariableShape":
        return [tf.shape(cell.value, op.outputs[0].dtype)]
    if op.type == "Identity":
        return [cell]
    if op.type in _LOOPS:
        return _looped(graph, op, inputs)
    raise errors.UsageError(
        f"op {op.type} ({op.name}) takes a variable, which cannot be lowered; "
        "read the variable first and give the op its value"
    )


def _called(body: tf.Graph, inputs: list[Any]) -> list[Any]:
    tensors = dict(zip((t.name for t in body.inputs), inputs, strict=True))
    _replay(body, _computed(body), tensors)
    return [tensors[tensor.name] for tensor in body.outputs]


def _computed(body: tf.Graph) -> list[tf.Operation]:
    return [op for op in body.get_operations() if op.type != "Placeholder"]


def _looped(graph: tf.Graph, op: tf.Operation, inputs: list[Any]) -> list[Any]:
    """Returns a loop's outputs; its variables are carried as values."""
    cond = _function_graph(graph, op.get_attr("cond").name)
    body = _function_graph(graph, op.get_attr("body").name)
    places = [i for i, v in enumerate(inputs) if isinstance(v, _Cell)]

    def opened(values: Sequence[tf.Tensor]) -> list[Any]:
        return [
            _Cell(value) if position in places else value
            for position, value in enumerate(values)
        ]

    def advance(*values: tf.Tensor) -> list[tf.Tensor]:
        carried = opened(values)
        after = _called(body, carried)
        for position in places:
            after[position] = carried[position].value
        return after

    ends = list(
        tf.while_loop(
            lambda *values: _called(cond, opened(values))[0],
            advance,
            [v.value if isinstance(v, _Cell) else v for v in inputs],
        )
    )
    for position in places:
        inputs[position].assign(ends[position])
        ends[position] = inputs[position]
    return ends


def _copied(graph: tf.Graph, op: tf.Operation, inputs: list[tf.Tensor]) -> Any:
    """Returns the outputs of a copy of `op` in the graph being traced."""
    target = framework_ops.get_default_graph()
    for name in _function_names(op):
        _add_function(graph, name, target)
    attributes = {
        key: value
        for key, value in op.node_def.attr.items()
        if not key.startswith(_DROPPED)
    }
    with tf.control_dependencies(None):
        return target.create_op(
            op.type,
            inputs,
            [tensor.dtype for tensor in op.outputs],
            name=op.name.replace(":", "_"),
            attrs=attributes,
        ).outputs


def _function_names(op: tf.Operation) -> list[str]:
    """Returns the functions that are attributes of `op`."""
    names = []
    for value in op.node_def.attr.values():
        names += [value.func.name] if value.HasField("func") else []
        names += [function.name for function in value.list.func]
    return names


def _function_graph(graph: tf.Graph, name: str) -> tf.Graph:
    return _graph_of(graph._get_function(name))


@functools.lru_cache(maxsize=256)
def _graph_of(function: Any) -> tf.Graph:
    # The function's own graph has got more outputs where it has a gradient.
    with tf.init_scope():
        return function_def_to_graph.function_def_to_graph(
            function.cached_definition, include_library_functions=True
        )


def _add_function(graph: tf.Graph, name: str, target: tf.Graph) -> None:
    if not target._is_function(name):
        target._add_function_recursive(graph._get_function(name))
