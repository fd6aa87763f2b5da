"""Tasks of TFDS: prepared offline, read whole, refused in one line."""

from __future__ import annotations

import itertools
import shutil
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_munet import errors
from keras_munet.data import image_storage
from keras_munet.data import tasks
from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import tasks as tfds_tasks

CONFIGS = {"bangla": (4000, 1000, 1000), "telugu": (2000, 500, 500)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a task reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def manual_dir(shared_dir):
    return shared_dir / "data" / "tfds_manual"


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def _refused(name, kind=errors.DataError, **places):
    with pytest.raises(kind) as caught:
        tasks.load(name, **places)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _copied(manual_dir, tmp_path):
    folder = tmp_path / "manual" / "cmaterdb" / "bangla"
    folder.mkdir(parents=True)
    for file in (manual_dir / "cmaterdb" / "bangla").iterdir():
        shutil.copyfile(file, folder / file.name)
    return folder


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_source_files_are_prepared_once_and_then_read(
    config, manual_dir, prepared_dir, capfd
):
    name = f"cmaterdb/{config}"
    first = tasks.load(
        name, data_dir=str(prepared_dir), manual_dir=str(manual_dir)
    )
    # Nothing but the data set's own folder is left.
    assert [p.name for p in prepared_dir.iterdir()] == ["cmaterdb"]
    again = tasks.load(name, data_dir=str(prepared_dir))
    assert "ownload" not in "".join(capfd.readouterr())
    splits = [first.train, first.validation, first.test]
    assert tuple(len(s.labels) for s in splits) == CONFIGS[config]
    assert first.num_classes == 10
    # Stored with three equal channels, kept as one.
    assert first.train.images.shape[1:] == (32, 32, 1)
    assert (first.train.images == again.train.images).all()
    assert (first.test.labels == again.test.labels).all()


def test_splits_hold_every_example_of_the_source_once(manual_dir, prepared_dir):
    data = tasks.load(
        "cmaterdb/telugu",
        data_dir=str(prepared_dir),
        manual_dir=str(manual_dir),
    )
    folder = manual_dir / "cmaterdb" / "telugu"
    source = np.load(folder / "training-images.npz")["images"]
    read = np.concatenate([data.train.images, data.validation.images])
    assert sorted(np.repeat(i, 3, -1).tobytes() for i in read) == sorted(
        np.asarray(i, np.uint8).tobytes() for i in source
    )


def test_a_missing_file_is_named_before_any_is_read_and_leaves_nothing(
    manual_dir, tmp_path, monkeypatch
):
    folder = _copied(manual_dir, tmp_path)
    (folder / "testing-images.npz").unlink()
    read = []
    monkeypatch.setattr(
        tfds.builder_cls("cmaterdb"),
        "_generate_examples",
        lambda *args, **kwargs: read.append(1) or iter(()),
    )
    message = _refused(
        "cmaterdb/bangla",
        data_dir=str(tmp_path / "prepared"),
        manual_dir=str(tmp_path / "manual"),
    )
    assert not read
    assert "'testing-images.npz'" in message
    assert str(folder) in message
    assert not (tmp_path / "prepared").exists()


def test_a_changed_byte_is_named_with_both_checksums(manual_dir, tmp_path):
    folder = _copied(manual_dir, tmp_path)
    damaged = folder / "testing-images.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    with pytest.raises(errors.DataError) as caught:
        tasks.load(
            "cmaterdb/bangla",
            data_dir=str(prepared),
            manual_dir=str(tmp_path / "manual"),
        )
    message = str(caught.value)
    assert str(damaged) in message
    assert "d1c9780ba5decc13" in message
    assert message.count("SHA-256") == 1
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert not list(prepared.iterdir())


def test_a_failure_while_writing_leaves_nothing(
    manual_dir, tmp_path, monkeypatch
):
    builder = tfds.builder_cls("cmaterdb")

    def fails(self, data_path):
        raise OSError("disk gone\nfor good")
        yield

    monkeypatch.setattr(builder, "_generate_examples", fails)
    message = _refused(
        "cmaterdb/bangla",
        data_dir=str(tmp_path / "prepared"),
        manual_dir=str(manual_dir),
    )
    assert "disk gone for good" in message
    assert not (tmp_path / "prepared").exists()


def test_a_folder_that_cannot_be_written_is_named(manual_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = _refused(
        "cmaterdb/bangla",
        data_dir=str(tmp_path / "file"),
        manual_dir=str(manual_dir),
    )
    assert str(tmp_path / "file") in message


def test_unprepared_data_without_source_files_say_what_to_do(tmp_path):
    message = _refused("cmaterdb/bangla", data_dir=str(tmp_path))
    assert "python launch/tasks.py prepare cmaterdb/bangla" in message
    assert f"--data_dir={tmp_path} with --manual_dir=FOLDER" in message
    assert "FOLDER/cmaterdb/bangla/<file>" in message
    message = _refused(
        "mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "none")
    )
    assert str(tmp_path / "none" / "mnist") in message


def test_a_data_set_without_labels_is_refused_before_its_data_are(tmp_path):
    message = _refused("binarized_mnist", data_dir=str(tmp_path))
    assert "has no class labels: its features are image (Image)" in message


def test_a_config_is_asked_for_where_there_are_several():
    message = _refused("cmaterdb", errors.UsageError)
    assert "cmaterdb/devanagari" in message
    message = _refused("cmaterdb/bangal", errors.UsageError)
    assert "such as cmaterdb/bangla" in message
    assert "no configs" in _refused("mnist/small", errors.UsageError)


class OneSplitTask(tfds.core.GeneratorBasedBuilder):
    """A data set with one split; image i is filled with i."""

    VERSION = tfds.core.Version("1.0.0")
    NUM_EXAMPLES = 200

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                    "picture": tfds.features.Image(shape=(4, 5, 1)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(self.NUM_EXAMPLES):
            picture = np.full((4, 5, 1), i, np.uint8)
            yield i, {"label": i % 2, "picture": picture}


@pytest.fixture(scope="module")
def one_split_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_split")
    OneSplitTask(data_dir=folder).download_and_prepare()
    return folder


def test_a_data_set_with_train_alone_gives_three_disjoint_splits(
    one_split_dir,
):
    data = tasks.load("one_split_task", data_dir=str(one_split_dir))
    values = [
        s.images[:, 0, 0, 0].tolist()
        for s in (data.train, data.validation, data.test)
    ]
    assert [len(v) for v in values] == [180, 10, 10]
    assert sorted(itertools.chain(*values)) == list(range(200))
    assert data.class_names == ("a", "b")
    assert (data.train.labels == data.train.images[:, 0, 0, 0] % 2).all()


@pytest.mark.parametrize(
    "name", ["exp[1-3]", "[a]", "what?", "all*", "back\\slash", "a [b] c*/[d]"]
)
def test_a_folder_is_a_name_and_no_pattern(name, one_split_dir, tmp_path):
    shutil.copytree(one_split_dir, tmp_path / name)
    # What the names would match as patterns.
    (tmp_path / "exp1").mkdir()
    (tmp_path / "whatx").mkdir()
    expected = tasks.load("one_split_task", data_dir=str(one_split_dir))
    data = tasks.load("one_split_task", data_dir=str(tmp_path / name))
    assert (data.train.images == expected.train.images).all()
    described = tfds_tasks.describe("one_split_task", str(tmp_path / name))
    assert described.prepared == (True,)


def test_a_data_set_is_prepared_in_a_folder_with_brackets(tmp_path):
    folder = tmp_path / "data[1-3]"
    folder.mkdir()
    builder = tfds_builders.open_in("one_split_task", str(folder))
    builder.download_and_prepare()
    assert (folder / "one_split_task" / "1.0.0").is_dir()
    data = tasks.load("one_split_task", data_dir=str(folder))
    assert len(data.train) == 180


def test_more_pixels_than_memory_may_hold_become_squares_or_files(
    one_split_dir, monkeypatch
):
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 200 * 4 * 5)
    exact = tasks.load("one_split_task", data_dir=str(one_split_dir))
    assert exact.train.images.shape[1:] == (4, 5, 1)
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 200 * 4 * 5 - 1)
    monkeypatch.setattr(image_storage, "SIDES", (4, 3))
    square = tasks.load("one_split_task", data_dir=str(one_split_dir))
    assert square.train.images.shape[1:] == (4, 4, 1)
    # Every image has one value, which no resize changes.
    assert (square.train.images[:, 0, 0] == exact.train.images[:, 0, 0]).all()
    monkeypatch.setattr(image_storage, "NUM_BYTES_MAX", 200 * 3 * 3 - 1)
    message = _refused("one_split_task", data_dir=str(one_split_dir))
    assert "array files are not prepared" in message
    assert "prepare one_split_task --image_size=32" in message


class ManySizesTask(tfds.core.GeneratorBasedBuilder):
    """Images of many widths: the left half dark, the right half bright."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "label": tfds.features.ClassLabel(num_classes=2),
                    "image": tfds.features.Image(shape=(None, None, 3)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(40, 80):
            image = np.zeros((100, 2 * i, 3), np.uint8)
            image[:, i:, 0] = 200
            yield i, {"label": i % 2, "image": image}


def test_images_of_many_sizes_become_squares_of_the_whole_image(tmp_path):
    ManySizesTask(data_dir=tmp_path).download_and_prepare()
    data = tasks.load("many_sizes_task", data_dir=str(tmp_path))
    images = data.train.images
    assert images.shape == (
        36,
        image_storage.SIDES[0],
        image_storage.SIDES[0],
        3,
    )
    half = image_storage.SIDES[0] // 2
    assert (images[:, :, : half - 4] == 0).all()
    assert (images[:, :, half + 4 :, 0] == 200).all()


def test_a_set_prepared_in_any_folder_is_read_and_never_written(
    one_split_dir, tmp_path
):
    places = f"{tmp_path / 'mine'},{one_split_dir}"
    data = tasks.load("one_split_task", data_dir=places)
    assert len(data.train.labels) == 180
    assert not (tmp_path / "mine").exists()


def test_prepared_data_without_code_are_read(one_split_dir, tmp_path):
    target = tmp_path / "data" / "nobodys_task"
    shutil.copytree(one_split_dir / "one_split_task", target)
    for file in list(target.rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            if file.suffix == ".json":
                content = content.replace(b"one_split_task", b"nobodys_task")
            name = file.name.replace("one_split_task", "nobodys_task")
            file.unlink()
            (file.parent / name).write_bytes(content)
    places = f"{tmp_path / 'mine'},{tmp_path / 'data'}"
    data = tasks.load("nobodys_task", data_dir=places)
    assert data.class_names == ("a", "b")
    assert len(data.train.labels) == 180


def test_what_no_folder_has_is_prepared_in_the_first(
    manual_dir, one_split_dir, tmp_path
):
    before = sorted(one_split_dir.rglob("*"))
    data = tasks.load(
        "cmaterdb/telugu",
        data_dir=f"{tmp_path},{one_split_dir}",
        manual_dir=str(manual_dir),
    )
    assert len(data.test.labels) == 500
    assert (tmp_path / "cmaterdb" / "telugu").is_dir()
    assert sorted(one_split_dir.rglob("*")) == before


def test_a_damaged_record_is_refused(one_split_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(one_split_dir, folder)
    record = next(folder.rglob("*tfrecord*"))
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 255
    record.write_bytes(bytes(content))
    message = _refused("one_split_task", data_dir=str(folder))
    assert "prepare it again" in message


@pytest.mark.slow
def test_grey_images_in_three_channels_are_kept_as_one(shared_dir):
    data = tasks.load("omniglot", data_dir=str(shared_dir / "data" / "tfds"))
    splits = [data.train, data.validation, data.test]
    assert [len(s.labels) for s in splits] == [19_280, 2_720, 3_120]
    assert {s.images.shape[1:] for s in splits} == {(105, 105, 1)}
    assert data.num_classes == 1_623


def test_reading_a_task_writes_nothing_to_the_terminal(one_split_dir, capfd):
    tasks.load("one_split_task", data_dir=str(one_split_dir))
    assert "dataset" not in capfd.readouterr().out
    print("the terminal is ours again")
    assert "ours again" in capfd.readouterr().out
