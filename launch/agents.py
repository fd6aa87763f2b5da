"""Several agents evolve one system at once, each its own tasks.

    python launch/agents.py --config=configs/quickstart.py --workdir=DIR \
        --num_agents=4
    python launch/agents.py --config=... --workdir=gs://BUCKET/DIR \
        --num_agents=2 --hosts=first,second --host_dir=keras_munet

Every flag that is not listed here goes to `launch/evolve.py`, which each agent
runs. One that dies begins again and finds its task where it was. SIGTERM and
Ctrl-C have all agents stop; docs/agents.md has the exit codes.
"""

from __future__ import annotations

import pathlib
import shlex
import signal
from collections.abc import Sequence

import launching
from absl import flags

from keras_munet.jobs import agents
from keras_munet.jobs import supervisor

_NUM_AGENTS = flags.DEFINE_integer("num_agents", 4, "How many agents.")
_HOSTS = flags.DEFINE_list(
    "hosts", [], "Machines that ssh reaches without a password; none: this one."
)
_HOST_DIR = flags.DEFINE_string(
    "host_dir", "keras_munet", "The project's folder on each host."
)
_HOST_PYTHON = flags.DEFINE_string(
    "host_python", ".venv/bin/python", "Python on each host, from --host_dir."
)
_NUM_THREADS = flags.DEFINE_integer(
    "threads_per_agent",
    0,
    "TensorFlow's threads for each agent; 0 divides this machine's cores.",
    lower_bound=0,
)
_SSH = flags.DEFINE_string("ssh", "ssh", "What reaches a host, with options.")


def main(evolve: Sequence[str]) -> int:
    """Runs the agents; returns the exit code."""
    agent_jobs = agents.Agents(
        evolve,
        _NUM_AGENTS.value,
        program=str(pathlib.Path(__file__).with_name("evolve.py")),
        hosts=_HOSTS.value,
        host_dir=_HOST_DIR.value,
        host_python=_HOST_PYTHON.value,
        num_threads=_NUM_THREADS.value,
        ssh=shlex.split(_SSH.value),
    )
    running = supervisor.Supervisor(
        agent_jobs.jobs(), launching.print_line, on_line=agent_jobs.on_line
    )
    # Ctrl-C and SIGTERM alike: all agents stop at their next boundary.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: running.stop(number))
    return running.run()


if __name__ == "__main__":
    launching.run_passing_on(main)
