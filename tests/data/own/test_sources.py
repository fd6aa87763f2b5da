"""Folders and tables of every kind: each file and row is used or named."""

from __future__ import annotations

import os

import pytest

from keras_munet import errors
from keras_munet.data.own import sources as own_sources


def _folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f"folder:{root}"


def _listed(source):
    examples, skipped, *_ = own_sources.listing(source)
    return (
        [(e.where, e.class_name, e.split) for e in examples],
        {s.where: s.reason for s in skipped},
    )


def test_each_folder_is_a_class_and_files_come_in_the_order_of_names(tmp_path):
    source = _folder(
        tmp_path,
        {"b/2.png": b"x", "b/1.png": b"x", "a/deep/3.png": b"x", "note": b"x"},
    )
    (tmp_path / "c").mkdir()
    examples, skipped = _listed(source)
    assert examples == [
        ("a/deep/3.png", "a", ""),
        ("b/1.png", "b", ""),
        ("b/2.png", "b", ""),
    ]
    assert skipped == {
        "note": "lies in no class folder",
        "c": "no files",
    }


def test_names_that_no_terminal_can_print_are_shown_escaped(tmp_path):
    folder = os.fsencode(tmp_path) + b"/two\nlines \xd0\xb6"
    os.mkdir(folder)
    for name in (b"\xff.png", b"ok.png"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"x")
    examples, *_ = own_sources.listing(f"folder:{tmp_path}")
    assert [e.where for e in examples] == [
        "two\\nlines ж/ok.png",
        "two\\nlines ж/\\udcff.png",
    ]
    assert [e.read() for e in examples] == [b"x", b"x"]


def test_a_link_that_leads_back_is_named_and_not_followed(tmp_path):
    source = _folder(tmp_path, {"a/1.png": b"x"})
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    examples, skipped = _listed(source)
    assert [e[0] for e in examples] == ["a/1.png"]
    assert skipped == {"a/loop": "a link to a folder"}


