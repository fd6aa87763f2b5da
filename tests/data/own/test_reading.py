"""A folder of prepared images that a stranger sent is read or refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data import regular_files
from keras_munet.data import tasks
from keras_munet.data.own import reading as own_reading
from keras_munet.data.own import store as own_store
from keras_munet.data.own import tasks as own_tasks
from keras_munet.data.tfds import array_files

NAME = "own/pets"


@pytest.fixture
def folder(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8)
    data = own_tasks.from_arrays(NAME, images, np.arange(40) % 2)
    own_store.save(data, str(tmp_path / "data"))
    return tmp_path / "data" / "own" / "pets"


@pytest.fixture
def mapped_folder(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), np.uint8)
    splits = ("train", "validation", "test")
    own_store.save_blocks(
        NAME,
        str(tmp_path / "data"),
        class_names=["a", "b"],
        shape=(4, 4, 3),
        labels={s: np.arange(9, dtype=np.int32) % 2 for s in splits},
        blocks={s: [rows] for s in splits},
        files_digests={},
    )
    return tmp_path / "data" / "own" / "pets"


def _load(folder):
    return tasks.load(NAME, data_dir=str(folder.parents[1]))


def _change(folder, **changes):
    index = json.loads((folder / "task.json").read_text())
    index.update(changes)
    (folder / "task.json").write_text(json.dumps(index))


def _put(folder, name, content):
    """Writes an array's file and its checksum."""
    (folder / name).write_bytes(content)
    index = json.loads((folder / "task.json").read_text())
    index["sha256"][name] = hashlib.sha256(content).hexdigest()
    _change(folder, sha256=index["sha256"])


def _npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def _head(shape, descr="|u1", order=False):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": order, "shape": shape}
    )
    return buffer.getvalue()


def _link(path, target):
    shutil.move(path, target)
    path.symlink_to(target)


