"""`launch/system.py` as a user meets it."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
import report_samples
import store_samples

from keras_munet.store import codec
from keras_munet.store import system_dir

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def _launch(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(_ROOT / "launch" / "system.py"), *words],
        capture_output=True,
        text=True,
        check=False,
    )


def _done(*words: str) -> list[str]:
    done = _launch(*words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _refused(code: int, part: str, *words: str) -> list[str]:
    done = _launch(*words)
    assert done.returncode == code, done.stderr[-2000:]
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and part in line
    return done.stdout.splitlines()


@pytest.fixture
def workdir(tmp_path):
    report_samples.build(tmp_path / "system")
    return tmp_path / "system"


def test_damage_is_listed_and_mended_from_a_copy(workdir, tmp_path):
    assert _done("check", f"--workdir={workdir}") == [
        f"{workdir} is whole: 3 tasks"
    ]
    shutil.copytree(workdir, tmp_path / "copy")
    opened = system_dir.SystemDir.open(workdir)
    head = opened.tasks()["birds"].published.component("head")
    name = codec.file_name(head.id)
    (workdir / name).write_bytes(b"x")
    (workdir / "system.json").write_bytes(b"{}")
    # A damaged system can still be asked what is damaged.
    listed = _refused(1, "2 problems", "check", f"--workdir={workdir}")
    assert len(listed) == 2
    assert listed[0].startswith("system.json is damaged")
    assert listed[1].startswith(f"{name} is damaged")
    flags = ("check", f"--workdir={workdir}", "--repair")
    _refused(2, "no system", *flags, f"--source={tmp_path}/nothing")
    assert _done(*flags, f"--source={tmp_path}/copy") == [
        f"system.json was taken from {tmp_path}/copy",
        f"{name} was taken from {tmp_path}/copy",
        f"{workdir} is whole: 3 tasks",
    ]


def test_the_log_is_told_to_people_and_to_programs(workdir):
    lines = _done("log", f"--workdir={workdir}", "--task=dogs")
    assert lines[0].startswith("root ")
    assert lines[1].startswith("dogs (private): path ")
    entries = [
        json.loads(line)
        for line in _done("log", f"--workdir={workdir}", "--json")
    ]
    kinds = [e["task"] for e in entries if e["entry"] == "task"]
    assert kinds == ["birds", "cats/wild", "dogs"]


def test_rubbish_is_collected_after_its_grace_period(workdir):
    opened = system_dir.SystemDir.open(workdir)
    ref = opened.objects.put(store_samples.component("rubbish"))
    size = opened.objects.num_bytes(ref.id)
    flags = ("collect", f"--workdir={workdir}")
    lines = _done(*flags)
    assert lines[0] == "removed 0 objects (0 bytes) and 0 unfinished writes"
    assert lines[1].startswith("1 more objects stay")
    taken = f"1 objects ({size:,} bytes) and 0 unfinished writes"
    flags = (*flags, "--grace_secs=0")
    assert _done(*flags, "--dry_run") == [f"would remove {taken}"]
    assert opened.objects.has(ref.id)
    assert _done(*flags) == [f"removed {taken}"]
    assert not opened.objects.has(ref.id)


def test_an_archive_moves_a_system_and_a_merge_joins_it(workdir, tmp_path):
    archive = f"--archive={tmp_path}/system.tar"
    other = tmp_path / "other"
    (line,) = _done("export-archive", f"--workdir={workdir}", archive)
    assert line.startswith(f"wrote {tmp_path}/system.tar (")
    _refused(2, "exists", "export-archive", f"--workdir={workdir}", archive)
    assert _done("import-archive", f"--workdir={other}", archive) == [
        f"made {other}: 3 tasks"
    ]
    _refused(2, "already", "import-archive", f"--workdir={other}", archive)
    empty = tmp_path / "empty"
    report_samples.create(empty)
    flags = ("merge", f"--workdir={empty}", f"--source={other}")
    assert _done(*flags, "--task=dogs") == [
        "brought in dogs: 3 new components, 1 that were there"
    ]
    assert _done(*flags) == [
        "brought in birds, cats/wild: 3 new components, 4 that were there"
    ]
    assert _done("check", f"--workdir={empty}") == [
        f"{empty} is whole: 3 tasks"
    ]


def test_an_archive_that_was_cut_off_makes_nothing(workdir, tmp_path):
    archive = tmp_path / "system.tar"
    _done("export-archive", f"--workdir={workdir}", f"--archive={archive}")
    archive.write_bytes(archive.read_bytes()[:-600])
    new = tmp_path / "new"
    flags = ("import-archive", f"--workdir={new}", f"--archive={archive}")
    _refused(1, "cannot be imported", *flags)
    assert not new.exists()


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("remove", "--task"),
        ("merge", "--source"),
        ("export-archive", "--archive"),
        ("import-archive", "--archive"),
    ],
)
def test_a_flag_that_a_command_needs_is_named(command, flag, workdir):
    _refused(2, f"needs {flag}=", command, f"--workdir={workdir}")


def test_an_unknown_command_is_refused_with_those_there_are(workdir):
    _refused(2, "import-archive", "destroy", f"--workdir={workdir}")


@pytest.mark.parametrize("command", ["check", "log", "collect", "merge"])
def test_a_folder_without_a_system_is_refused(command, tmp_path):
    flags = (f"--workdir={tmp_path}/no", f"--source={tmp_path}/no")
    _refused(2, "no system", command, *flags)
    assert not (tmp_path / "no").exists()
