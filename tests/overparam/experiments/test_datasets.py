"""Batches, and the data sets that lie in files."""

from __future__ import annotations

import gzip
import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from keras_munet import errors
from keras_munet.data import tasks as data_tasks
from keras_munet.overparam.experiments import settings
from keras_munet.overparam.experiments import tasks
from keras_munet.overparam.experiments.datasets import camvid
from keras_munet.overparam.experiments.datasets import coco
from keras_munet.overparam.experiments.datasets import dense_data
from keras_munet.overparam.experiments.datasets import nyuv2
from keras_munet.overparam.experiments.datasets import overlaid
from keras_munet.overparam.experiments.datasets import sources

_TASKS = (
    tasks.Task("normals", tasks.NORMALS, 3),
    tasks.Task("depth", tasks.DEPTH, 1),
    tasks.Task("presence", tasks.PRESENCE, 2),
    tasks.Task("objects", tasks.DETECTION, 5),
)


def _examples(num: int = 10) -> dense_data.Examples:
    generator = np.random.default_rng(0)
    objects = np.zeros((num, 4, 6, 2), np.int16)
    objects[:, :2, :3, 1] = 1
    return dense_data.Examples(
        generator.integers(0, 256, (num, 4, 6, 3)).astype(np.uint8),
        {
            "normals": generator.normal(size=(num, 4, 6, 3)),
            "depth": generator.uniform(1, 2, (num, 4, 6)),
            "presence": generator.integers(0, 2, (num, 2)),
            "objects": objects,
        },
    )


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    makers = [
        dense_data.batch_maker(_examples(), _TASKS, batch_size=3, seed=1)
        for _ in range(2)
    ]
    makers[0](0)
    images, labels = makers[0](7)
    again, same = makers[1](7)
    np.testing.assert_array_equal(images, again)
    for name, each in labels.items():
        np.testing.assert_array_equal(each, same[name])
    assert images.dtype == np.float32
    assert images.min() >= -1 and images.max() <= 1


def test_an_epoch_shows_no_image_twice_and_orders_differ():
    examples = _examples()
    batch_of = dense_data.batch_maker(
        examples, _TASKS, batch_size=3, seed=1, flip=False
    )
    shown = [
        np.concatenate([batch_of(epoch * 3 + i)[0] for i in range(3)])
        for epoch in range(2)
    ]
    for images in shown:
        assert len(np.unique(images, axis=0)) == 9
    assert not np.array_equal(*shown)


def test_labels_are_turned_with_their_images():
    examples = _examples()
    plain, turned = (
        dense_data.batch_maker(
            examples, _TASKS, batch_size=10, seed=0, flip=flip
        )(0)
        for flip in (False, True)
    )
    flips = [
        not np.array_equal(*pair)
        for pair in zip(plain[0], turned[0], strict=True)
    ]
    assert 0 < sum(flips) < 10
    for i, flip in enumerate(flips):
        before = {name: each[i] for name, each in plain[1].items()}
        after = {name: each[i] for name, each in turned[1].items()}
        np.testing.assert_array_equal(before["presence"], after["presence"])
        if not flip:
            np.testing.assert_array_equal(before["normals"], after["normals"])
            continue
        np.testing.assert_array_equal(turned[0][i], plain[0][i][:, ::-1])
        np.testing.assert_array_equal(after["depth"], before["depth"][:, ::-1])
        np.testing.assert_array_equal(
            after["normals"], before["normals"][:, ::-1] * [-1, 1, 1]
        )
        # Classes, half sides, ways down and right, weight.
        np.testing.assert_allclose(
            after["objects"],
            before["objects"][:, ::-1] * [1, 1, 1, 1, -1, 1],
            atol=1e-6,
        )


def test_labels_of_another_size_than_the_images_are_refused():
    with pytest.raises(errors.DataError, match="one number, height and width"):
        dense_data.Examples(
            np.zeros((2, 4, 4, 3), np.uint8), {"depth": np.zeros((2, 8, 8))}
        )


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batches_that_the_data_do_not_fill_are_refused(batch_size):
    with pytest.raises(errors.UsageError, match="batch_size"):
        dense_data.batch_maker(
            _examples(), _TASKS, batch_size=batch_size, seed=0
        )


def test_labels_are_resized_to_those_at_the_pixels_middles():
    labels = np.arange(6)[None, None].repeat(4, 1)
    small = dense_data.resized_labels(labels, (2, 3))
    np.testing.assert_array_equal(small, [[[1, 3, 5]] * 2])


