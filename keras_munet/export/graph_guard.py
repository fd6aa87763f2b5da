"""Refuses SavedModels whose graph does more than compute.

Invariant: of a graph that passes, no operation reads or writes a file, reaches
another machine, runs Python, or keeps a state other than variables and lookup
tables: what can run is what exports need, not all but what was thought of.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from keras_munet import errors
from keras_munet.core import guarded_file

_GRAPH_FILE = "saved_model.pb"
# Other forms of it, which TensorFlow may prefer.
_OTHER_GRAPH_FILES = ("saved_model.cpb", "saved_model.pbtxt")
_GRAPH_NUM_BYTES_MAX = 1 << 30
# Of operations with a state, those that exports need.
_STATES = frozenset(
    {
        *("VarHandleOp", "ReadVariableOp", "AssignVariableOp"),
        *("VarIsInitializedOp", "ResourceGather", "ResourceGatherNd"),
        *("HashTableV2", "LookupTableFindV2", "LookupTableImportV2"),
        *("LookupTableSizeV2", "LookupTableExportV2"),
        *("PartitionedCall", "StatefulPartitionedCall", "Assert"),
        *("If", "While", "Case", "Placeholder", "NoOp"),
        *("RandomUniform", "RandomUniformInt", "RandomStandardNormal"),
    }
)
# Of those without a state, those that reach files, machines or Python.
_REACHING = re.compile(
    r"Dataset|Iterator|PyFunc|Snapshot|^Debug|^Reader|File|^Xla|Proto"
    r"|^Tpu|^TPU|^TensorRT|^TRT|Remap|Rpc|Send$|Recv$|Collective|Host"
)


def check(folder: pathlib.Path) -> None:
    """Does nothing if a SavedModel does nothing but compute.

    Args:
      folder: of the SavedModel; nothing of it is run.

    Raises:
      StoreError: it does more, or is none that launch/export.py wrote.
    """
    for path in (folder, *folder.rglob("*")):
        if path.name in _OTHER_GRAPH_FILES:
            raise _refused(folder, f"it has {path.name}, which no export has")
        if not (path.is_dir() or path.is_file()):
            raise _refused(
                folder, f"{str(path)!a} is no regular file or not there"
            )
    graph = _read(folder)
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    called = set(graph.object_graph_def.concrete_functions)
    for node in graph.object_graph_def.nodes:
        called.update(node.function.concrete_functions)
        called.add(node.bare_concrete_function.concrete_function_name)
    for name in reached(called, functions):
        for node in functions[name].node_def:
            if node.op not in functions and not _only_computes(node.op):
                raise _refused(
                    folder,
                    f"its function {name!a} has the operation {node.op!a}, "
                    "which may reach files or machines",
                )
    # TensorFlow runs none of what else is in the file: the graph of version 1
    # and the functions that save and restore variables.


def reached(names: Iterable[str], functions: Mapping[str, Any]) -> set[str]:
    """Returns the functions that may run when some are called, these too.

    Args:
      names: those that are called.
      functions: name -> its `FunctionDef`.
    """
    pending = set(names) & functions.keys()
    visited: set[str] = set()
    while pending:
        name = pending.pop()
        visited.add(name)
        for node in functions[name].node_def:
            pending |= set(_names(node)) & functions.keys() - visited
    return visited


def _read(folder: pathlib.Path) -> Any:
    """Returns the one graph of a SavedModel."""
    try:
        data = guarded_file.read_file(
            folder / _GRAPH_FILE, _GRAPH_NUM_BYTES_MAX, follow=True
        )
        saved = saved_model_pb2.SavedModel.FromString(data)
    except (OSError, message.DecodeError) as error:
        raise _refused(folder, f"its {_GRAPH_FILE} cannot be read") from error
    if len(saved.meta_graphs) != 1:
        raise _refused(folder, f"it has {len(saved.meta_graphs)} graphs, not 1")
    (graph,) = saved.meta_graphs
    if not graph.object_graph_def.nodes:
        raise _refused(folder, "it is of TensorFlow 1")
    return graph


def _only_computes(op: str) -> bool:
    op_def = op_def_registry.get(op)
    if op_def is None:
        return False
    if op_def.is_stateful:
        return op in _STATES
    return _REACHING.search(op) is None


def _names(node: Any) -> Iterator[str]:
    """Yields the functions that an operation may call."""
    yield node.op
    for value in node.attr.values():
        called: Iterable[Any] = (value.func, *value.list.func)
        for function in called:
            yield function.name
            for inner in function.attr.values():
                yield inner.func.name


def _refused(folder: pathlib.Path, reason: str) -> errors.StoreError:
    return errors.StoreError(
        f"{folder} is not run: {reason}; give the folder that "
        "launch/export.py wrote"
    )
