"""Files, paths and JSON of others, and temporaries, as `core` opens them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import system_paths
from keras_munet.core import unfinished


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("odd", ["pipe", "folder", "device", "link to device"])
def test_only_regular_files_are_read(tmp_path, odd, follow):
    path = tmp_path / "x"
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "folder":
        path.mkdir()
    elif odd == "device":
        path = "/dev/zero"
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises((errors.StoreError, OSError)):
        guarded_file.read_file(path, 100, follow=follow)


def test_a_large_file_is_refused_before_memory_is_taken(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(errors.StoreError, match="4398046511104 bytes"):
        guarded_file.read_file(tmp_path / "x", 1 << 20)


def test_a_link_is_followed_only_where_its_user_named_it(tmp_path):
    (tmp_path / "x").write_bytes(b"here")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert guarded_file.read_file(tmp_path / "link", 9, follow=True) == b"here"
    with pytest.raises(OSError):
        guarded_file.read_file(tmp_path / "link", 9)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000_000,
        "[" * 200 + "]" * 200,
        '{"a":' * 150 + "1" + "}" * 150,
        "[NaN]",
        "[-Infinity]",
        b"\xff",
        "1" * 100_000,
    ],
    ids=lambda text: f"{text[:6]!a}-{len(text)}",
)
def test_json_of_others_is_strict_and_flat(text):
    with pytest.raises(ValueError):
        guarded_json.loads(text)


def test_json_comes_as_it_is():
    value = {"a": [1, 2.5, None, {"b": "c"}]}
    assert guarded_json.loads(json.dumps(value)) == value
    assert guarded_json.loads(b'"\xc3\xa9"') == "\u00e9"
    assert guarded_json.nesting_depth(value) == 4


@pytest.mark.parametrize("name", ["report", "report/page", "a/b/c"])
@pytest.mark.parametrize("marker", ["system.json", "comparison.json"])
def test_no_link_leads_out_of_a_system(tmp_path, name, marker):
    system, outside = tmp_path / "system", tmp_path / "outside"
    system.mkdir()
    outside.mkdir()
    (system / marker).touch()
    system_paths.refuse_links(system / name)
    (system / name.partition("/")[0]).symlink_to(outside)
    with pytest.raises(errors.StoreError, match="symbolic link"):
        system_paths.refuse_links(system / name)


def test_links_that_are_not_in_a_system_are_their_users_own(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    (tmp_path / "home" / "system.json").touch()
    system_paths.refuse_links(tmp_path / "home" / "report")
    system_paths.refuse_links(tmp_path / "home")


def test_no_two_writers_have_one_name():
    assert len({unfinished.new_writer_id() for _ in range(100)}) == 100
    assert str(os.getpid()) in unfinished.new_writer_id().split("-")


def test_only_the_dead_and_the_old_are_abandoned():
    own = unfinished.new_writer_id()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = own.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    elsewhere = "x" + left
    old = unfinished.YOUNG_SECS + 1
    for name, age_secs, abandoned in (
        (own, 0.0, False),
        (own, old, False),
        (left, 0.0, True),
        (f".tmp-12345678-{left}", 0.0, True),
        (f".1.{left}.part", 0.0, True),
        (elsewhere, 0.0, False),
        (elsewhere, old, True),
        (".tmp-1", -5.0, False),
        (".tmp-1", old, True),
        (f"{left}-conflict", 0.0, False),
    ):
        assert unfinished.is_abandoned(name, age_secs) == abandoned, name
