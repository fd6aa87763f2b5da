"""Crops as matrix products, against TensorFlow's own operations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.data import cropping


def _boxes(height, width, num, crop=True, area=0.05, aspect=0.75, seed=0):
    draws = tf.unstack(tf.random.stateless_uniform([4, num], [seed, 1]))
    box = cropping.sample_boxes(height, width, crop, area, aspect, draws)
    return [part.numpy() for part in box]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("out_size", [7, 16, 40])
def test_crop_then_resize_equals_tensorflows(channels, out_size):
    rng = np.random.default_rng(out_size)
    images = rng.uniform(-1, 1, (12, 19, 26, channels)).astype(np.float32)
    y, x, height, width = _boxes(19, 26, 12, area=0.02, aspect=0.3)
    got = cropping.resized(
        tf.constant(images),
        cropping.resize_weights(y, height, 19, out_size),
        cropping.resize_weights(x, width, 26, out_size),
    )
    for i, image in enumerate(images):
        part = tf.image.crop_to_bounding_box(
            image, int(y[i]), int(x[i]), int(height[i]), int(width[i])
        )
        expected = tf.image.resize(part, [out_size, out_size])
        np.testing.assert_allclose(got[i], expected, atol=2e-5)


def test_the_mean_is_that_of_the_crop():
    images = np.random.default_rng(3).uniform(size=(6, 9, 8, 3))
    images = images.astype(np.float32)
    box = cropping.Boxes(*map(tf.constant, _boxes(9, 8, 6)))
    got = cropping.mean_inside(tf.constant(images), box).numpy()
    for i, (y, x, h, w) in enumerate(zip(*box, strict=True)):
        y, x, h, w = (int(v) for v in (y, x, h, w))
        expected = images[i, y : y + h, x : x + w].mean((0, 1))
        np.testing.assert_allclose(got[i, 0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (20, 60), (8, 8), (1, 1)])
@pytest.mark.parametrize("area", [0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("aspect", [0.25, 0.75, 1.0])
def test_every_box_lies_inside_and_keeps_to_the_least_area(size, area, aspect):
    y, x, h, w = _boxes(*size, 500, area=area, aspect=aspect)
    for part in (y, x, h, w):
        assert (part == np.rint(part)).all()
    assert (y >= 0).all()
    assert (x >= 0).all()
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (y + h <= size[0]).all()
    assert (x + w <= size[1]).all()
    assert (h * w >= area * size[0] * size[1] - 1e-3).all()


@pytest.mark.parametrize(
    ("size", "area", "aspect"),
    [((48, 48), 0.05, 0.75), ((48, 48), 0.5, 0.5), ((40, 64), 0.3, 0.75)],
)
def test_boxes_are_distributed_as_distorted_bounding_boxes(size, area, aspect):
    num = 1500
    y, x, h, w = _boxes(*size, num, area=area, aspect=aspect, seed=5)

    @tf.function
    def reference(seeds):
        def one(seed):
            begin, shape, _ = tf.image.stateless_sample_distorted_bounding_box(
                [*size, 3],
                tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
                seed=seed,
                min_object_covered=0.0,
                aspect_ratio_range=(aspect, 1 / aspect),
                area_range=(area, 1.0),
            )
            return tf.concat([begin[:2], shape[:2]], 0)

        return tf.map_fn(one, seeds)

    theirs = reference(np.stack([np.arange(num), np.ones(num)], 1).astype("i4"))
    ty, tx, th, tw = np.asarray(theirs, np.float64).T
    pairs = [(y, ty), (x, tx), (h, th), (w, tw), (h * w, th * tw)]
    pairs.append((w / h, tw / th))
    for ours, other in pairs:
        error = np.hypot(ours.std(), other.std()) / np.sqrt(num)
        # Rounding at the ends of the ranges may differ by part of a pixel.
        slack = 0.01 * other.mean()
        assert abs(ours.mean() - other.mean()) < 4 * error + slack
        assert abs(ours.std() - other.std()) < 0.1 * other.std()


def test_a_crop_that_is_off_or_impossible_is_the_whole_image():
    for crop, area, aspect in ((False, 0.05, 0.75), (True, 1.0, 1.0)):
        y, x, h, w = _boxes(16, 50, 20, crop=crop, area=area, aspect=aspect)
        assert (y == 0).all()
        assert (x == 0).all()
        assert (h == 16).all()
        assert (w == 50).all()
