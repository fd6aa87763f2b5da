"""Cloud TPUs: create one, set it up, run a job on it, watch and delete it.

    python launch/pod.py create --name=munet --zone=ZONE --accelerator_type=v3-8
    python launch/pod.py setup  --name=munet --zone=ZONE
    python launch/pod.py run    --name=munet --zone=ZONE --config=FILE \
        --workdir=gs://BUCKET/FOLDER
    python launch/pod.py status|logs|delete --name=munet --zone=ZONE

`--dry_run` prints the commands of gcloud and runs none. `run` passes every flag
that is not listed here on to `launch/evolve.py`, creates a TPU anew that was
taken away (not one that a person deleted), and continues from the bucket;
Ctrl-C or SIGTERM has the job stop at its next boundary. launch/README.md goes
through it all, costs included.
"""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Sequence

import launching
from absl import flags

from keras_munet import errors
from keras_munet.jobs import supervisor
from keras_munet.jobs.tpu_pod import commands
from keras_munet.jobs.tpu_pod import control
from keras_munet.jobs.tpu_pod import gcloud

_COMMANDS = ("create", "setup", "run", "status", "logs", "delete")
_NAME = flags.DEFINE_string("name", "munet", "The TPU's name.")
_ZONE = flags.DEFINE_string("zone", None, "Its zone.", required=True)
_PROJECT = flags.DEFINE_string("project", "", "Google Cloud project.")
_TYPE = flags.DEFINE_string("accelerator_type", "v3-8", "E.g. v3-8, v4-32.")
_IMAGE = flags.DEFINE_string(
    "runtime_version", "", "The image; default tpu-vm-tf-2.20.0[-pod]-pjrt."
)
_SPOT = flags.DEFINE_bool("spot", False, "Cheaper; may be taken away.")
_QUEUED = flags.DEFINE_bool("queued", True, "Wait in Google's queue for it.")
_WHEEL = flags.DEFINE_string("wheel", "", "Of the project; default: built.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print commands, run none.")
_POLL_SECS = flags.DEFINE_float("poll_secs", 30.0, "Between looks at a state.")
_CREATE_SECS = flags.DEFINE_float(
    "create_secs", 3600.0, "How long to wait for a TPU."
)
_ENV = flags.DEFINE_multi_string("env", [], "KEY=VALUE for the job.")
_NUM_LINES = flags.DEFINE_integer("num_lines", 100, "Of the log.")
_FOLLOW = flags.DEFINE_bool("follow", False, "Show new lines of the log, too.")


def main(arguments: Sequence[str]) -> int:
    """Does what the command says; returns the exit code."""
    command, *rest = arguments or [""]
    if command not in _COMMANDS:
        raise errors.UsageError(
            f"{command!r} is no command; give one of {', '.join(_COMMANDS)} "
            "and flags as --name=value"
        )
    if rest and command != "run":
        raise errors.UsageError(
            f"{rest[0]!r} is not a flag of {command}; see --help"
        )
    pod = commands.Pod(
        _NAME.value,
        _ZONE.value,
        _PROJECT.value,
        _TYPE.value,
        _IMAGE.value,
        _SPOT.value,
        _QUEUED.value,
    )
    tell = launching.print_line
    pod_control = control.PodControl(
        pod,
        gcloud.Gcloud(tell, dry_run=_DRY_RUN.value),
        tell,
        poll_secs=_POLL_SECS.value,
        create_secs=_CREATE_SECS.value,
        env=dict(_pair(text) for text in _ENV.value),
    )
    if command in ("create", "run"):
        # Nothing is cut off in between; both end soon after.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: pod_control.stop())
    project = pathlib.Path(__file__).resolve().parents[1]
    if command == "create":
        pod_control.create()
    elif command == "setup":
        pod_control.setup(project, _WHEEL.value)
    elif command == "run":
        return pod_control.run(rest, project, _WHEEL.value)
    elif command == "status":
        tell(pod_control.status())
    elif command == "logs":
        pod_control.logs(_NUM_LINES.value, _FOLLOW.value)
    else:
        pod_control.delete()
    return supervisor.DONE_CODE


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise errors.UsageError(f"--env={text!r} must be KEY=VALUE")
    return key, value


if __name__ == "__main__":
    launching.run_passing_on(main)
