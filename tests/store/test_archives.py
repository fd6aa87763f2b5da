from __future__ import annotations

import io
import os
import tarfile

import memory_files
import pytest
import store_crashes
import store_samples

from keras_munet import errors
from keras_munet.store import archive_format
from keras_munet.store import archives
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import system_dir

# The longest name that a task may have.
LONG_TASK = "a/" + "b" * 118


@pytest.fixture
def system(tmp_path):
    """Two tasks, one removed, a running iteration, rubbish and metrics."""
    made = store_samples.create(tmp_path / "system")
    made.publish(store_samples.state(made))
    made.publish(store_samples.state(made, task=LONG_TASK, value=5.0))
    made.publish(store_samples.state(made, task="gone", value=6.0))
    made.remove("gone")
    made.save_progress("kmnist", {"generation": 1})
    made.objects.put(store_samples.component("rubbish"))
    made.files.write_atomic("metrics.jsonl", b'{"event":"x"}\n')
    return made


@pytest.fixture
def archive(system, tmp_path):
    path = tmp_path / "system.tar"
    archives.export_archive(system, path)
    return path


def _files_below(folder):
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()
    )


def test_a_system_comes_back_from_its_archive(system, archive, tmp_path):
    made = archives.import_archive(archive, tmp_path / "other" / "place")
    assert made.check() == []
    assert made.experiment == system.experiment
    assert made.root == system.root
    assert made.tasks() == system.tasks()
    assert made.removed() == system.removed()
    for state in made.tasks().values():
        for ref in state.published.components:
            assert store_samples.same(
                made.objects.get(ref), system.objects.get(ref)
            )
    assert made.files.read("metrics.jsonl", 99) == b'{"event":"x"}\n'


def test_an_archive_holds_what_is_published_and_nothing_else(system, archive):
    used = {c.id for c in system.root.components}
    for state in system.tasks().values():
        used |= {c.id for c in state.published.components}
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        names = [m.name for m in members]
    assert all(m.isreg() for m in members)
    assert names == sorted(names)
    assert names == sorted(
        [
            "archive.json",
            "metrics.jsonl",
            "system.json",
            "tasks/gone.json",
            "tasks/mnist.json",
            f"tasks/{LONG_TASK.replace('/', '~')}.json",
            *map(codec.file_name, used),
        ]
    )


def test_equal_systems_give_equal_archives(archive, tmp_path):
    made = archives.import_archive(archive, tmp_path / "b")
    again = tmp_path / "again.tar"
    num_bytes = archives.export_archive(made, again)
    assert again.read_bytes() == archive.read_bytes()
    assert num_bytes == again.stat().st_size


def test_an_archive_can_be_imported_into_memory(system, archive):
    made = archives.import_archive(archive, memory_files.MemoryFiles())
    assert made.tasks() == system.tasks()


def test_a_system_grows_on_after_an_import(archive, tmp_path):
    made = archives.import_archive(archive, tmp_path / "b")
    made.publish(store_samples.state(made, task="new", value=50.0))
    assert made.check() == []


def test_an_export_replaces_no_file(system, tmp_path):
    path = tmp_path / "mine"
    path.write_text("keep")
    with pytest.raises(errors.UsageError, match="exists already"):
        archives.export_archive(system, path)
    assert path.read_text() == "keep"


def test_an_export_that_fails_leaves_no_file(system, tmp_path):
    head = system.tasks()["mnist"].published.component("head")
    name = codec.file_name(head.id)
    data = system.files.read(name, 10**6)
    system.files.write_atomic(name, data[:-1] + b"\1")
    before = _files_below(tmp_path)
    with pytest.raises(errors.StoreError, match=head.id):
        archives.export_archive(system, tmp_path / "x.tar")
    assert _files_below(tmp_path) == before


def test_an_export_into_a_missing_folder_is_refused(system, tmp_path):
    with pytest.raises(errors.StoreError, match="cannot be written"):
        archives.export_archive(system, tmp_path / "nowhere" / "x.tar")


