"""A folder whose name could be a pattern is that folder, or is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keras_munet import errors
from keras_munet.core import plain_paths

NAMES = ["exp[1-3]", "a*", "b?", "c]", "d\\e", "[/x", "x/[y]/z"]


@pytest.mark.parametrize("name", NAMES)
def test_such_a_folder_is_reached_by_a_plain_path(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    plain = plain_paths.without_patterns(str(folder))
    assert not set(plain) & set("[]*?\\")
    assert os.path.samefile(plain, folder)
    assert plain_paths.without_patterns(str(folder)) == plain


@pytest.mark.parametrize("name", ["plain", "a b", "{a,b}", "ä", "~", "$X"])
def test_other_folders_keep_their_paths(name, tmp_path):
    plain_paths.refuse_pattern(tmp_path / name, "--out")
    path = str(tmp_path / name)
    assert plain_paths.without_patterns(path) == path
    assert plain_paths.without_patterns(name) == name


@pytest.mark.parametrize("name", NAMES)
def test_what_must_not_be_a_pattern_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(errors.UsageError, match="takes for a pattern") as e:
        plain_paths.refuse_pattern(tmp_path / name, "--out")
    assert "--out" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_relative_path_is_looked_at_as_a_whole(tmp_path, monkeypatch):
    (tmp_path / "a[1]").mkdir()
    monkeypatch.chdir(tmp_path / "a[1]")
    with pytest.raises(errors.UsageError):
        plain_paths.refuse_pattern("out", "--out")


def test_a_remote_folder_has_no_other_path():
    path = plain_paths.without_patterns("gs://bucket/a")
    assert path == "gs://bucket/a"
    with pytest.raises(errors.UsageError, match="gs://bucket/"):
        plain_paths.without_patterns("gs://bucket/a[1]")


def test_nothing_is_left_when_the_process_ends(tmp_path):
    code = (
        "import sys\n"
        "from keras_munet.core import plain_paths\n"
        "print(plain_paths.without_patterns(sys.argv[1]))\n"
    )
    (tmp_path / "a[1]").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a[1]")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not os.path.lexists(os.path.dirname(done.stdout.strip()))
    assert (tmp_path / "a[1]").is_dir()
