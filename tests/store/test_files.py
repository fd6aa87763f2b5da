from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap

import hypothesis
import memory_files
import pytest
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.store import files
from keras_munet.store import storage

REFUSED_NAMES = [
    "",
    "/",
    "/etc/passwd",
    "..",
    ".",
    "../x",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    "/a",
    "a\\b",
    "..\\x",
    "C:\\x",
    "c:x",
    "a\0b",
    "a\nb",
    "a b",
    "\u202ea",
    "\uff0e\uff0e/x",
    "caf\u00e9",
    "\ud800",
    "x" * 201,
    ".tmp-1",
    "a/.tmp-1",
    ".tmp-a/b",
]


@pytest.fixture(params=["local", "memory", "gcs"])
def place(request, tmp_path):
    if request.param == "local":
        return files.LocalStorage(tmp_path / "system")
    if request.param == "memory":
        return memory_files.MemoryFiles()
    request.getfixturevalue("bucket")
    return files.open_storage("gs://bucket/some/system")


class TestEveryPlace:
    """What every place that keeps files must do."""

    def test_a_written_file_is_read_back(self, place):
        place.write_atomic("a/b/c.json", b"123")
        assert place.read("a/b/c.json", 3) == b"123"
        assert place.num_bytes("a/b/c.json") == 3

    def test_a_second_write_replaces_the_first(self, place):
        place.write_atomic("a", b"first and long")
        place.write_atomic("a", b"second")
        assert place.read("a", 100) == b"second"

    def test_an_empty_file_is_a_file(self, place):
        place.write_atomic("a", b"")
        assert place.exists("a")
        assert place.read("a", 0) == b""

    def test_a_missing_file_is_named(self, place):
        for call in (
            lambda: place.read("a/b", 10),
            lambda: place.read_head("a/b", 10),
            lambda: place.num_bytes("a/b"),
            lambda: place.sync("a/b"),
        ):
            with pytest.raises(storage.MissingFileError, match="a/b") as info:
                call()
            assert "\n" not in str(info.value)

    def test_a_file_larger_than_the_bound_is_not_read(self, place):
        place.write_atomic("a", b"1234")
        with pytest.raises(errors.StoreError, match="4 bytes; at most 3"):
            place.read("a", 3)

    def test_the_head_is_the_beginning_or_all(self, place):
        place.write_atomic("a", b"1234")
        assert place.read_head("a", 2) == b"12"
        assert place.read_head("a", 9) == b"1234"

    def test_files_are_listed_sorted_by_their_full_names(self, place):
        for name in ["b", "a/c", "a/b/d", "a-b", "a.b/x", "objects/z"]:
            place.write_atomic(name, b"")
        everything = list(place.list())
        assert everything == sorted(everything)
        assert set(everything) == {
            "b",
            "a/c",
            "a/b/d",
            "a-b",
            "a.b/x",
            "objects/z",
        }
        assert list(place.list("a")) == ["a/b/d", "a/c"]
        assert list(place.list("nowhere")) == []

    def test_a_new_place_has_no_files(self, place):
        assert list(place.list()) == []
        assert list(place.temporaries()) == []
        assert not place.exists("a")

    def test_a_folder_is_no_file(self, place):
        place.write_atomic("a/b", b"")
        assert not place.exists("a")
        with pytest.raises(errors.StoreError):
            place.write_atomic("a", b"")
        assert place.exists("a/b")

    def test_a_file_is_no_folder(self, place):
        place.write_atomic("a", b"1")
        assert not place.exists("a/b")
        with pytest.raises(errors.StoreError):
            place.write_atomic("a/b", b"")
        assert place.read("a", 1) == b"1"

    def test_deleting_twice_is_no_error(self, place):
        place.write_atomic("a", b"")
        place.delete("a")
        place.delete("a")
        assert not place.exists("a")

    def test_sync_leaves_a_file_as_it_is(self, place):
        place.write_atomic("a/b", b"1")
        place.sync("a/b")
        assert place.read("a/b", 1) == b"1"

    @pytest.mark.parametrize("name", REFUSED_NAMES, ids=ascii)
    def test_a_name_that_could_leave_the_folder_is_refused(self, place, name):
        calls = [
            lambda: place.read(name, 10),
            lambda: place.read_head(name, 10),
            lambda: place.write_atomic(name, b"x"),
            lambda: place.exists(name),
            lambda: place.num_bytes(name),
            lambda: place.sync(name),
            lambda: place.lock(name, "me"),
        ]
        if name:
            calls.append(lambda: list(place.list(name)))
        if ".tmp-" not in name:
            calls.append(lambda: place.delete(name))
        for call in calls:
            with pytest.raises(errors.StoreError) as info:
                call()
            assert str(info.value).isprintable()
        assert list(place.list()) == []

    @pytest.mark.parametrize("before", [b"old", None])
    def test_a_fence_that_does_not_let_pass_keeps_everything(
        self, place, before
    ):
        if before is not None:
            place.write_atomic("a/b", before)

        def refuse():
            raise errors.StoreError("lost")

        fenced = place.fenced(refuse)
        with pytest.raises(errors.StoreError, match=r"^lost$"):
            fenced.write_atomic("a/b", b"late")
        if before is not None:
            with pytest.raises(errors.StoreError, match=r"^lost$"):
                fenced.delete("a/b")
            assert place.read("a/b", 10) == before
        else:
            assert not place.exists("a/b")
        assert list(place.temporaries()) == []

    @pytest.mark.parametrize("begins", ["write", "delete"])
    @pytest.mark.parametrize("newer", [True, False])
    def test_a_change_that_stood_still_behind_its_fence_comes_too_late(
        self, place, begins, newer
    ):
        place.write_atomic("a/b", b"old")

        def taken_over():
            place.revoke("a/b")
            if newer:
                place.write_atomic("a/b", b"newer")

        fenced = place.fenced(taken_over)
        if begins == "write":
            with pytest.raises(errors.StoreError, match="another process"):
                fenced.write_atomic("a/b", b"late")
        else:
            with contextlib.suppress(errors.StoreError):
                fenced.delete("a/b")
        assert place.read("a/b", 10) == (b"newer" if newer else b"old")
        assert list(place.temporaries()) == []

    def test_a_fence_that_lets_pass_changes_files_as_usual(self, place):
        passed = []
        fenced = place.fenced(lambda: passed.append(1))
        fenced.write_atomic("a/b", b"new")
        place.revoke("a/b")
        place.revoke("a/c")
        assert place.read("a/b", 10) == b"new"
        fenced.delete("a/b")
        fenced.delete("a/b")
        assert not place.exists("a/b")
        assert len(passed) >= 2

    def test_many_locks_are_looked_at_together(self, place):
        assert place.locks_in_use(["jobs/a", "jobs/b"]) == set()
        first = place.lock("jobs/a", "one")
        place.lock("jobs/b", "two").release()
        assert place.locks_in_use(["jobs/a", "jobs/b", "jobs/c"]) == {"jobs/a"}
        first.release()
        assert place.locks_in_use(["jobs/a"]) == set()

    def test_a_lock_has_one_holder_at_a_time(self, place):
        lock = place.lock("lock", "first")
        with pytest.raises(storage.LockHeldError) as info:
            place.lock("lock", "second")
        assert info.value.holder == "first"
        lock.release()
        lock.release()
        place.lock("lock", "third").release()

    @hypothesis.given(st.binary(max_size=300))
    @hypothesis.settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    )
    def test_any_bytes_come_back(self, place, data):
        place.write_atomic("a", data)
        assert place.read("a", 300) == data


