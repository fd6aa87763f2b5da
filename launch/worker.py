"""A worker of a cluster: trains the children that a coordinator sends.

    python launch/worker.py --workers=first:4001,second:4001 --index=0
    python launch/worker.py --workers=first:4001,second:4001 --index=1
    python launch/evolve.py --config=... --workdir=DIR \
        --strategy=coordinator --workers=first:4001,second:4001

The first two on their machines, the third anywhere that reaches them. A worker
that dies, or stands still for a minute, begins again. A client that reaches its
port can have it compute anything: keep it inside a private network.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import launching
from absl import flags

from keras_munet.jobs import supervisor

_WORKERS = flags.DEFINE_string(
    "workers", None, "HOST:PORT of all workers, commas between.", required=True
)
_INDEX = flags.DEFINE_integer(
    "index", None, "Which of them this is, from 0.", required=True
)
_SILENT_SECS = flags.DEFINE_float(
    "silent_secs", 60.0, "A server that stands still for so long is killed."
)
_SERVE = flags.DEFINE_bool("serve", False, "Be the server itself.")
_ALIVE = "alive"
_NUM_BEATS = 6


def main() -> None:
    """Serves, or watches over the process that does."""
    # TensorFlow's start-up notices stay out of the watcher, too.
    if _SERVE.value:
        _serve()
        return
    job = supervisor.Job(
        f"worker {_INDEX.value}",
        (sys.executable, *sys.argv, "--serve"),
        stop=lambda process: process.kill(),
    )
    watched = supervisor.Supervisor(
        [job],
        launching.print_line,
        silent_secs=_SILENT_SECS.value,
        on_line=lambda job, line: line != _ALIVE,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: watched.stop(number))
    sys.exit(watched.run())


def _serve() -> None:
    ended = threading.Event()
    threading.Thread(target=_say_alive, args=(ended,), daemon=True).start()
    launching.quiet_tensorflow()
    from keras_munet.train.devices import cluster

    workers = cluster.parse_workers(_WORKERS.value)
    try:
        cluster.serve_worker(workers, _INDEX.value)
    finally:
        ended.set()


def _say_alive(ended: threading.Event) -> None:
    while not ended.wait(_SILENT_SECS.value / _NUM_BEATS):
        try:
            print(_ALIVE, flush=True)
        except OSError:
            # Its supervisor is gone: a server alone would stay for ever.
            os._exit(1)


if __name__ == "__main__":
    launching.run(main)
