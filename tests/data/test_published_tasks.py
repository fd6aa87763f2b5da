"""All 69 published tasks on TFDS's own features, without their data.

The files that a prepared data set has besides its records are written with
the published numbers of examples; `tfds.testing.mock_data` makes up records.
Objects of clevr and kitti are made by hand: mock data draw their numbers and
distances from ranges that the real scenes do not have.
"""

from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from keras_munet.data import image_storage
from keras_munet.data import labels
from keras_munet.data import types
from keras_munet.data.tfds import builders as tfds_builders
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources as sources
from keras_munet.data.tfds import offline as tfds_offline
from keras_munet.data.tfds import reading as tfds_reading
from keras_munet.data.tfds import tasks as tfds_tasks

TASKS = list(catalogue.tasks().values())
# In files whatever is asked for: 1.3 million images.
LARGEST = {"imagenet2012", "visual_domain_decathlon/imagenet12"}
# Pixels: of the smallest published experiments and of the largest.
IMAGE_SIZES = (32, 384)
NUM_MOCKED = 4
NUM_TRAIN = {
    "imagenet2012": 1_281_167,
    "caltech101": 2_754,
    "svhn_cropped": 65_931,
    "dsprites/label_orientation": 589_824,
    "kitti/count_vehicles": 6_347,
    "emnist/letters": 84_360,
    "omniglot": 19_280,
}


@pytest.fixture(scope="module")
def index_dir(tmp_path_factory):
    """Every source as if prepared, its records missing."""
    folder = tmp_path_factory.mktemp("index")
    with tfds_offline.quiet():
        for name, source in sources.SOURCES.items():
            builder = tfds_builders.open_in(name, str(folder))
            _write_index(builder, source)
    return folder


def _write_index(builder, source):
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[count],
            num_bytes=0,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name=builder.name,
                data_dir=epath.Path(builder.data_path),
                filetype_suffix="tfrecord",
                split=split,
            ),
        )
        for split, count in source.num_examples.items()
    ]
    epath.Path(builder.data_path).mkdir(parents=True)
    builder.info.set_splits(tfds.core.splits.SplitDict(splits))
    builder.info.write_to_directory(builder.data_path)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_published_task_resolves_to_its_published_counts(task, index_dir):
    unprepared = tfds_tasks.describe(task.name, str(index_dir / "none"))
    prepared = tfds_tasks.describe(task.name, str(index_dir))
    assert all(prepared.prepared)
    assert not any(unprepared.prepared)
    # What the catalogue says equals what TFDS makes of an index.
    assert unprepared.num_examples == prepared.num_examples
    assert prepared.problem == ""
    assert len(prepared.form.class_names) == task.num_classes
    if task.benchmark == "VTAB-1k":
        assert prepared.num_examples["train"] == 800
        assert prepared.num_examples["validation"] == 200
    if task.name in NUM_TRAIN:
        assert prepared.num_examples["train"] == NUM_TRAIN[task.name]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_a_published_task_is_stored_large_enough_for_what_is_asked(
    image_size, task, index_dir
):
    described = tfds_tasks.describe(task.name, str(index_dir), image_size)
    source = sources.SOURCES[task.source]
    form = described.form
    num_bytes = sum(described.num_examples.values()) * math.prod(form.shape)
    height, width, _ = source.shape
    bounds = [n for n in (height, width, source.side_max) if n]
    assert min(form.shape[:2]) >= min(image_size, *bounds)
    if form.resident:
        assert num_bytes <= 2 * 2**30
        assert described.num_array_bytes == 0
    else:
        # No larger than it must be.
        assert max(form.shape[:2]) <= max(image_size, height, width)
        assert described.num_array_bytes == num_bytes > 2 * 2**30
        assert not described.arrays_prepared
    if task.name in LARGEST:
        assert not form.resident


def _distinct():
    """One task for every way to read a source."""
    return list({(t.source, t.label): t for t in TASKS}.values())