def test_edges_lie_on_both_sides_of_a_change_and_not_beside_void():
    classes = np.array([[[0, 0, 1, 1, -1, 2]] * 2])
    expected = [[0, 1, 1, -1, -1, -1]] * 2
    np.testing.assert_array_equal(camvid.edges(classes)[0], expected)
    np.testing.assert_array_equal(
        camvid.edges(classes[..., ::-1])[0], np.fliplr(expected)
    )


def test_camvid_is_read_at_another_size(shared_dir):
    data = camvid.load_camvid(str(shared_dir / "data" / "camvid"), (24, 32))
    assert [len(x) for x in (data.train, data.validation, data.test)] == [
        *(367, 101, 233)
    ]
    labels = data.test.labels
    assert labels["segmentation"].shape == (233, 24, 32)
    assert labels["segmentation"].min() == tasks.VOID
    assert labels["segmentation"].max() == 10
    assert set(np.unique(labels["edges"])) == {-1, 0, 1}
    # The road is everywhere, a bicyclist is not.
    assert labels["presence"][:, 3].mean() > 0.95
    assert labels["presence"][:, 10].mean() < 0.5


def _camvid_file(path, labels) -> None:
    data = io.BytesIO()
    Image.new("RGB", (6, 4)).save(data, "JPEG")
    stored = np.frombuffer(data.getvalue(), np.uint8)
    np.savez(
        path,
        jpeg_bytes=stored,
        jpeg_offsets=np.array([0, len(stored)]),
        label=labels,
    )


@pytest.mark.parametrize(
    "labels", [np.zeros((1, 4, 5)), np.full((1, 4, 6), 12)]
)
def test_camvid_of_other_contents_is_refused(tmp_path, labels):
    _camvid_file(tmp_path / "train.npz", labels.astype(np.uint8))
    with pytest.raises(errors.DataError, match=r"train\.npz has labels"):
        camvid.load_camvid(str(tmp_path), (4, 6))


def test_camvid_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(errors.DataError, match=r"there is no .*train\.npz"):
        camvid.load_camvid(str(tmp_path), (4, 6))
    (tmp_path / "train.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(errors.DataError, match="cannot be read"):
        camvid.load_camvid(str(tmp_path), (4, 6))


@pytest.fixture
def nyuv2_dir(tmp_path, monkeypatch):
    """Files of the exact format, few and small, with the counts to match."""
    monkeypatch.setattr(nyuv2, "NUM_TRAIN", 10)
    monkeypatch.setattr(nyuv2, "SIZE", (8, 12))
    monkeypatch.setattr(
        nyuv2, "_FOLDERS", {"train": ("train", 10), "test": ("val", 2)}
    )
    generator = np.random.default_rng(0)
    for split, num in (("train", 10), ("val", 2)):
        for i in range(num):
            normals = generator.normal(size=(8, 12, 3))
            normals[0] = 0
            for name, array in {
                "image": generator.uniform(0, 1, (8, 12, 3)),
                "label": generator.integers(-1, 13, (8, 12)).astype(float),
                "depth": generator.uniform(0, 9, (8, 12, 1)),
                "normal": normals,
            }.items():
                (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
                np.save(
                    tmp_path / split / name / f"{i}.npy",
                    array.astype(np.float32),
                )
    return tmp_path


def test_nyuv2_has_the_published_split():
    assert (nyuv2.NUM_TRAIN, nyuv2.NUM_TEST) == (795, 654)
    assert len(nyuv2.CLASSES) == 13


def test_nyuv2_is_read_with_a_validation_split(nyuv2_dir):
    data = nyuv2.load_nyuv2(str(nyuv2_dir), (4, 6))
    assert [len(x) for x in (data.train, data.validation, data.test)] == [
        *(9, 1, 2)
    ]
    labels = data.train.labels
    assert data.train.images.shape == (9, 4, 6, 3)
    assert labels["segmentation"].min() == tasks.VOID
    assert labels["depth"].shape == (9, 4, 6)
    assert labels["normals"].shape == (9, 4, 6, 3)


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("image", np.full((8, 12, 3), 200.0), r"in \[0, 1\]"),
        ("label", np.full((8, 12), 13.0), "classes"),
        ("label", np.full((8, 12), 0.5), "classes"),
        ("depth", np.zeros((8, 12)), "shape"),
        ("normal", np.zeros((12, 8, 3)), "shape"),
    ],
)
def test_nyuv2_of_other_contents_is_refused(nyuv2_dir, name, array, word):
    np.save(nyuv2_dir / "train" / name / "3.npy", array)
    with pytest.raises(errors.DataError, match=rf"3\.npy has .*{word}"):
        nyuv2.load_nyuv2(str(nyuv2_dir), (4, 6))


