"""Examples on their way to a step, from memory and from disk."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import training_samples as samples

from keras_munet.data import types
from keras_munet.train import batches as batches_lib


def _on_disk(data: types.TaskData, folder) -> types.TaskData:
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        np.save(folder / f"{name}.npy", split.images)
        images = np.load(folder / f"{name}.npy", mmap_mode="r")
        splits[name] = types.Split(images, split.labels, resident=False)
    return dataclasses.replace(data, **splits)


def test_training_from_disk_gives_the_bytes_of_training_from_memory(tmp_path):
    children = [samples.job(0, 1), samples.job(1, 0)]
    data = samples.data()
    results = [
        samples.trainer().train(
            children,
            where,
            samples.DATA_HPARAMS,
            ("quarters", 0),
            accept_ties=True,
        )
        for where in (data, _on_disk(data, tmp_path))
    ]
    for first, second in zip(*results, strict=True):
        assert first.scores == second.scores
        assert first.losses == second.losses
        samples.assert_close(first, second, atol=0.0)


def test_a_step_is_given_its_examples_alone(tmp_path):
    data = _on_disk(samples.data(), tmp_path)
    indices = np.array([[5, 5, 0], [1, 95, 2]], np.int32)
    steps = list(batches_lib.Batches().of(data, "train", indices))
    assert len(steps) == 2
    for (images, labels, which), picked in zip(steps, indices, strict=True):
        assert images.shape[0] == 3
        np.testing.assert_array_equal(which, [0, 1, 2])
        np.testing.assert_array_equal(labels, data.train.labels[picked])
        np.testing.assert_array_equal(images, data.train.images[picked])


def test_a_file_that_fails_while_a_step_runs_fails_the_next_step():
    class Torn:
        resident = False
        images = np.zeros((4, 2, 2, 1), np.uint8)

        def __init__(self):
            self.num_reads = 0

        def batch(self, indices):
            self.num_reads += 1
            if self.num_reads > 1:
                raise OSError(5, "Input/output error")
            return self.images[indices], np.zeros(len(indices), np.int32)

    data = dataclasses.replace(samples.data(), train=Torn())
    steps = batches_lib.Batches().of(data, "train", np.zeros((3, 2), np.int32))
    next(steps)
    with pytest.raises(OSError, match="Input/output"):
        next(steps)


@pytest.mark.parametrize("num_examples", [1, 15, 16, 17, 50])
def test_every_example_is_counted_once(num_examples):
    # A path that is always right counts as many as there are.
    data = samples.data(num_validation=num_examples)
    constant = dataclasses.replace(
        data,
        validation=types.Split(
            data.validation.images, np.full(num_examples, 1, np.int32)
        ),
    )
    job = samples.job(0, 0)

    def load(part):
        component = part.load()
        if part.spec.name != "head":
            return component
        weights = {k: np.zeros_like(v) for k, v in component.weights.items()}
        weights["bias"][1] = 1.0
        return dataclasses.replace(component, weights=weights)

    parts = [
        dataclasses.replace(
            part,
            load=lambda part=part: load(part),
            shared_id=f"fixed-{part.spec.name}",
            trainable=False,
        )
        for part in job.components
    ]
    made = samples.trainer()
    assert made.evaluate(parts, constant, "validation", 16) == 1.0


def test_batches_are_made_ahead_in_order_and_no_more_than_may_wait():
    made = []
    asked = [threading.Event() for _ in range(6)]

    def batches():
        for number in range(6):
            made.append(number)
            asked[number].set()
            yield number

    with batches_lib.Prefetcher(batches(), 2) as ahead:
        taken = iter(ahead)
        assert next(taken) == 0
        # The next one is asked for when one is taken, and not before.
        assert asked[1].wait(10)
        assert not asked[3].wait(0.2)
        assert list(taken) == [1, 2, 3, 4, 5]
    assert made == list(range(6))


def test_an_error_in_a_batch_that_is_made_ahead_reaches_the_step():
    def batches():
        yield 0
        raise OSError("gone")

    with batches_lib.Prefetcher(batches(), 2) as ahead:
        taken = iter(ahead)
        assert next(taken) == 0
        with pytest.raises(OSError, match="gone"):
            next(taken)


def test_batches_that_nobody_takes_any_more_are_not_made():
    begun, go_on = threading.Event(), threading.Event()
    made = []

    def batches():
        for number in range(100):
            begun.set()
            go_on.wait(10)
            made.append(number)
            yield number

    ahead = batches_lib.Prefetcher(batches(), 8)
    assert begun.wait(10)
    # Leaving cancels those that wait, then waits for the one that is made.
    leaving = threading.Thread(target=ahead.__exit__)
    leaving.start()
    leaving.join(0.5)
    assert leaving.is_alive()
    go_on.set()
    leaving.join(10)
    assert made == [0]


@pytest.mark.parametrize(
    ("batch_size", "image_size", "expected"),
    [(512, 32, 8), (512, 224, 0), (64, 224, 3), (4096, 384, 0)],
)
def test_batches_ahead_are_bounded_in_bytes(batch_size, image_size, expected):
    assert batches_lib.num_prefetched(batch_size, image_size) == expected