@pytest.mark.parametrize("task", _distinct(), ids=lambda t: t.name)
def test_a_published_task_is_read_from_records_of_its_features(task, index_dir):
    computed = labels.FUNCTIONS.get(task.label)
    with (
        tfds_offline.quiet(),
        tfds.testing.mock_data(
            num_examples=NUM_MOCKED,
            policy=tfds.testing.MockPolicy.USE_FILES,
            data_dir=str(index_dir),
            as_dataset_fn=_scenes if computed else None,
        ),
    ):
        builder = tfds_builders.open_in(task.source, str(index_dir))
        source = sources.SOURCES[task.source]
        form = tfds_reading.form(
            task.name,
            builder.info.features,
            NUM_MOCKED,
            label=task.label,
            side_max=source.side_max,
            pixel_max=source.pixel_max,
            image_size=32,
        )
        split = tfds_reading.read_examples(
            builder, task.plan.train, form, NUM_MOCKED
        )
    height, width, _ = source.shape
    side = min(source.side_max, image_storage.SIDES[0])
    assert split.images.shape[:3] == (NUM_MOCKED, height or side, width or side)
    data = types.TaskData(
        task.name, task.num_classes, form.class_names, split, split, split
    )
    assert types.checked(data) is data
    if source.pixel_max == 1:
        assert set(np.unique(split.images)) <= {0, 255}


def _scenes(self, split, decoders=None, read_config=None, **kwargs):
    """Stands for `as_dataset`: records as TFDS decodes them."""
    del split, read_config, kwargs
    kitti = self.name == "kitti"
    generator = np.random.default_rng(0)

    def scenes():
        for i in range(NUM_MOCKED):
            num = 3 + i
            drawn = {
                "type": generator.integers(0, 8, num),
                "location": generator.uniform(1, 60, (num, 3)),
                "size": generator.integers(0, 2, num),
                "shape": generator.integers(0, 3, num),
                "pixel_coords": generator.uniform(7, 12, (num, 3)),
            }
            objects = {
                k: drawn[k].astype(spec["objects"][k].dtype.as_numpy_dtype)
                for k in spec["objects"]
            }
            image = generator.integers(0, 256, (60 + i, 90, 3), np.uint8)
            yield {"image": image, "objects": objects}

    wanted = decoders.extract_features(self.info.features)
    spec = tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape, t.dtype), wanted.get_tensor_info()
    )
    assert kitti == ("type" in spec["objects"] or "location" in spec["objects"])
    return tf.data.Dataset.from_generator(scenes, output_signature=spec)


@pytest.mark.parametrize("name", catalogue.OTHERS)
def test_another_data_set_of_tfds_has_images_and_classes(name, tmp_path):
    description = tfds_tasks.describe(name, str(tmp_path))
    assert description.problem == ""
    assert len(description.form.class_names) > 1
    assert description.num_examples == {}


def test_the_table_in_the_docs_says_what_the_tasks_are(index_dir):
    docs = pathlib.Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
    rows = {}
    for line in docs.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 10 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:]
    assert set(rows) == set(catalogue.tasks())
    for task in TASKS:
        assert rows[task.name] == _documented(task, index_dir)


def _documented(task, index_dir):
    """Returns the cells of a task's row besides its name."""
    source = sources.SOURCES[task.source]
    small, large = (
        tfds_tasks.describe(task.name, str(index_dir), image_size)
        for image_size in IMAGE_SIZES
    )
    return [
        task.benchmark,
        f"`{task.source}:{source.version}`",
        " ".join(f"`{instruction}`" for instruction in task.plan[:3]),
        " / ".join(f"{small.num_examples[s]:,}" for s in types.SPLIT_NAMES),
        f"{task.num_classes:,}",
        _stored(small),
        "the same" if small.form == large.form else _stored(large),
        source.licence,
        "yes" if source.manual_files else "",
    ]


def _stored(described):
    text = " x ".join(map(str, described.form.shape))
    if described.form.resized:
        text += " (square)"
    if described.num_array_bytes:
        text += f", {described.num_array_bytes / 2**30:.1f} GiB in files"
    return text
