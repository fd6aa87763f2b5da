"""Looks after a system: checks it, clears it, moves it, joins it.

    python launch/system.py check --workdir=DIR [--jobs=N]
    python launch/system.py check --workdir=DIR --repair [--source=COPY]
    python launch/system.py log --workdir=DIR [--task=NAME] [--json]
    python launch/system.py collect --workdir=DIR [--dry_run] [--grace_secs=N]
    python launch/system.py remove --workdir=DIR --task=NAME
    python launch/system.py merge --workdir=DIR --source=OTHER [--task=NAME]
    python launch/system.py export-archive --workdir=DIR --archive=FILE
    python launch/system.py import-archive --workdir=NEW --archive=FILE

`docs/store.md` says what each does, with its output. None needs TensorFlow
but `remove`.
"""

from __future__ import annotations

import json

import launching
from absl import flags

from keras_munet import errors
from keras_munet.store import archives
from keras_munet.store import check
from keras_munet.store import files as files_lib
from keras_munet.store import merge
from keras_munet.store import repair
from keras_munet.store import system_dir

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_TASK = flags.DEFINE_string(
    "task", None, "The task to remove, or the only one to log or to merge."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Say what `collect` would remove, and leave it."
)
_GRACE_SECS = flags.DEFINE_float(
    "grace_secs",
    3600.0,
    "`collect` leaves what was written later than that.",
    lower_bound=0.0,
)
_JOBS = flags.DEFINE_integer(
    "jobs", 1, "Objects that `check` reads at a time.", lower_bound=1
)
_REPAIR = flags.DEFINE_bool("repair", False, "Let `check` repair what it can.")
_SOURCE = flags.DEFINE_string(
    "source", None, "The system to merge, or the copy to repair from."
)
_ARCHIVE = flags.DEFINE_string("archive", None, "The archive's file.")
_JSON = flags.DEFINE_bool("json", False, "`log` as one JSON object a line.")


def main(command: str) -> None:
    """Does what the command says."""
    _COMMANDS[command]()


def _check() -> None:
    # Not through `open`, which refuses a damaged system.
    files = files_lib.open_storage(_WORKDIR.value)
    if _REPAIR.value:
        copy = None
        if _SOURCE.value is not None:
            copy = system_dir.SystemDir.open(_SOURCE.value).files
        for line in repair.repair(files, copy):
            print(line)
    elif not system_dir.SystemDir.is_system(files):
        system_dir.SystemDir.open(files)
    num_problems = 0
    for problem in check.find_problems(files, _JOBS.value):
        num_problems += 1
        print(problem)
    if num_problems:
        raise errors.StoreError(
            f"{_WORKDIR.value} is damaged: {num_problems} problem"
            f"{'s' * (num_problems > 1)}, listed above; --repair fixes what "
            "it can"
        )
    num_tasks = len(system_dir.SystemDir.open(files).tasks())
    print(f"{_WORKDIR.value} is whole: {num_tasks} tasks")


def _log() -> None:
    from keras_munet.report import log

    for entry in log.entries(_WORKDIR.value, _TASK.value):
        if _JSON.value:
            print(json.dumps(entry, sort_keys=True))
            continue
        for line in log.lines(entry):
            print(line)


def _collect() -> None:
    opened = system_dir.SystemDir.open(_WORKDIR.value)
    garbage = opened.collect(
        dry_run=_DRY_RUN.value, grace_secs=_GRACE_SECS.value
    )
    verb = "would remove" if _DRY_RUN.value else "removed"
    print(
        f"{verb} {garbage.num_objects} objects ({garbage.num_bytes:,} bytes) "
        f"and {garbage.num_temporaries} unfinished writes"
    )
    if garbage.num_young:
        print(
            f"{garbage.num_young} more objects stay, as they were written less "
            f"than {_GRACE_SECS.value:g} s ago; --grace_secs=0 takes them too"
        )


def _remove() -> None:
    from keras_munet.system import system

    task = _needed(_TASK, "remove")
    opened = system.System.open(_WORKDIR.value)
    opened.remove(task)
    print(f"removed {task}; left: {', '.join(opened.tasks) or '-'}")


def _merge() -> None:
    source = system_dir.SystemDir.open(_needed(_SOURCE, "merge"))
    target = system_dir.SystemDir.open(_WORKDIR.value)
    report = merge.merge(target, source, _TASK.value)
    print(
        f"brought in {', '.join(report.tasks) or 'nothing'}: "
        f"{report.num_objects} new components, "
        f"{report.num_shared} that were there"
    )


def _export_archive() -> None:
    archive = _needed(_ARCHIVE, "export-archive")
    opened = system_dir.SystemDir.open(_WORKDIR.value)
    num_bytes = archives.export_archive(opened, archive)
    print(f"wrote {archive} ({num_bytes:,} bytes)")


def _import_archive() -> None:
    archive = _needed(_ARCHIVE, "import-archive")
    directory = archives.import_archive(archive, _WORKDIR.value)
    print(f"made {_WORKDIR.value}: {len(directory.tasks())} tasks")


def _needed(flag: flags.FlagHolder, command: str) -> str:
    if not flag.value:
        raise errors.UsageError(f"{command} needs --{flag.name}=...")
    return flag.value


_COMMANDS = {
    "check": _check,
    "log": _log,
    "collect": _collect,
    "remove": _remove,
    "merge": _merge,
    "export-archive": _export_archive,
    "import-archive": _import_archive,
}


if __name__ == "__main__":
    launching.run_command(main, tuple(_COMMANDS))