def test_an_import_takes_only_a_free_place(archive, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("keep")
    with pytest.raises(errors.UsageError, match="not empty"):
        archives.import_archive(archive, tmp_path / "mine")
    with pytest.raises(errors.UsageError, match="already holds a system"):
        archives.import_archive(archive, tmp_path / "system")
    assert _files_below(tmp_path / "mine") == ["letter"]


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(errors.UsageError, match="is no file"):
        archives.import_archive(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _refuses(path, tmp_path, match="."):
    """Asserts that nothing at all comes of importing a file."""
    outside = _files_below(tmp_path)
    with pytest.raises(errors.StoreError, match=match) as info:
        archives.import_archive(path, tmp_path / "new" / "place")
    assert str(info.value).isprintable()
    assert _files_below(tmp_path) == outside
    assert not (tmp_path / "new").exists()


def test_every_single_byte_that_changes_is_found(archive, tmp_path):
    data = archive.read_bytes()
    damaged = tmp_path / "damaged.tar"
    # Every 7th, with another bit each time: 7 divides no block's length.
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        damaged.write_bytes(bytes(changed))
        with pytest.raises(errors.StoreError):
            archives.import_archive(damaged, memory_files.MemoryFiles())


def test_an_archive_that_was_cut_off_is_refused(archive, tmp_path):
    data = archive.read_bytes()
    part = tmp_path / "part.tar"
    for num_bytes in [0, 1, *range(512, len(data), 512), len(data) - 1]:
        part.write_bytes(data[:num_bytes])
        _refuses(part, tmp_path)
    part.write_bytes(data + b"x")
    _refuses(part, tmp_path, "after its end")


def _members(archive):
    with archive.open("rb") as file:
        return dict(archive_format.read_members(file, "x"))


def _written(tmp_path, members):
    """Writes an archive as `export_archive` would."""
    path = tmp_path / "made.tar"
    with path.open("wb") as file:
        for name, data in members.items():
            archive_format.write_member(file, name, data)
        file.write(archive_format.END)
    return path


def test_the_helper_of_these_tests_writes_what_is_accepted(archive, tmp_path):
    path = _written(tmp_path, _members(archive))
    assert path.read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "tasks/../../evil.json",
        "tasks/..~evil.json",
        "tasks/.json",
        "tasks/x.json/y",
        "tasks//x.json",
        "tasks\\x.json",
        "tasks/C:x.json",
        "tasks/con.json",
        "tasks/NUL.txt.json",
        "tasks/com1~x.json",
        "tasks/NOT_TRAINABLE.json",
        "tasks/x..json",
        "tasks/private:x.json",
        "tasks/" + "x" * 121 + ".json",
        "tasks/x.json.",
        "tasks/x.json ",
        "tasks/x\n.json",
        "./system.json",
        "SYSTEM.JSON",
        "objects/x",
        f"objects/00/{'1' * 64}.safetensors",
        f"objects/11/{'1' * 64}.safetensors.exe",
        f"objects/AA/{'A' * 64}.safetensors",
        "progress/mnist.json",
        "leases/mnist.json",
        "jobs/0",
        "locks/objects",
        ".tmp-1",
        "run.py",
        "",
    ],
)
def test_a_name_that_no_system_has_is_refused(name, archive, tmp_path):
    members = {**_members(archive), name: b"{}"}
    path = _written(tmp_path, dict(sorted(members.items())))
    _refuses(path, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["tasks/mn\u0131st.json", "tasks/\u202ex.json", "tasks/\uff0e\uff0e.json"],
    ids=["dotless", "right to left", "wide dots"],
)
def test_a_name_with_tricks_of_unicode_is_refused(name, tmp_path):
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    _refuses(path, tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGLINK,
    ],
)
def test_links_devices_and_extensions_are_refused(kind, tmp_path):
    info = tarfile.TarInfo("metrics.jsonl")
    info.type, info.linkname, info.mode = kind, "/etc/passwd", 0o644
    path = tmp_path / "made.tar"
    path.write_bytes(
        info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict") + archive_format.END
    )
    _refuses(path, tmp_path)


@pytest.mark.parametrize(
    "form", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]
)
def test_an_archive_of_another_program_is_refused(form, system, tmp_path):
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w", format=form) as tar:
        tar.add(tmp_path / "system" / "system.json", "system.json")
    _refuses(path, tmp_path)


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_a_compressed_archive_is_refused_unread(form, archive, tmp_path):
    path = tmp_path / "made"
    with tarfile.open(path, f"w:{form}") as tar:
        tar.add(archive, "metrics.jsonl")
    _refuses(path, tmp_path, "no tar file")


def _claiming(num_bytes):
    info = tarfile.TarInfo("system.json")
    info.size, info.mode = num_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


@pytest.mark.parametrize("num_bytes", [1 << 62, 1 << 33, 10_000, -1, -512])
def test_a_size_is_bounded_before_it_is_believed(num_bytes, tmp_path):
    path = tmp_path / "made.tar"
    path.write_bytes(_claiming(num_bytes) + bytes(1024))
    _refuses(path, tmp_path, "cannot have")


def test_a_record_may_not_be_as_large_as_the_archive(tmp_path):
    num_bytes = checksummed_json.NUM_BYTES_MAX + 1
    path = tmp_path / "made.tar"
    with path.open("wb") as file:
        file.write(_claiming(num_bytes))
        # No bytes on the disk.
        file.truncate(num_bytes + 4096)
    _refuses(path, tmp_path, "cannot have")