# What a stranger does to the folder; what is said of it.
ATTACKS = {
    "a name with folders": (
        lambda f: _change(f, sha256={"../../x.npy": "0" * 64}),
        "it names the file '../../x.npy'",
    ),
    "an absolute name": (
        lambda f: _change(f, sha256={"/etc/passwd": "0" * 64}),
        "it names the file '/etc/passwd'",
    ),
    "an array that is a link": (
        lambda f: _link(f / "test_images.npy", f.parent / "elsewhere.npy"),
        "is a link",
    ),
    "an index that is a link": (
        lambda f: _link(f / "task.json", f.parent / "elsewhere.json"),
        "task.json is a link",
    ),
    "a folder that is a link": (
        lambda f: _link(f, f.parents[1] / "elsewhere"),
        "pets is a link",
    ),
    "an array that is a pipe": (
        lambda f: (
            (f / "test_labels.npy").unlink(),
            os.mkfifo(f / "test_labels.npy"),
        ),
        "is not a regular file",
    ),
    "an array that is a folder": (
        lambda f: (
            (f / "test_labels.npy").unlink(),
            (f / "test_labels.npy").mkdir(),
        ),
        "test_labels.npy is not a regular file",
    ),
    "more pixels than bytes": (
        lambda f: _put(f, "train_images.npy", _head((1 << 40, 4, 4, 3)) + b"x"),
        "whose head says",
    ),
    "more bytes than pixels": (
        lambda f: _put(f, "train_images.npy", _head((1, 4, 4, 3)) + bytes(99)),
        "whose head says",
    ),
    "a negative side": (
        lambda f: _put(
            f, "train_images.npy", _head((2, -4, -4, 3)) + bytes(96)
        ),
        "shape (2, -4, -4, 3)",
    ),
    "objects": (
        lambda f: _put(
            f, "test_labels.npy", _npy(np.array([{}]), allow_pickle=True)
        ),
        "object",
    ),
    "floats": (
        lambda f: _put(f, "test_images.npy", _npy(np.zeros((2, 4, 4, 3)))),
        "holds float64",
    ),
    "another order of bytes": (
        lambda f: _put(f, "test_labels.npy", _npy(np.zeros(4, ">i4"))),
        "holds >i4",
    ),
    "no array": (
        lambda f: _put(f, "test_images.npy", b"PK\3\4" + bytes(99)),
        "magic",
    ),
    "a long head": (
        lambda f: _put(
            f, "test_images.npy", b"\x93NUMPY\1\0\xff\xff" + b"(" * 65_535
        ),
        "damaged",
    ),
    "names that are numbers": (
        lambda f: _change(f, class_names=[1, 2]),
        "must be texts",
    ),
    "names that are one text": (
        lambda f: _change(f, class_names="ab"),
        "must be a list",
    ),
    "one name twice": (
        lambda f: _change(f, class_names=["a", "a"]),
        "2 classes named 'a'",
    ),
    "no names": (lambda f: _change(f, class_names=[]), "must be a list"),
    "an index that is a list": (
        lambda f: (f / "task.json").write_text("[]"),
        "holds no object",
    ),
    "an index without an end": (
        lambda f: (f / "task.json").write_text('{"a":' * 100_000),
        "damaged",
    ),
    "a deep index": (
        lambda f: (f / "task.json").write_text(
            '{"class_names": ' + "[" * 90_000 + "]" * 90_000 + "}"
        ),
        "damaged",
    ),
    "notices that are numbers": (
        lambda f: _change(f, notices=[1]),
        "malformed",
    ),
    "a request that is a list": (lambda f: _change(f, request=[]), "malformed"),
    "a checksum that is a list": (
        lambda f: _change(f, sha256={"train_images.npy": []}),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_what_a_stranger_may_send_is_refused_in_one_line(kind, folder):
    attack, words = ATTACKS[kind]
    _load(folder)
    attack(folder)
    with pytest.raises(errors.DataError) as caught:
        _load(folder)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_large_index_and_array_are_not_read(folder, monkeypatch):
    monkeypatch.setattr(own_reading, "ARRAY_BYTES_MAX", 1000)
    with pytest.raises(errors.DataError, match="at most 1,000 are read"):
        _load(folder)
    monkeypatch.undo()
    monkeypatch.setattr(regular_files, "JSON_BYTES_MAX", 100)
    with pytest.raises(errors.DataError, match="more than 100 bytes"):
        _load(folder)


def test_an_array_that_no_load_would_read_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(own_reading, "ARRAY_BYTES_MAX", 2**20 + 100)
    images = np.zeros((40, 4, 4, 3), np.uint8)
    data = own_tasks.from_arrays(NAME, images, np.arange(40) % 2)
    with pytest.raises(errors.DataError, match="store smaller images"):
        own_store.save(data, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_names_with_escapes_are_printable(folder):
    _change(folder, class_names=["\x1b]0;x\x07cat\u202e", "dog"])
    _change(folder, notices=["\x1b[2J"])
    data = _load(folder)
    assert data.class_names == ("\\x1b]0;x\\x07cat\\u202e", "dog")
    assert data.notices == ("\\x1b[2J",)


def test_folders_with_names_that_no_task_has_are_not_listed(folder):
    shutil.copytree(folder, folder.with_name("\x1b[2J"))
    assert own_store.listed(str(folder.parents[1])) == [NAME]


# What a stranger does to array files.
MAPPED_ATTACKS = {
    "a pipe": (
        lambda f: ((f / "array.npy").unlink(), os.mkfifo(f / "array.npy")),
        "is not a regular file",
    ),
    "a link": (
        lambda f: _link(f / "array.npy", f.parent / "array.npy"),
        "array.npy is a link",
    ),
    "a folder that is a link": (
        lambda f: _link(f, f.parents[1] / "elsewhere"),
        "is a link",
    ),
    "a manifest that is a link": (
        lambda f: _link(f / "manifest.json", f.parent / "m.json"),
        "manifest.json is a link",
    ),
    "a deep manifest": (
        lambda f: (f / "manifest.json").write_text("[" * 99_999),
        "damaged",
    ),
    "a manifest without checksums": (
        lambda f: (f / "manifest.json").write_text(
            json.dumps(
                {
                    **json.loads((f / "manifest.json").read_text()),
                    "rows_per_chunk": 0,
                }
            )
        ),
        "no checksums",
    ),
    "a larger array": (
        lambda f: (f / "array.npy").write_bytes(_head((1 << 40, 4, 4, 3))),
        "whose head says",
    ),
    "rows of columns": (
        lambda f: (f / "array.npy").write_bytes(
            _head((9, 4, 4, 3), order=True) + bytes(9 * 48)
        ),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", MAPPED_ATTACKS)
def test_array_files_of_a_stranger_are_refused(kind, mapped_folder):
    attack, words = MAPPED_ATTACKS[kind]
    assert not _load(mapped_folder).train.resident
    attack(mapped_folder / "test_images")
    for read in (
        lambda: _load(mapped_folder),
        lambda: own_reading.fingerprint_of(NAME, mapped_folder),
        lambda: array_files.verify(mapped_folder / "test_images"),
    ):
        with pytest.raises(errors.DataError, match=words):
            read()


_TOKENS = (
    *(b"", b"\0", b"\xff" * 8, b"-1", b"1e999", b"null", b"[]", b"{}", b'""'),
    *(
        b"[" * 5_000,
        b"9" * 5_000,
        b"\x1b[2J",
        b"../",
        b"True",
        b"|O",
        b"'",
        b",",
    ),
)


def _mutated(content: bytes, rng) -> bytes:
    """Returns content with one part cut, doubled, or replaced by a token."""
    start, end = sorted(rng.integers(0, min(len(content), 400), 2).tolist())
    part = content[start:end]
    token = _TOKENS[rng.integers(len(_TOKENS))]
    new = (token, part + part, bytes(rng.integers(0, 256, len(part), "u1")))
    return content[:start] + new[rng.integers(len(new))] + content[end:]


@pytest.mark.parametrize("kind", ["folder", "mapped_folder"])
def test_whatever_the_bytes_say_a_load_ends_in_data_or_one_line(kind, request):
    folder = request.getfixturevalue(kind)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    originals = {path: path.read_bytes() for path in files}
    num_refused = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        path = files[rng.integers(len(files))]
        content = _mutated(originals[path], rng)
        path.write_bytes(content)
        if path.parent == folder and path.suffix == ".npy":
            # The attacker can compute a checksum, too.
            _put(folder, path.name, content)
        for read in (
            lambda: _load(folder),
            lambda: own_reading.fingerprint_of(NAME, folder),
        ):
            try:
                read()
            except errors.DataError as e:
                assert str(e).isprintable()
                num_refused += 1
        for changed in (path, folder / "task.json"):
            changed.write_bytes(originals[changed])
    assert num_refused > 300
