"""launch/predict.py as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess

import export_samples
import numpy as np
import pytest
from forked import launch
from PIL import Image


def _launch(*flags: str, cwd=None) -> subprocess.CompletedProcess:
    return launch("predict", *flags, cwd=cwd)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A system of one task, its export, and three files, one damaged."""
    base = tmp_path_factory.mktemp("predict")
    system = export_samples.system(base / "one", {"a": 4}, num_layers=0)
    system.export(base / "served", versioned=True)
    rng = np.random.default_rng(0)
    (base / "photos").mkdir()
    for name in ("1.png", "3 ä.png"):
        pixels = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(base / "photos" / name)
    (base / "photos" / "2,x.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    return base


def test_a_table_has_a_row_per_file(base):
    done = _launch("photos", "--workdir=one", "--top=2", cwd=base)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    path, label, score, other = re.split("  +", first)
    assert path == "photos/1.png"
    assert label.startswith("class ")
    assert 0.25 <= float(score) <= 1
    assert other.startswith("class ")
    assert "," not in other
    assert second.split()[:3] == ["photos/2,x.png", "-", "-"]
    assert third.startswith("photos/3 ä.png")


def test_system_and_export_write_the_same_rows(base, tmp_path):
    for name, source in (
        ("rows.csv", "--workdir=one"),
        ("rows.jsonl", "--model=served"),
    ):
        out = tmp_path / name
        done = _launch("photos", source, f"--out={out}", cwd=base)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            f"{out}: 3 pictures, 1 of them could not be read\n"
        )
    text = out.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert rows[1]["path"] == "photos/2,x.png"
    assert rows[1]["label"] == "" and lines[1]["label"] is None
    assert rows[1]["reason"] == lines[1]["reason"] != ""
    for row, line in zip(rows[::2], lines[::2], strict=True):
        assert row["label"] == line["label"]
        assert float(row["score"]) == line["score"]
        assert [row["label"], row["label_2"], row["label_3"]] == list(
            line["scores"]
        )
        assert row["reason"] == ""


@pytest.mark.slow
def test_exit_code_1_where_no_file_could_be_read(base):
    done = _launch("photos/2*", "absent.jpg", "--workdir=one", cwd=base)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: none of 2 files could be read")


@pytest.mark.slow
def test_a_file_name_of_other_bytes_is_written(base, tmp_path):
    name = os.fsdecode(b"\xff\n.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    try:
        os.rename(tmp_path / "x.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    out = tmp_path / "rows.csv"
    folder = str(tmp_path)
    done = _launch(folder, f"--workdir={base}/one", f"--out={out}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff\n.png" in out.read_text(encoding="utf-8")
    done = _launch(folder, f"--workdir={base}/one")
    # The table and the CSV file, which is no image.
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--workdir=one"], "no picture is given"),
        (["photos"], "either --workdir"),
        (["photos", "--workdir=one", "--model=served"], "either --workdir"),
        (["photos", "--workdir=one", "--out=x.txt"], "FILE.csv"),
        (["photos", "--workdir=one", "--top=0"], "top"),
        (["photos", "--workdir=one", "--task=b"], "it has: a"),
        (["photos", "--model=served", "--task=b"], "it has: a"),
        (["photos", "--workdir=photos"], "no system"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(base, flags, named):
    done = _launch(*flags, cwd=base)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert named in line


@pytest.mark.slow
def test_several_tasks_need_a_name(base):
    export_samples.system(base / "two", {"a": 2, "b": 3}, num_layers=0)
    done = _launch("photos", "--workdir=two", cwd=base)
    assert done.returncode == 2
    assert "name one of: a, b" in done.stderr
    done = _launch("photos/1.png", "--workdir=two", "--task=b", cwd=base)
    assert done.returncode == 0
