"""TensorFlow's own rewrites of graphs, and when they do not pay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import rewriter_config_pb2

# As `disable_grappler`, of one call.
PLAIN = config_pb2.ConfigProto(
    graph_options=config_pb2.GraphOptions(
        rewrite_options=rewriter_config_pb2.RewriterConfig(
            disable_meta_optimizer=True
        )
    )
).SerializeToString()


@contextlib.contextmanager
def disable_grappler() -> Iterator[None]:
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
