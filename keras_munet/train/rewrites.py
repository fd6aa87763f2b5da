"""TensorFlow's own rewrites of graphs, and when they do not pay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

# An operation that returns a reference, as those of TensorFlow 1 do.
_REFERENCE_OP = "VariableV2"
# Of the node that says so.
ATTRIBUTE = "_munet_reference"


@contextlib.contextmanager
def plain_graphs() -> Iterator[None]:
    """Has TensorFlow run graphs as they were traced.

    Its rewrites cost three times what they are applied to: a step is a
    graph of calls to layers that are written as they should run. The
    option is the process's own, so it is put back.
    """
    key = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(key, False)
    tf.config.optimizer.set_experimental_options({key: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({key: before})


def unsearched(x: tf.Tensor) -> tf.Tensor:
    """Returns `x`; what is computed from it is not searched for references.

    Before a graph runs, TensorFlow builds the body of every call in it anew, to
    see which nodes have to do with references; XLA keeps away from these. It
    does not look into what already has to do with one, and it takes a node for
    such that names, in any attribute, an operation that returns references
    (`GetNodesRelatedToRefVariables`; docs/platform_notes.md has the gain).
    Where it no longer does, this changes nothing.

    Args:
      x: what a step's calls depend on, in the step's own graph; of a step in
        which XLA compiles nothing by itself.

    Returns:
      `x`, the same shape and dtype.
    """
    y = tf.identity(x)
    value = attr_value_pb2.AttrValue()
    value.func.name = _REFERENCE_OP
    # The public way to give a node an attribute would give it to all of them.
    y.op._set_attr(ATTRIBUTE, value)
    return y
