"""Folders of prepared data, and what a killed process leaves in them."""

from __future__ import annotations

import os
import subprocess
import sys

from etils import epath

from keras_munet.data import folders


def test_folders_are_named_with_commas_and_have_a_default(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert folders.folders("gs://bucket/a, ~/b,") == [
        "gs://bucket/a",
        "/home/me/b",
    ]
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert folders.folders("") == ["/home/me/tensorflow_datasets"]
    monkeypatch.setenv("TFDS_DATA_DIR", "/data")
    assert folders.folders(" ") == ["/data"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    folder = epath.Path(tmp_path)
    mine = folders.unfinished(folder)
    mine.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = folder / mine.name.replace(f"_{os.getpid()}_", f"_{dead.pid}_")
    left.mkdir()
    os.utime(left, (0, 0))
    young = folder / f"{left.name}_young"
    young.mkdir()
    other_host = folder / f".preparing_elsewhere_{dead.pid}_x"
    other_host.mkdir()
    (folder / "mnist").mkdir()
    assert folders.unfinished(folder) != mine
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [mine.name, young.name, other_host.name, "mnist"]
    )
