"""The launcher of tasks, as a user runs it."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys

import pytest
from forked import launch
from PIL import Image

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def _run(*arguments):
    done = launch("tasks", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_list_names_every_task_first_and_one_a_line(tmp_path):
    code, out, err = _run("list", f"--data_dir={tmp_path}")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    named = [line[0] for line in lines]
    assert len(named) == len(set(named)) > 69
    published = {"ViT", "VTAB-full", "VTAB-1k", "VDD", "characters"}
    assert sum(line[1] in published for line in lines) == 69
    assert {"digits", "mnist", "smallnorb/label_azimuth/1k", "beans"} <= set(
        named
    )


def test_show_tells_splits_classes_and_what_is_needed_by_hand(tmp_path):
    code, out, _ = _run(
        *("show", "resisc45/1k", "imagenet2012", "--image_size=384"),
        f"--data_dir={tmp_path}",
    )
    assert code == 0
    for words in (
        "resisc45:3.0.0 of TFDS, not prepared",
        "train[18900:19100], 200 examples",
        "classes:    45",
        "256 x 256 x 3, as is",
        "NWPU-RESISC45",
        "384 x 384 x 3, squares of the whole image",
        "in files:   552.5 GiB, not prepared",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no command"),
        (("prepear", "mnist"), "'prepear' is given; give one of list"),
        (("prepare",), "needs the name of a task"),
        (("list", "mnist"), "list takes no names"),
        (("prepare", "digits", "mnst"), "did you mean mnist"),
        (("prepare", "digits", "--name=own/x"), "names one folder"),
        (("prepare", "digits", "--side=9"), "--side=9 is for folder"),
        (("prepare", "folder:nowhere"), "there is no folder nowhere"),
        (("prepare", str(_ROOT / "launch")), f"give folder:{_ROOT}/launch"),
        (("prepare", str(_ROOT / "setup.py"), "--name=own/x"), "give table:"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(arguments, words):
    code, out, err = _run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_prepare_goes_on_after_a_task_it_cannot_have(shared_dir, tmp_path):
    arguments = (
        "prepare",
        "mnist",
        "cmaterdb/telugu",
        "digits",
        f"--data_dir={tmp_path / 'data'}",
        f"--manual_dir={tmp_path / 'manual'}",
    )
    source = shared_dir / "data" / "tfds_manual" / "cmaterdb" / "telugu"
    manual = tmp_path / "manual" / "cmaterdb" / "telugu"
    manual.mkdir(parents=True)
    for file in source.iterdir():
        (manual / file.name).write_bytes(file.read_bytes())
    code, out, err = _run(*arguments)
    assert code == 1
    assert "cmaterdb/telugu: prepared cmaterdb/telugu" in out
    assert "digits: comes with the install" in out
    assert "1 of 3 tasks are not prepared: mnist" in err
    code, out, _ = _run(*arguments)
    assert code == 1
    assert "cmaterdb/telugu: is prepared" in out


def test_own_images_are_prepared_once_and_what_is_skipped_is_printed(tmp_path):
    for color, name in (((250, 0, 0), "red"), ((0, 250, 0), "green")):
        folder = tmp_path / "paints" / name
        folder.mkdir(parents=True)
        for i in range(10):
            buffer = io.BytesIO()
            Image.new("RGB", (40 + i, 40), color).save(buffer, "JPEG")
            (folder / f"{i}.jpg").write_bytes(buffer.getvalue())
    (tmp_path / "paints" / "red" / "bad.jpg").write_bytes(b"")
    arguments = (
        "prepare",
        f"folder:{tmp_path / 'paints'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    code, out, err = _run(*arguments)
    assert (code, err) == (0, "")
    assert "skipped red/bad.jpg: empty: 0 bytes" in out
    assert (
        "own/paints: 2 classes, 16 train, 2 validation, 2 test, stored as "
        "32 x 32 x 3" in out
    )
    code, out, _ = _run(*arguments)
    assert out.startswith("own/paints: is prepared")
    assert "unchanged" in out
    for more in ((), arguments[1:2]):
        name = ("prepare", *(more or ["own/paints"]), arguments[-1])
        code, out, err = _run(*name, "--image_size=64")
        assert (code, out) == (1, "")
        assert "--image_size" in err
        assert "--replace" in err
        assert err.count("\n") == 1
    code, out, _ = _run("show", "own/paints", arguments[-1])
    assert "classes:    2: green, red" in out
    _, out, _ = _run("list", arguments[-1])
    assert "own/paints" in out


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_failure(closed):
    command = f"{sys.executable} launch/tasks.py list {closed}"
    root = pathlib.Path(__file__).resolve().parents[2]
    code = subprocess.run(
        ["bash", "-c", command], cwd=root, check=False, capture_output=True
    )
    assert code.returncode == 0 and b"Traceback" not in code.stderr
