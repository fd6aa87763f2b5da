"""Several agents on one system: the commands that make them.

Invariant: an agent is one job of `launch/evolve.py`, like any other. Which
task each takes is decided by the store's leases alone, so agents know nothing
of one another and one that dies leaves its task to the next one.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.jobs import supervisor

# A remote agent's first line: what to signal when it shall stop.
_PID_MARK = "agent process "


class Agents:
    """Agents as jobs that `supervisor.Supervisor` runs."""

    def __init__(
        self,
        evolve: Sequence[str],
        num_agents: int,
        *,
        program: str = "launch/evolve.py",
        hosts: Sequence[str] = (),
        host_dir: str = "",
        host_python: str = "",
        num_threads: int = 0,
        ssh: Sequence[str] = ("ssh",),
    ):
        """Starts nothing.

        Args:
          evolve: the flags of `launch/evolve.py`.
          num_agents: how many; dealt over the hosts in turn.
          program: `launch/evolve.py` as this machine finds it.
          hosts: machines that `ssh` reaches; none means this one.
          host_dir: the project's folder on each host.
          host_python: the interpreter there, from `host_dir` on.
          num_threads: that TensorFlow has for each agent; 0 divides this
            machine's cores, and leaves those of hosts as they are.
          ssh: the program that reaches a host, and its options.

        Raises:
          UsageError: there is no agent, a host has no name, or hosts are to
            share a system that does not lie in a bucket.
        """
        if num_agents < 1:
            raise errors.UsageError(
                f"--num_agents={num_agents}: give at least 1"
            )
        if not all(host and not host.startswith("-") for host in hosts):
            raise errors.UsageError(
                f"--hosts={','.join(hosts)}: name hosts with commas between"
            )
        if hosts and not any("workdir=gs://" in flag for flag in evolve):
            # A local folder's locks are those of one kernel.
            raise errors.UsageError(
                "agents on several hosts need a system in a bucket; give "
                "--workdir=gs://BUCKET/FOLDER"
            )
        self._evolve = list(evolve)
        self._num_agents = num_agents
        self._program = program
        self._hosts = list(hosts)
        self._host_dir = host_dir
        self._host_python = host_python
        self._num_threads = num_threads
        self._ssh = list(ssh)
        # Agent's name -> the process on its host, as it said itself.
        self._remote: dict[str, str] = {}

    def jobs(self) -> list[supervisor.Job]:
        """Returns a job for each agent."""
        return [self._job(number) for number in range(self._num_agents)]

    def on_line(self, job: supervisor.Job, line: str) -> bool:
        """Hears where an agent runs; returns whether the line is for people."""
        if self._hosts and line.startswith(_PID_MARK):
            self._remote[job.name] = line.removeprefix(_PID_MARK).strip()
            return False
        return True

    def _job(self, number: int) -> supervisor.Job:
        env = {}
        num_threads = self._num_threads
        if not num_threads and not self._hosts:
            num_threads = max(1, (os.cpu_count() or 1) // self._num_agents)
        if num_threads:
            # Agents that each take all cores wait for one another.
            env = {
                "TF_NUM_INTRAOP_THREADS": str(num_threads),
                "TF_NUM_INTEROP_THREADS": str(num_threads),
                "OMP_NUM_THREADS": str(num_threads),
            }
        if not self._hosts:
            command = sys.executable, self._program, *self._evolve
            return supervisor.Job(f"agent {number}", command, env)
        host = self._hosts[number % len(self._hosts)]
        name = f"agent {number} on {host}"
        return supervisor.Job(
            name,
            (*self._ssh, host, self._host_command(env)),
            stop=lambda process: self._stop(name, host, process),
        )

    def _host_command(self, env: dict[str, str]) -> str:
        """Returns what a host's shell runs: `exec` keeps the process's id."""
        settings = [f"{key}={value}" for key, value in env.items()]
        program = [
            *("exec", "env", "PYTHONUNBUFFERED=1", *settings),
            *(self._host_python, "launch/evolve.py", *self._evolve),
        ]
        return (
            f"echo {shlex.quote(_PID_MARK)}$$ && "
            f"cd {shlex.quote(self._host_dir)} && {shlex.join(program)}"
        )

    def _stop(self, name: str, host: str, process: subprocess.Popen) -> None:
        """Has an agent stop at its next boundary.

        To end `ssh` would leave the agent running where it is.
        """
        pid = self._remote.get(name, "")
        if not pid.isdecimal():
            process.terminate()
            return
        subprocess.Popen(
            [*self._ssh, host, f"kill -TERM {pid}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
