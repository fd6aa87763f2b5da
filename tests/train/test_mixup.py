"""Training images that are mixed in pairs, by every engine."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import preprocessing
from keras_munet.train import losses

_MIXED = {"ds_mixup": 0.4}
_DATA = {
    "single": samples.data,
    "multi": samples.multi_label_data,
}


def _trained(kind, data_hparams, engine="layerwise", made=None):
    made = made or samples.trainer(engine=engine)
    return samples.train(
        samples.two_children(), made, data_hparams, _DATA[kind]()
    )


def test_draws_of_before_are_the_same_and_one_is_new():
    seed = tf.constant([3, 7])
    draws = preprocessing.draws_of(seed, 9).numpy()
    before = tf.random.stateless_uniform([12, 9], seed).numpy()
    np.testing.assert_array_equal(draws[:12], before)
    assert draws.shape == (13, 9) and len(np.unique(draws[12])) == 9


def test_images_are_mixed_in_pairs_and_the_last_of_an_odd_number_stays():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 2, 2, 3)).astype(np.float32)
    draws = tf.constant(rng.random((13, 5)), tf.float32)
    shares = preprocessing.mix_shares(draws, 0.5).numpy()
    assert (shares < 0.5).all() and len(np.unique(shares)) == 5
    mixed = preprocessing.mixed(tf.constant(images), tf.constant(shares))
    for i, partner in enumerate((1, 0, 3, 2, 4)):
        np.testing.assert_allclose(
            mixed[i],
            (1 - shares[i]) * images[i] + shares[i] * images[partner],
            atol=1e-6,
        )


def test_the_loss_of_a_mixed_image_is_keras_loss_of_mixed_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    own, partner = np.eye(3)[[0, 2, 1, 1]], np.eye(3)[[2, 0, 1, 0]]
    shares = np.array([0.0, 0.1, 0.3, 0.5], np.float32)
    soft = (1 - shares)[:, None] * own + shares[:, None] * partner
    for labels, peer, scale in (
        (
            [x.argmax(1).astype(np.int32) for x in (own, partner)],
            keras.losses.CategoricalCrossentropy,
            1,
        ),
        (
            [x.astype(np.int32) for x in (own, partner)],
            keras.losses.BinaryCrossentropy,
            3,
        ),
    ):
        mixed = losses.MixedLabels(*map(tf.constant, (*labels, shares)))
        expected = peer(from_logits=True, reduction=None)(soft, logits)
        np.testing.assert_allclose(
            losses.training_loss(tf.constant(logits), mixed),
            scale * np.asarray(expected),
            rtol=1e-5,
        )


@pytest.mark.parametrize(
    "kind", ["single", pytest.param("multi", marks=pytest.mark.slow)]
)
def test_both_engines_mix_alike(kind):
    mixed = _trained(kind, _MIXED)
    plain = _trained(kind, {})
    for one, other, unmixed in zip(
        mixed, _trained(kind, _MIXED, "program"), plain, strict=True
    ):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)
        samples.assert_close(one, other, atol=2e-3)
        assert one.losses != pytest.approx(unmixed.losses, rel=1e-3)


def test_a_share_of_zero_is_no_mixup_to_the_bit():
    for one, other in zip(
        _trained("single", {}),
        _trained("single", {"ds_mixup": 0.0}),
        strict=True,
    ):
        assert one.losses == other.losses and one.scores == other.scores


@pytest.mark.slow
def test_a_program_that_mixes_trains_unmixed_children_too():
    made = samples.trainer(engine="program")
    _trained("single", _MIXED, made=made)
    after = _trained("single", {}, made=made)
    for one, other in zip(
        after, _trained("single", {}, "program"), strict=True
    ):
        samples.assert_close(one, other, atol=1e-4)


@pytest.mark.slow
def test_batches_in_parts_mix_the_same_images():
    made = samples.trainer(num_bytes_max=1_000_000)
    passes = made.passes(samples.two_children(), 16)
    assert passes.num_parts > 1
    for one, other in zip(
        _trained("single", _MIXED, made=made),
        _trained("single", _MIXED),
        strict=True,
    ):
        samples.assert_close(one, other, atol=1e-4)


def test_mixup_is_off_unless_a_config_says_otherwise():
    settings = settings_lib.Settings.from_dict({"task_names": ["digits"]})
    assert settings.hparams["ds_mixup"] == 0.0
    assert settings_lib.LATER_KEYS["hparams"]["ds_mixup"] == 0.0
    with pytest.raises(errors.UsageError, match="ds_mixup"):
        settings_lib.Settings.from_dict({"hparams": {"ds_mixup": 0.6}})