@hypothesis.given(st.text(max_size=30))
@hypothesis.settings(deadline=None)
def test_a_name_is_accepted_or_refused_without_a_crash(name):
    try:
        storage.check_name(name)
    except errors.StoreError:
        return
    assert name.isascii() and ".." not in name.split("/")
    assert not os.path.isabs(name)


@pytest.fixture
def local(tmp_path):
    return files.LocalStorage(tmp_path / "system")


def _fail(monkeypatch, function, code):
    def failing(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, failing)


class TestLocalFolder:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (errno.ENOSPC, "no space is left"),
            (errno.EROFS, "read-only"),
            (errno.EACCES, "permission"),
            (errno.EPERM, "permission"),
            (errno.EDQUOT, "quota"),
            (errno.EIO, "disk reports an error"),
            (errno.EBUSY, "EBUSY"),
        ],
    )
    @pytest.mark.parametrize("function", ["open", "write", "fsync", "replace"])
    def test_a_refused_write_says_why_and_leaves_the_old_file(
        self, local, tmp_path, monkeypatch, function, code, reason
    ):
        local.write_atomic("tasks/a.json", b"old")
        with monkeypatch.context() as patch:
            _fail(patch, function, code)
            with pytest.raises(errors.StoreError, match=reason) as info:
                local.write_atomic("tasks/a.json", b"new")
        message = str(info.value)
        assert str(tmp_path / "system/tasks/a.json") in message
        assert "\n" not in message
        assert local.read("tasks/a.json", 9) == b"old"
        assert list(local.temporaries()) == []

    def test_a_write_that_the_disk_cuts_short_goes_on(self, local, monkeypatch):
        write = os.write
        monkeypatch.setattr(os, "write", lambda h, d: write(h, bytes(d[:3])))
        local.write_atomic("a", b"0123456789")
        assert local.read("a", 10) == b"0123456789"

    def test_a_read_that_comes_in_pieces_is_whole(self, local, monkeypatch):
        local.write_atomic("a", b"0123456789")
        read = os.read
        monkeypatch.setattr(os, "read", lambda h, n: read(h, min(n, 3)))
        assert local.read("a", 10) == b"0123456789"
        assert local.read_head("a", 7) == b"0123456"

    def test_a_disk_that_fills_up_half_way_leaves_the_old_file(
        self, local, monkeypatch
    ):
        local.write_atomic("a", b"old")
        write = os.write
        calls = []

        def filling_up(handle, data):
            calls.append(1)
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(handle, bytes(data[:2]))

        monkeypatch.setattr(os, "write", filling_up)
        with pytest.raises(errors.StoreError, match="no space"):
            local.write_atomic("a", b"new and longer")
        assert local.read("a", 3) == b"old"
        assert list(local.temporaries()) == []

    def test_an_unreadable_file_says_why(self, local, monkeypatch):
        local.write_atomic("a", b"")
        _fail(monkeypatch, "open", errno.EACCES)
        with pytest.raises(errors.StoreError, match="permission is denied"):
            local.read("a", 1)

    def test_a_file_in_place_of_the_root_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        place = files.LocalStorage(tmp_path / "file")
        assert not place.exists("a")
        for call in (
            lambda: place.read("a", 1),
            lambda: place.write_atomic("a", b""),
            lambda: list(place.list()),
        ):
            with pytest.raises(errors.StoreError, match="file where a folder"):
                call()

    def test_a_folder_name_with_a_line_break_keeps_messages_on_one_line(
        self, tmp_path
    ):
        place = files.LocalStorage(tmp_path / "a\nb")
        with pytest.raises(errors.StoreError) as info:
            place.read("x", 1)
        assert "\n" not in str(info.value)

    def test_links_are_not_followed(self, local, tmp_path):
        local.write_atomic("tasks/a", b"")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_text("secret")
        os.symlink(outside, tmp_path / "system" / "objects")
        os.symlink(outside / "secret", tmp_path / "system" / "tasks" / "b")
        with pytest.raises(errors.StoreError, match="symbolic link"):
            local.read("objects/secret", 100)
        with pytest.raises(errors.StoreError, match="symbolic link"):
            local.write_atomic("objects/new", b"")
        with pytest.raises(errors.StoreError, match="symbolic link"):
            local.read("tasks/b", 100)
        assert not local.exists("tasks/b")
        assert list(local.list("tasks")) == ["tasks/a", "tasks/b"]
        local.write_atomic("tasks/b", b"own")
        assert (outside / "secret").read_text() == "secret"
        assert os.listdir(outside) == ["secret"]

    def test_a_folder_inside_a_system_is_reached_without_links(self, tmp_path):
        (tmp_path / "system").mkdir()
        (tmp_path / "home" / "sub").mkdir(parents=True)
        (tmp_path / "system" / "system.json").touch()
        (tmp_path / "system" / "report").symlink_to(tmp_path / "home")
        for folder in ("report", "report/sub"):
            inside = files.open_storage(tmp_path / "system" / folder)
            for call in (
                lambda inside=inside: inside.write_atomic("page", b"x"),
                lambda inside=inside: inside.append("page", b"x"),
                lambda inside=inside: inside.read("page", 1),
                lambda inside=inside: list(inside.list()),
                lambda inside=inside: inside.lock("page", "me"),
            ):
                with pytest.raises(errors.StoreError, match="symbolic link"):
                    call()
        assert sorted(os.listdir(tmp_path / "home")) == ["sub"]
        # Reached by a link of its user's own, all is well.
        (tmp_path / "mine").symlink_to(tmp_path / "home")
        files.open_storage(tmp_path / "mine" / "sub").write_atomic("page", b"x")

    @pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
    def test_a_lock_is_a_regular_file(self, local, tmp_path, kind):
        place = tmp_path / "system" / "jobs" / "a"
        place.parent.mkdir(parents=True)
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to("/dev/zero")
        with pytest.raises(errors.StoreError):
            local.lock("jobs/a", "me")
        assert local.locks_in_use(["jobs/a"]) == set()

    def test_a_named_pipe_is_refused_at_once(self, local, tmp_path):
        local.write_atomic("a", b"")
        os.mkfifo(tmp_path / "system" / "pipe")
        with pytest.raises(errors.StoreError, match="no regular file"):
            local.read("pipe", 1)

    def test_unfinished_writes_are_seen_by_nobody_but_can_be_removed(
        self, local, tmp_path
    ):
        local.write_atomic("tasks/a", b"")
        (tmp_path / "system/tasks/.tmp-77").write_bytes(b"half")
        assert list(local.list()) == ["tasks/a"]
        assert list(local.temporaries()) == ["tasks/.tmp-77"]
        local.delete("tasks/.tmp-77")
        assert list(local.temporaries()) == []

    def test_files_are_readable_for_others_as_the_umask_says(
        self, local, tmp_path
    ):
        old = os.umask(0o022)
        try:
            local.write_atomic("a", b"")
        finally:
            os.umask(old)
        assert (tmp_path / "system/a").stat().st_mode & 0o777 == 0o644

    def test_data_and_folders_are_on_the_disk_in_the_right_order(
        self, local, tmp_path, monkeypatch
    ):
        events = []

        def recorded(function, describe):
            real = getattr(os, function)

            def wrapper(*args, **kwargs):
                result = real(*args, **kwargs)
                events.append((function, describe(*args)))
                return result

            monkeypatch.setattr(os, function, wrapper)

        def path_of(handle, *_):
            path = os.readlink(f"/proc/self/fd/{handle}")
            path = os.path.relpath(path, tmp_path)
            return path.split(".tmp-")[0]

        def relative(path, *_):
            return os.path.relpath(path, tmp_path).split(".tmp-")[0]

        recorded("write", path_of)
        recorded("fsync", path_of)
        recorded("mkdir", relative)
        recorded("replace", relative)
        local.write_atomic("objects/ab/x", b"1")
        assert events == [
            ("mkdir", "system"),
            ("fsync", "."),
            ("mkdir", "system/objects"),
            ("fsync", "system"),
            ("mkdir", "system/objects/ab"),
            ("fsync", "system/objects"),
            ("write", "system/objects/ab/"),
            ("fsync", "system/objects/ab/"),
            ("replace", "system/objects/ab/"),
            ("fsync", "system/objects/ab"),
        ]
        events.clear()
        local.write_atomic("objects/ab/x", b"2")
        assert [function for function, _ in events] == [
            "write",
            "fsync",
            "replace",
            "fsync",
        ]
        events.clear()
        # Another process may have made the folders and been killed.
        files.LocalStorage(tmp_path / "system").sync("objects/ab/x")
        assert [path for function, path in events if function == "fsync"] == [
            "system/objects/ab/x",
            ".",
            "system",
            "system/objects",
            "system/objects/ab",
        ]

    def test_a_killed_holder_frees_its_lock(self, local, tmp_path):
        program = textwrap.dedent(
            """
            import sys, time
            from keras_munet.store import files
            lock = files.LocalStorage(sys.argv[1]).lock("lock", "the other")
            print("held", flush=True)
            time.sleep(60)
            """
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "system")],
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(storage.LockHeldError) as info:
                local.lock("lock", "me")
            assert info.value.holder == "the other"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        local.lock("lock", "me").release()


def test_a_place_is_a_local_folder_or_files(tmp_path):
    memory = memory_files.MemoryFiles()
    assert files.open_storage(memory) is memory
    assert files.open_storage(tmp_path).where == str(tmp_path)
    assert files.open_storage(str(tmp_path)).where == str(tmp_path)


@pytest.mark.parametrize("place", ["", "s3://bucket/x", "a\0b"], ids=ascii)
def test_a_place_that_is_not_supported_is_a_usage_error(place):
    with pytest.raises(errors.UsageError, match="local folder"):
        files.open_storage(place)