def test_nyuv2_with_a_file_too_few_is_refused(nyuv2_dir):
    (nyuv2_dir / "val" / "depth" / "1.npy").unlink()
    with pytest.raises(errors.DataError, match=r"has 1 \.npy files.* has 2"):
        nyuv2.load_nyuv2(str(nyuv2_dir), (4, 6))


def test_panoptic_ids_become_classes_and_numbers():
    panoptic = np.zeros((1, 5, 3), np.uint8)
    panoptic[0, 1] = 7, 1, 0
    panoptic[0, 2] = 0, 0, 1
    panoptic[0, 3] = 9, 0, 0
    panoptic[0, 4] = 5, 0, 0
    made = coco.classes_and_numbers(
        panoptic,
        np.array([5, 9, 263, 65536]),
        np.array([3, 2, 100, 2]),
        np.array([False, True, False, False]),
    )
    # None; stuff; a thing; a crowd; another thing.
    assert made[0, :, 0].tolist() == [-1, 100, 2, -1, 3]
    numbers = made[0, :, 1]
    assert (numbers > 0).tolist() == [False, False, True, False, True]
    assert numbers[2] != numbers[4]
    with pytest.raises(errors.DataError, match="segment 5"):
        coco.classes_and_numbers(
            panoptic, np.array([9]), np.array([2]), np.array([True])
        )


