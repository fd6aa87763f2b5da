"""What a checked task guarantees."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data import types


def _split(num=4, shape=(5, 6, 1), high=3):
    images = np.zeros((num, *shape), np.uint8)
    return types.Split(images, np.arange(num, dtype=np.int32) % high)


def _task(**changes):
    task = types.TaskData("t", 3, ("a", "b", "c"), _split(), _split(), _split())
    return dataclasses.replace(task, **changes)


def test_a_sound_task_is_returned_as_it_is():
    task = _task()
    assert types.checked(task) is task


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("a",)}, "3 classes and 1 class names"),
        ({"test": _split(num=0)}, "test split .* at least one example"),
        ({"train": _split(shape=(5, 6, 4))}, "width, 1 or 3"),
        ({"validation": _split(shape=(5, 5, 1))}, "one shape"),
        ({"validation": _split(num=5, high=5)}, r"\[0, 4\].* in \[0, 2\]"),
        (
            {"train": types.Split(np.zeros((1, 2, 2, 1)), np.zeros(1))},
            "uint8 and int32",
        ),
        (
            {
                "train": types.Split(
                    np.zeros((2, 2, 2, 1), np.uint8), np.zeros(1, np.int32)
                )
            },
            "one label per image",
        ),
    ],
)
def test_an_unsound_task_is_refused_in_one_line(changes, words):
    with pytest.raises(errors.DataError, match=words) as caught:
        types.checked(_task(**changes))
    assert "\n" not in str(caught.value)


def test_a_negative_label_is_refused():
    bad = types.Split(
        np.zeros((2, 5, 6, 1), np.uint8), np.array([-1, 0], np.int32)
    )
    with pytest.raises(errors.DataError, match=r"\[-1, 0\]"):
        types.checked(_task(test=bad))


def test_a_batch_holds_the_asked_examples_in_their_order():
    images = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3, 1)
    split = types.Split(images, np.arange(5, dtype=np.int32))
    assert split.resident
    assert len(split) == 5
    assert split.num_bytes == 30
    pixels, labels = split.batch(np.array([4, 0, 4], np.int32))
    assert (pixels == images[[4, 0, 4]]).all()
    assert labels.tolist() == [4, 0, 4]
    assert labels.dtype == np.int32
    pixels[:] = 9
    assert images[0, 0, 0, 0] == 0
    with pytest.raises(IndexError):
        split.batch(np.array([5]))


# Maps a file of 4 GiB where a process may take half a GiB of memory.
_LARGE = """
import resource, sys
import numpy as np
from keras_munet.data import types

resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))
images = np.load(sys.argv[1], mmap_mode="r")
labels = np.zeros(len(images), np.int32)
whole = types.Split(images, labels, resident=False)
part = types.Split(images[8:], labels[8:], resident=False)
task = types.TaskData("t", 1, ("a",), part, part, part)
assert types.checked(task) is task
assert whole.num_bytes == 2**32, whole.num_bytes
for start in range(0, len(images), 1024):
    pixels, _ = whole.batch(np.arange(start, start + 128))
    assert type(pixels) is np.ndarray
    assert pixels.shape == (128, 256, 256, 1)
assert part.batch(np.array([0]))[0][0, 0, 0, 0] == 7
with open("/proc/self/status") as status:
    peak = next(line.split() for line in status if line.startswith("VmHWM"))
assert int(peak[1]) < 400 * 1024, peak
try:
    np.array(images)
except MemoryError:
    print("bounded")
"""


def test_a_split_that_is_not_resident_may_be_larger_than_memory(tmp_path):
    path = tmp_path / "images.npy"
    # A hole but for one byte: no disk is taken.
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(2**16, 256, 256, 1)
    )
    array[8, 0, 0, 0] = 7
    del array
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(path)],
        # A stack for each of many cores would be memory of the process, too.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "bounded"
