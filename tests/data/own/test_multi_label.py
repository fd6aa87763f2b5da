"""Own images with any number of labels, by table, array and pairs."""

from __future__ import annotations

import json

import multi_label_samples
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import target_types
from keras_munet.data import image_storage
from keras_munet.data import splitting
from keras_munet.data import tasks
from keras_munet.data import types
from keras_munet.data.own import prepare
from keras_munet.data.own import sources
from keras_munet.data.own import store
from keras_munet.data.own import tasks as own_tasks

_MULTI = target_types.MULTI_LABEL


def _table(folder, rows, column="labels"):
    """Writes a table of small pictures, one for each cell of labels."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"path,{column}"]
    for number, cell in enumerate(rows):
        image = Image.new("L", (8, 8), 3 * number + 1)
        image.putpixel((0, 0), 255 - 2 * number)
        image.save(folder / f"{number}.png")
        lines.append(f"{number}.png,{cell}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return f"table:{folder / 'rows.csv'}"


def _rows(data):
    return np.concatenate(
        [data.train.labels, data.validation.labels, data.test.labels]
    )


def test_a_column_of_several_labels_becomes_a_column_for_each_class(tmp_path):
    cells = ["sea|sky", " sky | sea", "", "hill", "hill|sea|hill"] * 6
    data, skipped = own_tasks.build_data(_table(tmp_path, cells))
    assert data.class_names == ("hill", "sea", "sky")
    assert data.target is _MULTI and skipped == []
    rows, counts = np.unique(_rows(data), axis=0, return_counts=True)
    assert rows.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert counts.tolist() == [6, 12, 6, 6]
    assert "6 of 30 images have no label" in " ".join(data.notices)


def test_a_column_of_one_label_keeps_its_separator_and_says_so(tmp_path):
    cells = ["sea|sky", "hill"] * 6
    data, _ = own_tasks.build_data(_table(tmp_path, cells, column="label"))
    assert data.class_names == ("hill", "sea|sky")
    assert data.target is target_types.SINGLE_LABEL
    assert "name the column 'labels' instead of 'label'" in " ".join(
        data.notices
    )


@pytest.mark.parametrize("cell", ["a||b", "a|", "|", " | b"])
def test_an_empty_label_between_separators_skips_the_row(tmp_path, cell):
    listing = sources.listing(_table(tmp_path, ["a|b", cell, "b"]))
    assert len(listing.examples) == 2
    assert "is empty" in listing.skipped[0].reason


def test_a_table_without_any_label_is_refused(tmp_path):
    with pytest.raises(errors.DataError, match="has no label in its column"):
        sources.listing(_table(tmp_path, ["", " "]))


@pytest.mark.parametrize("num_bytes_max", [None, 100])
@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["a", "b", "a"] * 4, "has exactly one; name the column 'label'"),
        (["a"] * 12, "has exactly one; name the column 'label'"),
        (["", "a|b", ""] * 4, "no usable image with a label"),
    ],
)
def test_a_table_of_one_label_or_none_an_image_is_refused(
    tmp_path, monkeypatch, cells, problem, num_bytes_max
):
    source = _table(tmp_path / "in", cells)
    if "|" in "".join(cells):
        for number in range(1, 12, 3):
            (tmp_path / f"in/{number}.png").write_bytes(b"no picture")
    if num_bytes_max:
        monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", num_bytes_max)
    with pytest.raises(errors.DataError, match=problem) as caught:
        prepare.prepare_task(source, str(tmp_path / "data"), name="own/few")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "own").exists()


def test_a_table_may_have_a_single_label_that_some_images_lack(
    tmp_path, monkeypatch
):
    source = _table(tmp_path / "in", ["cat", "", "cat"] * 4)
    one = prepare.prepare_task(source, str(tmp_path / "a"), name="own/cat")
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 100)
    other = prepare.prepare_task(source, str(tmp_path / "b"), name="own/cat")
    for data in (one.data, other.data):
        assert data.target is _MULTI and data.class_names == ("cat",)
        np.testing.assert_array_equal(np.unique(_rows(data)), [0, 1])
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    labels = np.array([[1], [0], [1]] * 4)
    given = own_tasks.from_arrays("own/c", images, labels, class_names=["cat"])
    assert given.target is _MULTI and given.num_classes == 1


def test_lists_in_a_parquet_table_are_labels(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    _table(tmp_path, [""] * 4)
    content = [(tmp_path / f"{i}.png").read_bytes() for i in range(4)]
    labels = [["b", "a"], [], None, ["c|d"]]
    parquet.write_table(
        pyarrow.table({"bytes": content, "labels": labels}),
        tmp_path / "rows.parquet",
    )
    listing = sources.listing(f"table:{tmp_path / 'rows.parquet'}")
    assert [listing.label_names(e) for e in listing.examples] == [
        ["a", "b"],
        [],
        [],
    ]
    assert "'|' in it" in listing.skipped[0].reason


def test_an_array_of_zeros_and_ones_is_the_same_task_as_its_table(tmp_path):
    images, labels = multi_label_samples.overlaid_digits(60)
    source = multi_label_samples.write_table(tmp_path, images, labels)
    by_table, _ = own_tasks.build_data(source, name="own/same", side=12)
    by_array = own_tasks.from_arrays("own/same", images, labels.astype(bool))
    assert by_array.class_names == by_table.class_names
    for split in types.SPLIT_NAMES:
        one, other = getattr(by_table, split), getattr(by_array, split)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.images[..., :1], other.images)


def test_pairs_have_a_row_of_zeros_and_ones_each():
    images, labels = multi_label_samples.overlaid_digits(40)
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    data = own_tasks.from_pairs("own/pairs", pairs)
    expected = own_tasks.from_arrays("own/pairs", images, labels)
    np.testing.assert_array_equal(data.train.labels, expected.train.labels)


def test_pairs_of_other_shapes_are_refused():
    image = np.zeros([4, 4, 1], np.uint8)
    with pytest.raises(errors.UsageError, match="all labels need one shape"):
        own_tasks.from_pairs("own/p", [(image, [1, 0]), (image, [1, 0, 1])])


@pytest.mark.parametrize(
    ("labels", "class_names", "problem"),
    [
        (np.eye(3, dtype=np.int64)[[0, 1, 2] * 4], (), "exactly one; give lab"),
        (np.full([12, 2], 2), (), "from 2 to 2"),
        (np.ones([12, 1], np.int32), (), r"give labels\[:, 0\]"),
        (np.zeros([12, 0], np.int32), (), "a column for each"),
        (np.zeros([12, 3], bool), (), "at least one image a label"),
        (np.ones([12, 1], np.int32), ("a",), "exactly one; give lab"),
        (np.full([12, 2], -1), (), "from -1 to -1"),
        (np.ones([12, 2]), (), "float64 labels"),
        (np.ones([12, 2, 2], np.int32), (), r"\[n, classes\] of 0 and 1"),
        (np.ones([11, 2], np.int32), (), "labels of shape"),
        (np.ones([12, 2], np.int32), ("a",), "a list of 2 texts"),
        (np.ones([12, 2], np.int32), ("a", "a"), "2 classes named"),
        (np.ones([12, 2], np.int32), ("a", "b|c"), "stands between labels"),
    ],
)
def test_labels_that_are_no_zeros_and_ones_are_refused(
    labels, class_names, problem
):
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    with pytest.raises(errors.MunetError, match=problem) as caught:
        own_tasks.from_arrays("own/a", images, labels, class_names=class_names)
    assert "\n" not in str(caught.value)


def test_images_are_split_as_of_their_rarest_label():
    labels = np.zeros([100, 3], np.int32)
    labels[:, 0] = 1
    labels[:10, 1] = 1
    labels[90:, :] = 0
    labels[10:13, 2] = 1
    parts = splitting.stratified(
        labels, "own/rare", validation_fraction=0.1, test_fraction=0.1
    )
    for rows in parts.values():
        assert labels[rows].any(axis=0).all()
        assert (~labels[rows].any(axis=1)).any()
    every = np.sort(np.concatenate(list(parts.values())))
    np.testing.assert_array_equal(every, np.arange(100))


def test_a_kept_task_names_its_type_and_loads_the_same(tmp_path):
    data = multi_label_samples.overlaid_task(60)
    folder = store.save(data, str(tmp_path))
    loaded = tasks.load("own/overlaid", data_dir=str(tmp_path))
    assert loaded.target is _MULTI
    np.testing.assert_array_equal(loaded.test.labels, data.test.labels)
    index = json.loads((tmp_path / "own/overlaid/task.json").read_text())
    assert index["target_type"] == "multi_label"
    rows, _ = tasks.describe(
        "own/overlaid", tasks.DataOptions(data_dir=str(tmp_path))
    )
    assert dict(rows)["labels"].startswith("any number an image, 1.")
    assert folder.endswith("overlaid")


@pytest.mark.parametrize("name", ["single_label", "several", ["multi_label"]])
def test_a_kept_task_of_another_type_than_its_labels_is_damaged(tmp_path, name):
    store.save(multi_label_samples.overlaid_task(60), str(tmp_path))
    path = tmp_path / "own/overlaid/task.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "target_type": name}))
    with pytest.raises(errors.DataError, match="is damaged"):
        tasks.load("own/overlaid", data_dir=str(tmp_path))


def test_a_task_of_one_label_has_no_type_in_its_index(tmp_path):
    images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    data = own_tasks.from_arrays("own/one", images, np.arange(12) % 2)
    store.save(data, str(tmp_path))
    index = json.loads((tmp_path / "own/one/task.json").read_text())
    assert "target_type" not in index


def test_a_request_for_the_other_type_is_another_request(tmp_path):
    cells = ["a", "b"] * 6
    source = _table(tmp_path / "in", cells, column="label")
    options = tasks.DataOptions(data_dir=str(tmp_path / "d"), name="own/t")
    tasks.prepare(source, options)
    assert "unchanged" in tasks.prepare(source, options)[0]
    _table(tmp_path / "in", cells, column="labels")
    with pytest.raises(errors.DataError, match="any number of labels now"):
        tasks.prepare(source, options)


def test_the_order_of_labels_in_a_cell_is_no_other_request(tmp_path):
    options = tasks.DataOptions(data_dir=str(tmp_path / "d"), name="own/t")
    tasks.prepare(_table(tmp_path / "in", ["a|b", "b"] * 6), options)
    source = _table(tmp_path / "in", ["b|a", "b"] * 6)
    assert "unchanged" in tasks.prepare(source, options)[0]
    source = _table(tmp_path / "in", ["a", "b"] * 6)
    with pytest.raises(errors.DataError, match="6 files changed"):
        tasks.prepare(source, options)


def test_equal_images_with_other_labels_are_named():
    images = np.zeros([12, 4, 4, 1], np.uint8)
    images[:, 0, 0, 0] = np.arange(12) * 20
    images[1] = images[0]
    data_notices = _equal_notices(images)
    assert any("'a', 'a|b'" in text for text in data_notices)


def _equal_notices(images):
    from keras_munet.data.own import notices

    labels = np.zeros([12, 2], np.int32)
    labels[0] = [1, 0]
    labels[1:] = 1
    rows = {"train": np.arange(12), "validation": np.arange(0), "test": []}
    digests = [image.tobytes() for image in images]
    return notices.equal_image_notices(
        [str(i) for i in range(12)], labels, ["a", "b"], rows, digests
    )


def test_a_label_that_every_training_image_has_is_named():
    images = np.arange(30 * 16, dtype=np.uint8).reshape(30, 4, 4)
    labels = np.ones([30, 2], np.int32)
    labels[::2, 1] = 0
    data = own_tasks.from_arrays(
        "own/a", images, labels, class_names=["x", "y"]
    )
    assert any(
        "every training image has the label 'x'" in n for n in data.notices
    )


def test_a_batch_of_a_split_has_whole_rows_of_labels():
    data = multi_label_samples.overlaid_task(60)
    images, labels = data.train.batch(np.array([3, 0, 3]))
    np.testing.assert_array_equal(labels, data.train.labels[[3, 0, 3]])
    assert len(images) == 3


def test_a_table_larger_than_memory_keeps_rows_of_labels(tmp_path, monkeypatch):
    images, labels = multi_label_samples.overlaid_digits(40)
    source = multi_label_samples.write_table(tmp_path / "in", images, labels)
    options = {"name": "own/large", "side": 12}
    expected = prepare.prepare_task(source, str(tmp_path / "a"), **options)
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 1000)
    prepared = prepare.prepare_task(source, str(tmp_path / "b"), **options)
    for split in types.SPLIT_NAMES:
        one, other = (
            getattr(prepared.data, split),
            getattr(expected.data, split),
        )
        assert not one.resident and other.resident
        picked = np.array([1, 0])
        np.testing.assert_array_equal(
            one.batch(picked)[1], other.labels[picked]
        )
        np.testing.assert_array_equal(one.labels, other.labels)


def test_a_folder_of_pictures_and_a_table_names_the_table(tmp_path):
    source = _table(tmp_path, ["a|b", "b"])
    with pytest.raises(errors.DataError, match=r"or give table:.*rows\.csv"):
        sources.listing(f"folder:{tmp_path}")
    assert len(sources.listing(source).examples) == 2