def test_coco_is_read_as_tensorflow_datasets_prepares_it(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    builder_cls = tfds.builder_cls("coco")

    def generated(self, num):
        for i in range(num):
            panoptic = np.zeros((8, 10 + i, 3), np.uint8)
            panoptic[:4, :, 0] = 1
            panoptic[4:, :, 0] = 2
            yield (
                i,
                {
                    "image": np.full((8, 10 + i, 3), i, np.uint8),
                    "image/filename": f"{i}.jpg",
                    "image/id": i,
                    "panoptic_image": panoptic,
                    "panoptic_image/filename": f"{i}.png",
                    "panoptic_objects": [
                        {
                            "id": number,
                            "area": 1,
                            "bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                            "label": label,
                            "is_crowd": False,
                        }
                        for number, label in ((1, 132), (2, 79))
                    ],
                },
            )

    class Coco(builder_cls, skip_registration=True):
        VERSION = builder_cls.VERSION
        BUILDER_CONFIGS = builder_cls.BUILDER_CONFIGS

        def _split_generators(self, dl_manager):
            return {
                "train": generated(self, 12),
                "validation": generated(self, 3),
            }

    made = Coco(config="2017_panoptic", data_dir=str(tmp_path))
    made.download_and_prepare()
    data = coco.load_coco(str(tmp_path), (4, 6), num_train=5)
    assert [len(x) for x in (data.train, data.validation, data.test)] == [
        *(5, 1, 3)
    ]
    labels = data.test.labels
    np.testing.assert_array_equal(
        labels["segmentation"][0, :, 0], [132, 132, 79, 79]
    )
    np.testing.assert_array_equal(labels["objects"][0, :, 0, 1], [0, 0, 1, 1])


def test_coco_that_is_not_prepared_is_named(tmp_path):
    with pytest.raises(errors.DataError, match="is not prepared in"):
        coco.load_coco(str(tmp_path), (4, 6))


def test_data_in_files_need_a_folder_and_tasks_must_exist():
    for name in ("camvid", "nyuv2", "coco"):
        with pytest.raises(errors.UsageError, match="data_dir=FOLDER"):
            sources.load_source(settings.Settings(data=name))
    small = {"num_train": 1, "num_test": 1, "image_height": 8, "image_width": 8}
    with pytest.raises(errors.UsageError, match="'pose' is requested"):
        sources.load_source(settings.Settings(task_names=("pose",), **small))
    data = sources.load_source(
        settings.Settings(task_names=("second",), **small)
    )
    assert [task.name for task in data.tasks] == ["second"]


def test_overlaid_pictures_are_those_of_both_tasks(tmp_path):
    pair = ("digits", "glyphs/greek")
    data = overlaid.load_overlaid(pair, (16, 16), seed=1)
    first, second = (data_tasks.load(name) for name in pair)
    assert [t.num_outputs for t in data.tasks] == [10, second.num_classes]
    for split in ("train", "validation", "test"):
        examples = getattr(data, split)
        num = min(len(getattr(t, split).labels) for t in (first, second))
        assert examples.images.shape == (num, 16, 16, 3)
        assert set(examples.labels) == {"first", "second"}
        assert examples.labels["second"].max() < second.num_classes
    again = overlaid.load_overlaid(pair, (16, 16), seed=1)
    np.testing.assert_array_equal(data.test.images, again.test.images)
    other = overlaid.load_overlaid(pair, (16, 16), seed=2)
    assert (data.test.images != other.test.images).any()
    # One picture alone is as bright as it was, and the maximum hides neither.
    assert data.train.images.max() == 255
    with pytest.raises(errors.UsageError, match="names 1 tasks; name two"):
        overlaid.load_overlaid(("digits",), (8, 8))


_PAIR = ("mnist", "kmnist")


@pytest.fixture
def idx_dir(tmp_path, monkeypatch):
    """Few random images in the files of MNIST and KMNIST.

    The counts and checksums that TFDS expects are theirs.
    """
    tfds = pytest.importorskip("tensorflow_datasets")
    generator = np.random.default_rng(0)
    counts = {"train": 60, "t10k": 20}
    for name in _PAIR:
        builder_cls = tfds.builder_cls(name)
        module = sys.modules[builder_cls.__module__]
        monkeypatch.setattr(module, "_TRAIN_EXAMPLES", counts["train"])
        monkeypatch.setattr(module, "_TEST_EXAMPLES", counts["t10k"])
        infos = {}
        folder = tmp_path / "manual" / name
        folder.mkdir(parents=True)
        for split, num in counts.items():
            images = generator.integers(0, 256, (num, 28, 28)).astype(np.uint8)
            labels = (np.arange(num) % 10).astype(np.uint8)
            for kind, array in (
                ("images-idx3", images),
                ("labels-idx1", labels),
            ):
                head = struct.pack(
                    f">I{array.ndim}I", 0x800 + array.ndim, *array.shape
                )
                path = folder / f"{split}-{kind}-ubyte.gz"
                path.write_bytes(gzip.compress(head + array.tobytes()))
                info = tfds.core.download.checksums.compute_url_info(path)
                infos[builder_cls.URL + path.name] = info
        monkeypatch.setattr(builder_cls, "url_infos", infos)
    return tmp_path / "manual"


def _overlaid_mnist(manual_dir, data_dir, **changes):
    """Returns the pairs of MNIST and KMNIST, prepared from their own files."""
    options = data_tasks.DataOptions(
        data_dir=str(data_dir), manual_dir=str(manual_dir)
    )
    for name in _PAIR:
        data_tasks.prepare(name, options)
    return sources.load_source(
        settings.Settings(
            overlaid=_PAIR,
            data_dir=str(data_dir),
            image_height=32,
            image_width=32,
            **changes,
        )
    )


def _check_overlaid_mnist(data, counts):
    for split, num in zip(("train", "validation", "test"), counts, strict=True):
        examples = getattr(data, split)
        assert examples.images.shape == (num, 32, 32, 3)
        # Digits and kana are drawn independently.
        first, second = (examples.labels[t] for t in ("first", "second"))
        assert first.shape == second.shape == (num,)
        assert (first != second).any()
    for task in data.tasks:
        assert task.num_outputs == 10
        assert set(data.train.labels[task.name]) == set(range(10))


def test_mnist_and_kmnist_are_read_as_the_project_prepares_them(
    idx_dir, tmp_path
):
    data = _overlaid_mnist(
        idx_dir, tmp_path / "prepared", num_train=50, num_test=15
    )
    _check_overlaid_mnist(data, (50, 3, 15))
    with pytest.raises(errors.DataError, match=r"'mnist' is not prepared in"):
        overlaid.load_overlaid(_PAIR, (32, 32), data_dir=str(tmp_path / "none"))


@pytest.mark.slow
def test_the_real_mnist_and_kmnist_lie_over_each_other(shared_dir, tmp_path):
    manual = shared_dir / "data" / "tfds_manual"
    if not all((manual / name).is_dir() for name in _PAIR):
        pytest.skip("source files of mnist and kmnist are absent")
    data = _overlaid_mnist(manual, tmp_path, num_train=8000, num_test=4000)
    _check_overlaid_mnist(data, (8000, 3000, 4000))
    # Dark around, bright in strokes.
    assert 0.1 < (data.test.images > 127).mean() < 0.4
