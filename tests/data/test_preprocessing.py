"""From uint8 images to a model's input."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from keras_munet.data import cropping
from keras_munet.data import preprocessing
from keras_munet.data.preprocessing import ColorJitter

PLAIN = {
    "ds_crop": False,
    "ds_area_range_min": 0.05,
    "ds_aspect_ratio_range_min": 0.75,
    "ds_flip_left_right": False,
}


def _images(num=6, height=12, width=15, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    shape = (num, height, width, channels)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _train(images, size, seed=(1, 2), jitter=None, **hparams):
    record, use_jitter = preprocessing.augment_hparams({**PLAIN, **hparams})
    use_jitter = use_jitter if jitter is None else jitter
    return preprocessing.training_images(
        tf.constant(images), size, tf.constant(seed), record, use_jitter
    ).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 12, 31])
def test_evaluation_equals_scaling_and_tensorflows_resize(channels, size):
    images = _images(channels=channels)
    got = preprocessing.evaluation_images(images, size)
    scaled = np.repeat(images / 127.5 - 1.0, 3 // channels, -1)
    expected = tf.image.resize(scaled.astype(np.float32), [size, size])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.dtype == tf.float32


@pytest.mark.parametrize("channels", [1, 3, None])
def test_evaluation_serves_any_shape_with_one_trace(channels):
    spec = tf.TensorSpec([None, None, None, channels], tf.uint8)
    function = tf.function(
        lambda images: preprocessing.evaluation_images(images, 10),
        input_signature=[spec],
    )
    assert function.get_concrete_function().output_shapes == [None, 10, 10, 3]
    for height in (7, 20):
        images = _images(height=height, channels=channels or 1)
        expected = preprocessing.evaluation_images(images, 10)
        np.testing.assert_allclose(function(images), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_without_variation_equals_evaluation(channels):
    images = _images(channels=channels)
    for size in (12, 20):
        got = _train(images, size)
        expected = preprocessing.evaluation_images(images, size)
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_half_of_the_images_are_mirrored():
    images = np.repeat(_images(num=1), 2000, 0)
    got = _train(images, 12, ds_flip_left_right=True)
    plain = np.asarray(preprocessing.evaluation_images(images[:1], 12))[0]
    mirrored = np.abs(got - plain[:, ::-1]).max((1, 2, 3)) < 1e-5
    kept = np.abs(got - plain).max((1, 2, 3)) < 1e-5
    assert (mirrored ^ kept).all()
    assert 0.45 < mirrored.mean() < 0.55


def test_brightness_is_added_and_contrast_keeps_the_mean():
    # Middle greys, so that nothing is clipped.
    images = _images(num=400) // 4 + 96
    plain = np.asarray(preprocessing.evaluation_images(images, 12))
    shift = _train(images, 12, ds_brightness_delta=0.2) - plain
    assert np.ptp(shift, axis=(1, 2, 3)).max() < 1e-5
    shift = shift.mean((1, 2, 3))
    assert -0.2 <= shift.min() < -0.18
    assert 0.18 < shift.max() < 0.2

    square = images[:, :, :12]
    plain = np.asarray(preprocessing.evaluation_images(square, 12))
    mean = plain.mean((1, 2), keepdims=True)
    got = _train(square, 12, ds_contrast_delta=0.2)
    gain = ((got - mean) * (plain - mean)).sum((1, 2, 3))
    gain /= ((plain - mean) ** 2).sum((1, 2, 3))
    expected = (plain - mean) * gain[:, None, None, None] + mean
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert 0.8 <= gain.min() < 0.82
    assert 1.18 < gain.max() <= 1.2


def test_contrast_turns_about_the_mean_of_the_crop():
    images = _images(num=64) // 4 + 96
    cropped = _train(images, 9, ds_crop=True)
    got = _train(images, 9, ds_crop=True, ds_contrast_delta=0.5)
    # Each channel's pixels move along a line through the crop's own mean:
    # the ratio of deviations from it is one gain per image.
    fitted = [
        np.polyfit(cropped[i, ..., c].ravel(), got[i, ..., c].ravel(), 1)
        for i in range(64)
        for c in range(3)
    ]
    gains = np.array(fitted)[:, 0].reshape(64, 3)
    np.testing.assert_allclose(gains, gains[:, :1].repeat(3, 1), atol=1e-3)
    assert np.ptp(gains[:, 0]) > 0.5


def test_saturation_and_hue_change_what_their_names_say():
    images = _images(num=50, height=4, width=4)
    hsv = np.vectorize(colorsys.rgb_to_hsv)
    plain = preprocessing.evaluation_images(images, 4).numpy() / 2 + 0.5
    before = hsv(*np.moveaxis(plain.astype(np.float64), -1, 0))
    hue = _train(images, 4, ds_hue_delta=0.1) / 2 + 0.5
    after = hsv(*np.moveaxis(hue.astype(np.float64), -1, 0))
    turn = (after[0] - before[0] + 0.5) % 1.0 - 0.5
    assert np.abs(turn).max() < 0.101
    assert np.ptp(turn, axis=(1, 2)).max() < 1e-3
    np.testing.assert_allclose(after[1:], before[1:], atol=1e-4)

    grey = np.repeat(_images(channels=1), 3, -1)
    np.testing.assert_allclose(
        _train(grey, 12, ds_saturation_delta=0.2), _train(grey, 12), atol=1e-5
    )
    vivid = _train(images, 4, ds_saturation_delta=0.2) / 2 + 0.5
    after = hsv(*np.moveaxis(vivid.astype(np.float64), -1, 0))
    free = (before[1] > 0.1) & (before[1] < 0.8)
    ratio = after[1][free] / before[1][free]
    assert 0.79 < ratio.min() < 0.85
    assert 1.15 < ratio.max() < 1.21


def test_tracing_color_jitter_without_deltas_changes_nothing():
    images = _images()
    given = {"ds_crop": True, "ds_contrast_delta": 0.0}
    np.testing.assert_allclose(
        _train(images, 9, jitter=ColorJitter.BEFORE_RESIZE, **given),
        _train(images, 9, jitter=ColorJitter.OFF, **given),
        atol=1e-5,
    )


def test_equal_seeds_give_equal_images_and_others_do_not():
    images = _images()
    given = {"ds_crop": True, "ds_flip_left_right": True}
    first = _train(images, 12, (3, 4), **given)
    assert (first == _train(images, 12, (3, 4), **given)).all()
    assert np.abs(first - _train(images, 12, (3, 5), **given)).max() > 0.1


def test_each_image_has_draws_of_its_own():
    images = np.repeat(_images(num=1), 8, 0)
    got = _train(images, 12, ds_crop=True)
    assert len({image.tobytes() for image in got}) == 8


@pytest.mark.parametrize("use_xla", [False, True])
def test_one_trace_serves_every_hyperparameter(use_xla):
    images = tf.constant(_images())
    seed = tf.constant([5, 6])

    @tf.function(jit_compile=use_xla)
    def varied(images, seed, hparams):
        return preprocessing.training_images(
            images, 10, seed, hparams, ColorJitter.BEFORE_RESIZE
        )

    def call(**hparams):
        record, _ = preprocessing.augment_hparams({**PLAIN, **hparams})
        tensors = type(record)(*map(tf.constant, record))
        return varied(images, seed, tensors).numpy()

    plain = preprocessing.evaluation_images(images, 10).numpy()
    for hparams in (
        {},
        {"ds_crop": True, "ds_area_range_min": 1.0},
        {"ds_crop": True, "ds_area_range_min": 0.05},
        {"ds_flip_left_right": True, "ds_contrast_delta": 0.2},
        {"ds_saturation_delta": 0.2, "ds_hue_delta": 0.1},
    ):
        got = call(**hparams)
        assert (got == call(**hparams)).all()
        # The second crop can only be the whole image.
        unchanged = hparams.get("ds_area_range_min", 1.0) == 1.0
        unchanged = unchanged and set(hparams) <= {
            "ds_crop",
            "ds_area_range_min",
        }
        # XLA's own products are the less exact ones.
        assert (np.abs(got - plain).max() < 1e-4) == unchanged
    assert varied.experimental_get_tracing_count() == 1


def test_hyperparameters_are_read_by_their_published_names():
    record, jitter = preprocessing.augment_hparams(
        {
            "ds_area_range_min": 0.5,
            "ds_aspect_ratio_range_min": 1,
            "ds_flip_left_right": True,
            "ds_brightness_delta": 0.1,
        }
    )
    expected = (True, 0.5, 1.0, True, 0.1, *[0.0] * 3, False, *[0.0] * 3)
    assert record == expected
    assert jitter is ColorJitter.OFF
    _, jitter = preprocessing.augment_hparams({**PLAIN, "ds_hue_delta": 0.01})
    assert jitter is ColorJitter.BEFORE_RESIZE


def test_all_pixels_stay_in_range():
    got = _train(
        _images(num=50),
        9,
        ds_crop=True,
        ds_brightness_delta=0.2,
        ds_contrast_delta=0.2,
        ds_saturation_delta=0.2,
        ds_hue_delta=0.2,
    )
    assert got.min() >= -1.0
    assert got.max() <= 1.0
    assert np.isfinite(got).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [5, 15, 31])
def test_averaging_evaluation_equals_tensorflows_antialiased_resize(
    channels, size
):
    images = _images(channels=channels, height=40, width=23)
    got = preprocessing.evaluation_images(images, size, antialias=True)
    scaled = np.repeat(images / 127.5 - 1.0, 3 // channels, -1)
    expected = tf.image.resize(
        scaled.astype(np.float32), [size, size], antialias=True
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("size", [5, 15, 31])
def test_averaging_training_without_a_crop_is_averaging_evaluation(size):
    images = _images(height=40, width=23)
    got = _train(images, size, ds_crop=False, ds_antialias=True)
    expected = preprocessing.evaluation_images(images, size, antialias=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_an_averaged_crop_reads_no_pixel_outside_of_itself():
    weights = cropping.resize_weights(
        tf.constant([3.0]), tf.constant([20.0]), 40, 4, True
    ).numpy()[0]
    assert (weights[:, :3] == 0).all() and (weights[:, 23:] == 0).all()
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    # Every pixel of the crop counts.
    assert (weights.sum(0)[3:23] > 0).all()


def test_fine_strokes_survive_averaging_alone():
    images = np.full((1, 160, 160, 1), 255, np.uint8)
    images[:, :, 70] = 0
    plain = preprocessing.evaluation_images(images, 32).numpy()
    mean = preprocessing.evaluation_images(images, 32, antialias=True).numpy()
    assert plain.min() == 1.0
    assert mean.min() < 0.8


def test_colors_of_grey_images_are_left_alone():
    hparams = {**PLAIN, "ds_hue_delta": 0.1, "ds_saturation_delta": 0.1}
    _, jitter = preprocessing.augment_hparams(hparams, num_channels=1)
    assert jitter is ColorJitter.OFF


def test_averaged_images_vary_in_color_after_they_were_resized():
    hparams = {**PLAIN, "ds_hue_delta": 0.1, "ds_antialias": True}
    record, jitter = preprocessing.augment_hparams(hparams)
    assert jitter is ColorJitter.AFTER_RESIZE
    images = np.broadcast_to(_images(height=1, width=1), (6, 24, 24, 3))
    args = tf.constant(images), 8, tf.constant((1, 2)), record
    after = preprocessing.training_images(*args, jitter)
    before = preprocessing.training_images(*args, ColorJitter.BEFORE_RESIZE)
    # Of one colour all over, the order cannot matter.
    np.testing.assert_allclose(after, before, atol=1e-5)
    off = preprocessing.training_images(*args, ColorJitter.OFF)
    assert np.abs(after - off).max() > 0.01


@pytest.mark.parametrize("use_antialias", [False, True])
def test_a_shift_moves_the_image_and_reflects_at_the_border(use_antialias):
    images = np.zeros((200, 16, 16, 1), np.uint8)
    images[:, :, 8] = 255
    pixels = _train(
        images, 16, ds_crop=False, ds_shift=0.25, ds_antialias=use_antialias
    )
    at = np.argmax(pixels[:, 8, :, 0], axis=1)
    # A quarter of 16 pixels either way.
    assert at.min() == 4 and at.max() == 12
    # Nothing but what the image holds comes in.
    assert np.unique(np.round(pixels[:, 0, 0, 0], 1)).tolist() == [-1.0]
    edge = np.zeros((200, 16, 16, 1), np.uint8)
    edge[:, :, 0] = 255
    pixels = _train(edge, 16, ds_crop=False, ds_shift=0.25)
    lit = (pixels[:, 8, :, 0] > 0).sum(axis=1)
    # Mirrored, the bright border is two pixels wide inside of the image.
    assert set(lit) <= {0, 1, 2}


def test_a_zoom_scales_about_the_middle():
    images = np.zeros((300, 33, 33, 1), np.uint8)
    images[:, 12:21, 12:21] = 255
    pixels = _train(images, 33, ds_crop=False, ds_zoom=0.4, ds_antialias=True)
    sides = (pixels[:, 16, :, 0] > 0).sum(axis=1)
    assert 5 <= sides.min() <= 7 and 14 <= sides.max() <= 16
    # The middle stays the middle.
    assert (pixels[:, 16, 16, 0] > 0).all()


def test_without_shift_and_zoom_every_bit_is_as_before():
    images = _images()
    hparams = {"ds_crop": True, "ds_flip_left_right": True}
    assert (
        _train(images, 9, **hparams)
        == _train(images, 9, ds_shift=0.0, ds_zoom=0.0, **hparams)
    ).all()
    # More draws than the published augmentation has change none of its own.
    first = tf.random.stateless_uniform([9, 6], (1, 2))
    assert (preprocessing.draws_of((1, 2), 6)[:9] == first).numpy().all()


_WHOLE = {"ds_antialias": True, "ds_crop": False, "ds_image_size": 32}


@pytest.mark.parametrize(
    ("shape", "changes", "factor"),
    [
        ((160, 160, 3), {}, 4),
        ((150, 300, 3), {}, 3),
        ((100, 100, 1), {}, 2),
        ((97, 97, 1), {}, 1),
        ((64, 64, 3), {}, 1),
        ((160, 160, 3), {"ds_image_size": 64}, 2),
        # A crop reads single pixels, and published configs average none.
        ((160, 160, 3), {"ds_crop": True}, 1),
        ((160, 160, 3), {"ds_antialias": False}, 1),
    ],
)
def test_whole_images_are_averaged_to_no_less_than_training_resolves(
    shape, changes, factor
):
    assert preprocessing.averaging_factor(shape, {**_WHOLE, **changes}) == (
        factor
    )


def test_images_averaged_beforehand_train_as_their_originals():
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (300, 20, 20, 3), np.uint8)
    images = np.asarray(tf.image.resize(coarse, (160, 160))).astype(np.uint8)
    small = preprocessing.averaged(images, 2)
    means = images.reshape(300, 80, 2, 80, 2, 3).mean((2, 4))
    assert np.abs(small - means).max() <= 0.5
    seed = tf.constant([1, 2])
    augment, jitter = preprocessing.augment_hparams(
        {
            **PLAIN,
            **_WHOLE,
            "ds_shift": 0.1,
            "ds_zoom": 0.1,
        }
    )
    first, second = (
        preprocessing.training_images(i, 32, seed, augment, jitter).numpy()
        for i in (images, small)
    )
    # A level is 2 / 255; the images themselves vary by 74 levels.
    assert np.sqrt(np.mean((first - second) ** 2)) < 2 * 2 / 255
