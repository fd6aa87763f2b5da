"""Reads what an export says of itself, and its signatures.

Invariant: `signatures.json` is data of limited size; a folder that cannot be
read is refused in one line.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Collection
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import plain_paths
from keras_munet.export import graph_guard

_GRAPH_FILE = "saved_model.pb"
_SIGNATURE_MAP = "signature_map"
SIGNATURES_FILE = "signatures.json"
_NUM_BYTES_MAX = 1 << 28


def described(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of an export's `signatures.json`.

    Raises:
      StoreError: it cannot be read.
    """
    try:
        data = guarded_file.read_file(
            folder / SIGNATURES_FILE, _NUM_BYTES_MAX, follow=True
        )
        return guarded_json.loads(data)
    except (OSError, ValueError) as error:
        raise errors.StoreError(
            f"{folder} is no export: its {SIGNATURES_FILE} cannot be read; "
            f"give the folder that {commands.command('export')} wrote"
        ) from error


def load_saved_model(
    folder: pathlib.Path, names: Collection[str] | None = None
) -> Any:
    """Returns an export; its `signatures` are its functions by name.

    The caller has `graph_guard.check` pass an untrusted export first.

    Args:
      folder: of the export.
      names: the signatures that are loaded, of those that there are; None for
        all, of which each takes TensorFlow 7 ms and 2 MiB.

    Raises:
      StoreError: the SavedModel cannot be loaded.
    """
    try:
        if names is None:
            plain = plain_paths.without_patterns(str(folder))
            return tf.saved_model.load(plain)
        with tempfile.TemporaryDirectory() as part:
            _write_part(folder, pathlib.Path(part), names)
            return tf.saved_model.load(part)
    # TensorFlow's reader raises errors of any type on damage.
    except Exception as error:
        raise errors.StoreError(
            f"{folder} cannot be loaded: {' '.join(str(error).split())[:200]}; "
            "export again"
        ) from error


def _write_part(
    folder: pathlib.Path, part: pathlib.Path, names: Collection[str]
) -> None:
    """Writes some signatures of a SavedModel, which read its variables."""
    data = (folder / _GRAPH_FILE).read_bytes()
    saved = saved_model_pb2.SavedModel.FromString(data)
    (graph,) = saved.meta_graphs
    before = graph.object_graph_def
    signatures = {
        child.node_id: child.local_name
        for node in before.nodes
        for child in node.children
        if node.user_object.identifier == _SIGNATURE_MAP
    }
    node_ids = [
        number
        for number in range(len(before.nodes))
        if signatures.get(number) in {None, *names}
    ]
    numbers = {number: after_id for after_id, number in enumerate(node_ids)}
    after = type(before)()
    called = set()
    for number in node_ids:
        node = after.nodes.add()
        node.CopyFrom(before.nodes[number])
        del node.children[:]
        for child in before.nodes[number].children:
            if child.node_id in numbers:
                node.children.add(
                    node_id=numbers[child.node_id], local_name=child.local_name
                )
        if number in signatures:
            called.add(node.bare_concrete_function.concrete_function_name)
    for name in called:
        concrete = after.concrete_functions[name]
        concrete.CopyFrom(before.concrete_functions[name])
        concrete.bound_inputs[:] = [numbers[n] for n in concrete.bound_inputs]
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    library = type(graph.graph_def.library)(
        function=[
            functions[name] for name in graph_guard.reached(called, functions)
        ]
    )
    before.CopyFrom(after)
    # TensorFlow makes neither of the graph of version 1.
    graph.graph_def.library.CopyFrom(library)
    del graph.graph_def.node[:]
    graph.ClearField("signature_def")
    (part / _GRAPH_FILE).write_bytes(saved.SerializeToString())
    (part / "variables").symlink_to((folder / "variables").resolve())