def test_folders_of_splits_keep_them(tmp_path):
    source = _folder(
        tmp_path,
        {
            "train/a/1.png": b"x",
            "val/a/2.png": b"x",
            "test/b/3.png": b"x",
            "test/loose.png": b"x",
        },
    )
    examples, skipped = _listed(source)
    assert examples == [
        ("test/b/3.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("val/a/2.png", "a", "validation"),
    ]
    assert skipped == {"test/loose.png": "lies in no class folder"}


def test_a_class_called_train_is_a_class(tmp_path):
    source = _folder(tmp_path, {"train/1.png": b"x", "car/2.png": b"x"})
    examples, _ = _listed(source)
    assert {c for _, c, _ in examples} == {"train", "car"}


def test_a_table_names_images_beside_it(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "path,label,split\nx/1.png,cat,train\n/abs/2.png,dog,test\n3.png,cat,\n"
    )
    examples, skipped, *_ = own_sources.listing(f"table:{table}")
    assert [str(e.path) for e in examples] == [
        str(tmp_path / "x/1.png"),
        "/abs/2.png",
        str(tmp_path / "3.png"),
    ]
    assert [e.split for e in examples] == ["train", "test", ""]
    assert skipped == []


# What a table may look like; how many examples it gives; what it names.
TABLES = {
    "plain": (b"path,label\na,x\nb,y\n", 2, {}),
    "no last line end": (b"path,label\na,x", 1, {}),
    "Windows line ends": (b"path,label\r\na,x\r\n", 1, {}),
    "a mark in front": (b"\xef\xbb\xbfpath,label\na,x\n", 1, {}),
    "spaces in the header": (b"path , label\na,x\n", 1, {}),
    "other names": (b"filename,class\na,x\n", 1, {}),
    "columns in another order": (b"label,more,path\nx,1,a\n", 1, {}),
    "quoted commas": (b'path,label\n"a,b.png","x, y"\n', 1, {}),
    "empty lines": (b"path,label\n\na,x\n\n", 1, {}),
    "letters of other scripts": ("path,label\nä,ж\n".encode(), 1, {}),
    "too few fields": (b"path,label\na\nb,y\n", 1, {"line 2": "1 fields"}),
    "too many fields": (b"path,label\na,x,1\nb,y\n", 1, {"line 2": "3 fields"}),
    "no label": (b"path,label\na,\nb,y\n", 1, {"line 2": "no label"}),
    "a blank label": (b"path,label\na,  \nb,y\n", 1, {"line 2": "no label"}),
    "no image": (b"path,label\n,x\nb,y\n", 1, {"line 2": "no image"}),
    "an unknown split": (
        b"path,label,split\na,x,dev\nb,y,val\n",
        1,
        {"line 2": "split 'dev'"},
    ),
}
REFUSED_TABLES = {
    "empty": (b"", "no column of images"),
    "a header alone": (b"path,label\n", "no examples"),
    "no header": (b"a.png,cat\nb.png,dog\n", "no column of images"),
    "no labels": (b"path,size\na,1\n", "no column of labels"),
    "a column twice": (b"path,label,label\na,x,y\n", "a column twice"),
    "not UTF-8": (b"path,label\n\xff\xfe,x\n", "not UTF-8 at byte 11"),
    "another separator": (b"path;label\na;x\n", "no column of images"),
    "no row of use": (b"path,label\n,\n", "skipped: line 2"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_gives_its_examples_and_names_the_rest(kind, tmp_path):
    content, num_examples, named = TABLES[kind]
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    examples, skipped = _listed(f"table:{table}")
    assert len(examples) == num_examples
    assert set(skipped) == set(named)
    for where, reason in named.items():
        assert skipped[where].startswith(reason)


@pytest.mark.parametrize("kind", REFUSED_TABLES)
def test_a_table_of_no_use_is_refused_in_one_line(kind, tmp_path):
    content, words = REFUSED_TABLES[kind]
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    with pytest.raises(errors.DataError, match=words) as caught:
        own_sources.listing(f"table:{table}")
    assert "\n" not in str(caught.value)


def test_parquet_holds_paths_or_the_files_themselves(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = tmp_path / "t.parquet"
    columns = {
        "image": [{"bytes": b"xyz", "path": "1.png"}, None],
        "label": [3, 4],
    }
    parquet.write_table(pyarrow.table(columns), table)
    examples, skipped, *_ = own_sources.listing(f"table:{table}")
    assert [e.read() for e in examples] == [b"xyz"]
    assert examples[0].class_name == "3"
    assert [(s.where, s.reason) for s in skipped] == [("row 1", "no image")]
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(errors.DataError, match="cannot be read as Parquet"):
        own_sources.listing(f"table:{table}")


# A column of a Parquet file; what each row is, or why it is of no use.
COLUMNS = {
    "numbers as images": (
        {"image": [7, 8], "label": ["x", "y"]},
        ["image is int", "image is int"],
    ),
    "lists as images": (
        {"image": [[1], [2]], "label": ["x", "y"]},
        ["image is list", "image is list"],
    ),
    "records of something else": (
        {"image": [{"x": 1}, {"x": 2}], "label": ["x", "y"]},
        ["no image", "no image"],
    ),
    "empty bytes": ({"bytes": [b"", b"z"], "label": ["x", "y"]}, ["no image"]),
    "lists as labels": (
        {"bytes": [b"z", b"z"], "label": [[0, 1], [1, 0]]},
        ["label is list", "label is list"],
    ),
    "numbers that are none": (
        {"bytes": [b"z", b"z"], "label": [float("nan"), 1.0]},
        ["no label"],
    ),
    "numbers as splits": (
        {"bytes": [b"z", b"z"], "label": ["x", "y"], "split": [0, 1]},
        ["split '0'", "split '1'"],
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_another_kind_is_named_row_by_row(kind, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns, reasons = COLUMNS[kind]
    table = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns), table)
    if len(reasons) == 2:
        with pytest.raises(errors.DataError) as caught:
            own_sources.listing(f"table:{table}")
        for i, reason in enumerate(reasons):
            assert f"row {i}: {reason}" in str(caught.value)
    else:
        examples, skipped, *_ = own_sources.listing(f"table:{table}")
        assert [e.where for e in examples] == ["row 1"]
        assert [s.where for s in skipped] == ["row 0"]
        assert skipped[0].reason == reasons[0]


def test_bytes_that_are_labels_are_read_as_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = tmp_path / "t.parquet"
    columns = {"bytes": [b"z", b"z"], "label": ["ж".encode(), b"\xff"]}
    parquet.write_table(pyarrow.table(columns), table)
    examples, *_ = own_sources.listing(f"table:{table}")
    assert [e.class_name for e in examples] == ["ж", "\\xff"]


def test_a_path_is_named_short_and_in_one_line(tmp_path):
    table = tmp_path / "t.csv"
    table.write_bytes(b"path,label\n" + b"x" * 5000 + b",a\na\0b,a\n")
    examples, *_ = own_sources.listing(f"table:{table}")
    assert len(examples[0].where) < 250
    assert examples[1].where == "line 3: a\\x00b"
    for example in examples:
        with pytest.raises(OSError, match=r"name too long|null byte"):
            example.read()


def test_what_is_no_file_is_never_waited_for(tmp_path):
    source = _folder(tmp_path, {"a/1.png": b"x"})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    examples, *_ = own_sources.listing(source)
    reasons = {}
    for example in examples[1:]:
        with pytest.raises(OSError, match=r"regular|No such") as caught:
            example.read()
        reasons[example.where] = caught.value.strerror
    assert reasons == {
        "a/gone.png": "No such file or directory",
        "a/pipe.png": "not a regular file",
    }


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_source_that_is_not_there_is_a_users_mistake(kind, tmp_path):
    with pytest.raises(errors.UsageError, match="there is no"):
        own_sources.listing(f"{kind}:{tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path):
        # Images without folders are neither layout either.
        (tmp_path / "1.png").write_bytes(b"x")
        with pytest.raises(errors.DataError, match="PATH/SPLIT/CLASS/IMAGE"):
            own_sources.listing(f"folder:{source}")
    with pytest.raises((errors.DataError, errors.UsageError)):
        own_sources.listing(f"{kind}:{tmp_path / 'empty'}")


def test_a_space_before_a_quote_is_no_part_of_a_field(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text('path, label\n"a.png", "x, y"\nb.png, "z"\n')
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    examples, skipped = _listed(f"table:{table}")
    assert [name for _, name, _ in examples] == ["x, y", "z"] and not skipped


def test_a_quote_that_never_ends_is_refused_at_its_line(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text('path,label\na.png,x\nb.png,"y\nc.png,x\n')
    with pytest.raises(errors.DataError, match="is no CSV at line"):
        _listed(f"table:{table}")


def test_a_link_to_itself_is_no_folder(tmp_path):
    source = _folder(tmp_path, {"a/1.png": b"x", "b/2.png": b"x"})
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    examples, _ = _listed(source)
    assert {"a/1.png", "b/2.png"} <= {where for where, _, _ in examples}
