"""Folders of images are read as one of two layouts, or refused."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
from etils import epath

from keras_munet import errors
from keras_munet.data.own import layout as own_layout


def _read(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return own_layout.read_layout(epath.Path(root))


def _classes(layout):
    return [(f.class_name, f.split, len(f.files)) for f in layout.class_folders]


def _splits(*splits, classes=("ant", "bee"), inside=""):
    return [
        f"{split}/{inside}{class_name}/{i}.png"
        for split, class_name, i in itertools.product(splits, classes, "12")
    ]


FLAT = ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"]
TWO = [("ant", "", 2), ("bee", "", 2)]
# What stands beside or around two classes of two images each.
READ_AS_TWO_CLASSES = {
    "hidden folders": [*FLAT, ".git/x/1.png", ".thumbs/1.png"],
    "folders of macOS": [*FLAT, "__MACOSX/ant/._1.png"],
    "folders of a network drive": [*FLAT, "@eaDir/ant/1.png"],
    "hidden files in classes": [*FLAT, "ant/._1.png", "bee/.DS_Store"],
    "files of Windows": [*FLAT, "ant/Thumbs.db", "bee/desktop.ini"],
    "files of checkpoints": [*FLAT, "ant/.ipynb_checkpoints/1.png"],
    "a folder without images": [*FLAT, "labels/a.txt", "labels/b.xml"],
    "files beside": [*FLAT, "readme.md", "LICENSE"],
    "a folder around": [f"birds/{name}" for name in FLAT],
    "two folders around": [f"a/b/{name}" for name in FLAT],
    "a folder around, hidden ones beside": [
        *(f"photos/{name}" for name in FLAT),
        ".cache/1.png",
        "__MACOSX/photos/ant/._1.png",
    ],
    "train alone": _splits("train"),
    "a lone split of another name": _splits("training_set"),
    "images further below": ["ant/a/1.png", "ant/2.png", *FLAT[2:]],
    "one folder in each class": [
        name.replace("/", "/images/") for name in FLAT
    ],
}


@pytest.mark.parametrize("kind", READ_AS_TWO_CLASSES)
def test_what_stands_beside_classes_is_no_class(kind, tmp_path):
    layout = _read(tmp_path, *READ_AS_TWO_CLASSES[kind])
    assert _classes(layout) == TWO
    assert layout.description.startswith("CLASS/IMAGE")


def test_every_thing_that_is_left_out_is_named_once_with_a_reason(tmp_path):
    layout = _read(
        tmp_path,
        *FLAT,
        ".git/1.png",
        "__MACOSX/1.png",
        "ant/Thumbs.db",
        "notes/a.txt",
        "loose.png",
    )
    (tmp_path / "empty").mkdir()
    layout = own_layout.read_layout(epath.Path(tmp_path))
    assert sorted(layout.skipped) == [
        (".git", "hidden"),
        ("__MACOSX", "left by macOS"),
        ("ant/Thumbs.db", "left by Windows"),
        ("empty", "no files"),
        ("loose.png", "lies in no class folder"),
        ("notes", "no images"),
    ]


# Folders of splits; what they are read as.
SPLITS = {
    "all": (("train", "val", "test"), ("train", "validation", "test")),
    "capitals": (("Train", "VAL", "Test"), ("train", "validation", "test")),
    "long names": (("training", "validation", "testing"),) * 2,
    "no test": (("train", "valid"), ("train", "validation")),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_folders_of_splits_are_splits(kind, tmp_path):
    given, expected = SPLITS[kind]
    expected = [own_layout.SPLIT_NAMES[split] for split in expected]
    beside = [".ipynb_checkpoints/1.png", "__MACOSX/train/1.png", "doc/a.pdf"]
    layout = _read(tmp_path, *_splits(*given), *beside)
    found = {split: [] for split in expected}
    for name, split, num in _classes(layout):
        found[split].append((name, num))
    assert found == {split: [("ant", 2), ("bee", 2)] for split in expected}
    assert layout.description.startswith("SPLIT/CLASS/IMAGE")


def test_splits_below_a_lone_folder_are_splits(tmp_path):
    layout = _read(tmp_path, *(f"v2/{p}" for p in _splits("train", "test")))
    assert {split for _, split, _ in _classes(layout)} == {"train", "test"}
    assert layout.description.endswith("below v2/")
    assert layout.notices == ["v2/ is the only folder, and is read"]


# Trees that are neither of the two layouts; what is said of them.
REFUSED = {
    "a numbered split": (_splits("train", "val", "test1"), "test1 stands"),
    "a split of another name": (_splits("train", "dev"), "dev stands beside"),
    "an unknown folder": (_splits("train", "test", "unlabeled"), "unlabeled"),
    "a class beside a split": ([*_splits("train"), "cat/1.png"], "cat stands"),
    "sets": (_splits("train_set", "test_set"), "look like splits"),
    "years": (_splits("train2017", "val2017"), "look like splits"),
    "prefixes": (_splits("pets_train", "pets_test"), "look like splits"),
    "joined words": (_splits("trainset", "testset"), "look like splits"),
    "no train": (_splits("val", "test"), "none is train"),
    "one split twice": (
        _splits("train", "val", "validation"),
        "val, validation are one split",
    ),
    "one split in two spellings": (_splits("train", "Train"), "one split"),
    "splits without classes": (
        ["train/1.png", "test/1.png"],
        "no folder of a class",
    ),
    "one split without classes": (
        [*_splits("train"), "val/1.png"],
        "val/ holds images and no folder of a class",
    ),
    "classes of splits": (
        _splits("ant", "bee", classes=("train", "test")),
        "holds the split",
    ),
    "classes of one split": (
        _splits("ant", "bee", classes=("train",)),
        "holds the split train",
    ),
    "groups of classes": (
        _splits("insect", "bird", classes=("ant", "bee")),
        "holds the folders ant, bee",
    ),
    "groups in splits": (
        _splits("train", "test", inside="insect/"),
        "insect/ holds the folders ant, bee",
    ),
    "a folder around both": (
        ["photos/1.png", "photos/ant/1.png", "photos/bee/1.png"],
        "photos/ holds both",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_layout_is_refused_and_both_are_drawn(kind, tmp_path):
    files, words = REFUSED[kind]
    with pytest.raises(errors.DataError) as caught:
        _read(tmp_path, *files)
    text = str(caught.value)
    assert words in text
    assert "PATH/CLASS/IMAGE" in text
    assert "PATH/SPLIT/CLASS/IMAGE" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "names",
    [
        ("test_passed", "test_failed"),
        ("train", "plane"),
        ("trainers", "testers"),
        ("valid", "invalid"),
    ],
)
def test_classes_whose_names_speak_of_tests_are_classes(names, tmp_path):
    layout = _read(tmp_path, *(f"{n}/{i}.png" for n in names for i in "12"))
    assert [f.class_name for f in layout.class_folders] == sorted(names)


def test_names_are_composed_and_without_spaces_around_them(tmp_path):
    composed, apart = "\u00e9", "e\u0301"
    layout = _read(tmp_path, f"{composed}/1.png", f"{apart}/2.png", "b /1.png")
    assert {f.class_name for f in layout.class_folders} == {"é", "b"}
    told = " ".join(layout.notices)
    assert "'b '" in told
    assert "are one class" in told


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONUTF8": "1"},
    ],
)
def test_names_and_their_order_do_not_depend_on_the_locale(locale, tmp_path):
    for name in ("Ωmega", "zebra", "éclair", "日本"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ä.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_bytes("path,label\n日本/ä.png,é\n".encode())
    code = (
        "import sys\n"
        "from keras_munet.data.own import sources as own_sources\n"
        "for source in ('folder:', 'table:'):\n"
        "    path = sys.argv[1] + ('/t.csv' if source == 'table:' else '')\n"
        "    for e in own_sources.listing(source + path).examples:\n"
        "        print(ascii(e.class_name), ascii(e.where), e.read())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, **locale},
        capture_output=True,
        text=True,
        check=True,
    )
    names = ["zebra", "éclair", "Ωmega", "日本"]
    assert done.stdout.splitlines() == [
        *(f"{name!a} {f'{name}/ä.png'!a} b'x'" for name in names),
        f"{'é'!a} {'line 2: 日本/ä.png'!a} b'x'",
    ]


def test_a_name_that_is_no_utf_8_is_told(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/1.png", "wb") as file:
        file.write(b"x")
    layout = own_layout.read_layout(epath.Path(tmp_path))
    assert [f.class_name for f in layout.class_folders] == ["caf\\udce9"]
    assert layout.notices == ["the name of caf\\udce9/ is not UTF-8"]
