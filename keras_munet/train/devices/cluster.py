"""A TensorFlow cluster of workers, and the one process that sends them work.

Invariant: a process connects once. The coordinator asks for a parameter server,
on which no variable of ours lives: it stands in the coordinator's own process.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Sequence

import tensorflow as tf

from keras_munet import errors
from keras_munet.core import commands

_CONNECT_SECS = 60.0


class Coordinator(tf.distribute.coordinator.ClusterCoordinator):
    """One whose threads end with the process."""

    def __del__(self) -> None:
        # TensorFlow's own waits here for a lock that is held for as long as a
        # lost worker stays away, and the process would never end.
        pass


def parse_workers(text: str) -> tuple[str, ...]:
    """Returns the workers of a flag.

    Args:
      text: `HOST:PORT,HOST:PORT`.

    Raises:
      UsageError: it is something else.
    """
    workers = tuple(text.split(","))
    for worker in workers:
        host, _, port = worker.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise errors.UsageError(
                f"worker {worker!r} is no HOST:PORT; list all workers as "
                "HOST:PORT,HOST:PORT with ports from 1 to 65535"
            )
    if len(set(workers)) < len(workers):
        raise errors.UsageError(
            f"--workers={text} names a worker twice; name each once"
        )
    return workers


def serve_worker(workers: Sequence[str], index: int) -> None:
    """Trains what a coordinator sends, until the process is ended.

    Args:
      workers: `HOST:PORT` of all workers, in the coordinator's order.
      index: which of them this process is.

    Raises:
      UsageError: there is no such worker, or its port is taken.
    """
    if not 0 <= index < len(workers):
        raise errors.UsageError(
            f"--index={index}: there are {len(workers)} workers, numbered "
            "from 0"
        )
    _fail_fast()
    try:
        server = tf.distribute.Server(
            {"worker": list(workers)}, "worker", index, protocol="grpc"
        )
    except tf.errors.OpError as error:
        raise errors.UsageError(
            f"worker {workers[index]} cannot listen: {error.message}; is the "
            "port taken?"
        ) from error
    server.join()


@functools.cache
def connect_coordinator(workers: tuple[str, ...]) -> Coordinator:
    """Returns the one coordinator of these workers in this process.

    Args:
      workers: `HOST:PORT` of each, as `serve_worker` got them.

    Raises:
      UsageError: a worker does not answer.
    """
    for worker in workers:
        _wait_for(worker)
    _fail_fast()
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    spec = {"worker": list(workers), "ps": [f"localhost:{port}"]}
    # The strategy wants one, though no variable of ours lives on it.
    tf.distribute.Server(spec, "ps", 0, protocol="grpc")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(spec), rpc_layer="grpc"
    )
    return Coordinator(tf.distribute.ParameterServerStrategy(resolver))


def _fail_fast() -> None:
    # Else calls to a worker that is gone wait instead of failing, and no one
    # sends its children to another.
    os.environ["GRPC_FAIL_FAST"] = "use_caller"


def _wait_for(worker: str) -> None:
    host, _, port = worker.rpartition(":")
    deadline = time.monotonic() + _CONNECT_SECS
    while True:
        try:
            socket.create_connection((host, int(port)), 5.0).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise errors.UsageError(
                    f"worker {worker} did not answer for "
                    f"{_CONNECT_SECS:.0f} s ({error}); start "
                    f"{commands.command('worker')} there"
                ) from error
            time.sleep(0.2)
        else:
            return
