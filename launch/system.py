"""Looks after a system: checks it, clears it, takes a task out.

    python launch/system.py check --workdir=DIR
    python launch/system.py collect --workdir=DIR [--dry_run]
    python launch/system.py remove --workdir=DIR --task=NAME

`check` verifies every hash, reference and rule and exits with 1 if the system
is damaged. `collect` removes what nothing references. `remove` takes a task
out; the others keep what they share with it.
"""

from __future__ import annotations

import launching
from absl import flags

from keras_munet import errors

_COMMANDS = ("check", "collect", "remove")

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_TASK = flags.DEFINE_string("task", None, "The task to remove.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Say what `collect` would remove, and leave it."
)


def main(command: str) -> None:
    """Does what the command says."""
    from keras_munet import system

    opened = system.System.open(_WORKDIR.value)
    if command == "check":
        problems = opened.check()
        for problem in problems:
            print(problem)
        if problems:
            raise errors.StoreError(
                f"{_WORKDIR.value} has {len(problems)} problems; they are "
                "listed above"
            )
        print(f"{_WORKDIR.value} is whole: {len(opened.tasks)} tasks")
    elif command == "collect":
        found = opened.collect(dry_run=_DRY_RUN.value)
        verb = "would remove" if _DRY_RUN.value else "removed"
        print(
            f"{verb} {found.num_objects} objects ({found.num_bytes:,} bytes) "
            f"and {found.num_temporaries} unfinished writes"
        )
    else:
        if not _TASK.value:
            raise errors.UsageError("remove needs --task=NAME")
        opened.remove(_TASK.value)
        print(f"removed {_TASK.value}; left: {', '.join(opened.tasks) or '-'}")


if __name__ == "__main__":
    launching.run_command(main, _COMMANDS)