def test_a_file_that_comes_twice_or_out_of_order_is_refused(archive, tmp_path):
    members = list(_members(archive).items())
    path = tmp_path / "made.tar"
    for order in ([*members, members[-1]], members[::-1]):
        with path.open("wb") as file:
            for name, data in order:
                archive_format.write_member(file, name, data)
            file.write(archive_format.END)
        _refuses(path, tmp_path, "does not come after")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("system.json"),
        lambda m: m.pop("archive.json"),
        lambda m: m.pop(next(n for n in m if n.startswith("objects/"))),
        lambda m: m.update({"system.json": b"{}"}),
        lambda m: m.update({"tasks/mnist.json": m["tasks/gone.json"]}),
        lambda m: m.update({"tasks/MNIST.json": m["tasks/mnist.json"]}),
        lambda m: m.update(
            {"archive.json": checksummed_json.seal({"format_version": 2}, "x")}
        ),
        lambda m: m.update(
            {
                "archive.json": checksummed_json.seal(
                    {"format_version": 1, "a": 1}, "x"
                )
            }
        ),
    ],
    ids=range(8),
)
def test_an_archive_of_no_whole_system_is_refused(change, archive, tmp_path):
    members = _members(archive)
    change(members)
    path = _written(tmp_path, dict(sorted(members.items())))
    _refuses(path, tmp_path)


def test_an_object_that_nothing_uses_is_refused(archive, tmp_path):
    data = codec.encode(store_samples.component("rubbish"))
    members = _members(archive)
    members[codec.file_name(codec.object_id(data))] = data
    path = _written(tmp_path, dict(sorted(members.items())))
    _refuses(path, tmp_path, "nothing in it uses")


def test_tasks_that_differ_in_capitals_only_are_refused(tmp_path):
    files = memory_files.MemoryFiles()
    system = store_samples.create(files)
    system.publish(store_samples.state(system, task="a"))
    twin = store_samples.state(system, task="A")
    name = "tasks/A.json"
    files.write_atomic(name, checksummed_json.seal(twin.to_json(), name))
    assert "capitals" in system.check()[0]
    archives.export_archive(system, tmp_path / "x.tar")
    _refuses(tmp_path / "x.tar", tmp_path, "capitals")


class _FullDisk(memory_files.MemoryFiles):
    """Takes some writes and refuses the rest."""

    def __init__(self, num_writes):
        super().__init__()
        self._left = num_writes

    def write_atomic(self, name, data):
        self._left -= 1
        if self._left < 0:
            raise errors.StoreError(f"{name} cannot be written: no space left")
        super().write_atomic(name, data)


def test_a_disk_that_fills_up_leaves_nothing_half_written(archive):
    num_files = len(_members(archive)) - 1
    for num_writes in range(num_files):
        files = _FullDisk(num_writes)
        with pytest.raises(errors.StoreError, match="no space"):
            archives.import_archive(archive, files)
        assert [n for n in files.list() if n != "lock"] == []
        assert not system_dir.SystemDir.is_system(files)
    assert archives.import_archive(archive, _FullDisk(num_files)).check() == []


def test_an_import_survives_a_kill_at_any_system_call(archive, tmp_path):
    assert archive == tmp_path / "system.tar"
    assert store_crashes.apart("import", tmp_path) >= 10


@pytest.mark.parametrize("name", ["metrics.jsonl", "tasks/mnist.json"])
def test_a_file_of_another_system_is_not_written_over(name, archive):
    files = memory_files.MemoryFiles()
    files.write_atomic(name, b"mine")
    with pytest.raises(errors.UsageError, match=f"not empty.*{name}"):
        archives.import_archive(archive, files)
    assert {n: files.read(n, 99) for n in files.list()} == {name: b"mine"}


def test_a_link_where_the_system_goes_is_not_followed(archive, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "new" / "tasks")
    with pytest.raises(errors.MunetError):
        archives.import_archive(archive, tmp_path / "new")
    assert _files_below(tmp_path / "elsewhere") == []


def test_an_archive_that_changes_while_it_is_read_is_refused(
    archive, tmp_path, monkeypatch
):
    real = archive_format.read_members
    calls = []

    def members(file: io.BufferedReader, shown: str):
        calls.append(1)
        for name, data in real(file, shown):
            changed = len(calls) == 2 and name == "metrics.jsonl"
            yield name, b"other" if changed else data

    monkeypatch.setattr(archive_format, "read_members", members)
    with pytest.raises(errors.StoreError, match="just been changed"):
        archives.import_archive(archive, tmp_path / "new")
    assert _files_below(tmp_path / "new") == ["lock"]
