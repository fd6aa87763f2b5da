"""Builds the shell text that the hosts of a TPU run.

Invariant: the job begins again on its own host until it is done, refused or
told to stop; its files, in one folder of the home folder, say which.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet.jobs.tpu_pod import commands

FOLDER = "munet"
# tensorflow-tpu leaves the choice of libtpu to pip, which takes one that
# aborts at import; this one works (docs/measured/platform_notes.md).
LIBTPU_VERSION = "0.0.30"
# What one line requests of the hosts.
RUNNING = "running"
# Ends once the job's own process has said who it is; fails after half a minute.
_WAIT_FOR_PID = (
    "for _ in $(seq 300); do [ -s job.pid ] && break; sleep 0.1; done;"
    " [ -s job.pid ]"
)


def setup_command(wheel: str) -> str:
    """Returns what installs the project on a host.

    Args:
      wheel: the file's name; it and `sources.tar.gz` lie in the home folder.
    """
    python = f"{FOLDER}/.venv/bin/python"
    return " && ".join(
        [
            f"mkdir -p {FOLDER}",
            f"tar -xzf sources.tar.gz -C {FOLDER}",
            f"python3 -m venv {FOLDER}/.venv",
            # Without its dependencies: these name plain tensorflow, which
            # has no TPU kernels and would take the other's place.
            f"{python} -m pip install --quiet"
            f" tensorflow-tpu=={commands.TENSORFLOW_VERSION}"
            f" libtpu=={LIBTPU_VERSION} -r requirements.txt",
            f"{python} -m pip install --quiet --no-deps {shlex.quote(wheel)}",
        ]
    )


def tpu_environment(pod: commands.Pod) -> dict[str, str]:
    """Returns what TensorFlow needs to find the TPU.

    On a pod the program runs on host 0 alone and reaches the others' servers
    by the TPU's name; there it must not open the local chips itself.
    """
    # What says the cores' memory (`train.strategy.topology`).
    variables = {"TPU_ACCELERATOR_TYPE": pod.accelerator_type}
    if pod.is_pod:
        return {**variables, "TPU_NAME": pod.name, "TPU_LOAD_LIBRARY": "0"}
    return {
        **variables,
        "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
        "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so",
    }


def start_command(env: Mapping[str, str], evolve: Sequence[str]) -> str:
    """Returns what starts the job on host 0, unless it runs already.

    Args:
      env: environment variables of the job.
      evolve: the flags of `launch/evolve.py`.
    """
    settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in env.items())
    job = shlex.join([".venv/bin/python", "-u", "launch/evolve.py", *evolve])
    # 75 and signals: again. 0, refusals and failures that repeat: the end.
    # A reader of job.pid may stop the job, so the trap is set before. A stop
    # may come before, while and after a child begins: it gets one signal.
    loop = f"""
code=75 child= told= failures=0
trap 'woken=1; touch job.stop
  kill -TERM "$child" 2>/dev/null && told=1' TERM
echo $$ > job.pid
until [ -e job.stop ]; do
  env {settings} {job} &
  child=$!
  if [ -e job.stop ] && [ -z "$told" ]; then kill -TERM "$child"; fi
  # The trap ends one wait with a code of its own. The next gives the job's,
  # also if that has ended meanwhile.
  woken=1
  while [ -n "$woken" ]; do woken=; wait "$child"; code=$?; done
  child=
  if [ "$code" -eq 0 ] || [ "$code" -eq 2 ]; then break; fi
  if [ "$code" -ne 75 ] && [ "$code" -lt 128 ]; then
    failures=$((failures + 1))
    if [ "$failures" -ge 5 ]; then break; fi
  fi
  # In the background, as the trap waits for what runs in front.
  if ! [ -e job.stop ]; then sleep 10 & wait $!; fi
done
# Whole from the start: a reader must not find it empty.
echo "$code" > job.end && mv job.end job.code
"""
    return (
        f"cd {FOLDER} && if [ -e job.pid ] && ! [ -e job.code ] &&"
        " kill -0 $(cat job.pid) 2>/dev/null;"
        " then echo 'the job runs already'; else"
        # What an earlier job left would be taken for this one's.
        " rm -f job.pid job.code job.stop;"
        f" setsid nohup bash -c {shlex.quote(loop)} >> job.log 2>&1"
        f" < /dev/null & {_WAIT_FOR_PID}; fi"
    )


def status_command() -> str:
    """Returns what prints `running`, the exit code, or nothing."""
    # Whether it runs is tested first: a job that ends in between has its code.
    return (
        f"cd {FOLDER} 2>/dev/null && {{ alive=; [ -e job.pid ] &&"
        " kill -0 $(cat job.pid) 2>/dev/null && alive=1;"
        " if [ -e job.code ]; then cat job.code;"
        f' elif [ -n "$alive" ]; then echo {RUNNING}; fi; }}'
    )


def stop_command() -> str:
    """Returns what has the job end at its next boundary."""
    return f"kill -TERM $(cat {FOLDER}/job.pid)"


def logs_command(num_lines: int, follow: bool) -> str:
    """Returns what prints the job's last lines."""
    follow_flag = " -F" if follow else ""
    return f"tail -n {num_lines}{follow_flag} {FOLDER}/job.log"
