"""Clipped SGD and its schedules against formulas and Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.train import child_job
from keras_munet.train import optimizer
from keras_munet.train import schedules


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_equal_keras_sgd_up_to_the_momentums_precision(nesterov):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3)).astype("f4")
    reference = keras.Variable(start)
    sgd = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=nesterov)
    weight, momentum = tf.constant(start), tf.zeros((5, 3), tf.bfloat16)
    for _ in range(6):
        gradient = tf.constant(rng.normal(size=(5, 3)).astype("f4"))
        sgd.apply([gradient], [reference])
        rates = tf.constant([0.05, 0.9, float(nesterov)])
        weight, momentum = optimizer.update(
            weight, momentum, gradient, tf.constant(1.0), rates
        )
    # bfloat16 has 8 significant bits: 0.4% of a step of about 0.2.
    np.testing.assert_allclose(weight, reference.value, atol=5e-3)
    assert momentum.dtype == tf.bfloat16


def test_the_clip_scales_by_the_global_norm_and_never_up():
    def scale(*parts):
        half = optimizer.half_square([tf.constant(part) for part in parts])
        return float(optimizer.clip_scale(half))

    assert scale([3.0, 0.0], [4.0]) == pytest.approx(0.2)
    assert scale([0.5]) == 1.0


def test_constant_uses_half_of_the_learning_rate():
    rates = schedules.learning_rates("constant", 0.2, 0.1, 2, 5)
    np.testing.assert_allclose(rates, np.full(10, 0.1))


def test_cosine_warms_up_from_a_hundredth_and_decays_to_zero():
    rates = schedules.learning_rates("cosine", 0.1, 0.2, 4, 25)
    assert rates[0] == pytest.approx(0.001)
    assert rates[10] == pytest.approx(0.001 + 0.099 * 10 / 20)
    assert rates[20] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert 0 <= rates[-1] < 1e-4
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()


def test_restarts_repeats_the_schedule_in_every_cycle():
    rates = schedules.learning_rates("restarts", 0.1, 0.2, 3, 10)
    one = schedules.learning_rates("cosine", 0.1, 0.2, 1, 10)
    np.testing.assert_array_equal(rates, np.tile(one, 3))


@pytest.mark.parametrize("warmup", [0.0, 0.01, 1.0])
def test_a_schedule_of_one_step_is_finite(warmup):
    rates = schedules.learning_rates("cosine", 0.1, warmup, 1, 1)
    assert rates.shape == (1,)
    assert np.isfinite(rates).all()


def test_an_unknown_schedule_is_refused():
    with pytest.raises(errors.UsageError, match="'linear'; choose one of"):
        schedules.learning_rates("linear", 0.1, 0.1, 1, 1)


def test_adamw_steps_equal_keras_adamw():
    """But for the correction of the momentum, which a clone's needs not."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3)).astype("f4")
    decay, rate, weight_decay, num_steps = 0.9, 0.01, 0.1, 30
    reference = keras.Variable(start)
    adamw = keras.optimizers.AdamW(
        1.0,
        weight_decay=weight_decay,
        beta_1=decay,
        beta_2=optimizer.SECOND_DECAY,
        epsilon=1e-12,
    )
    child = _child(opt_name="adamw", opt_weight_decay=weight_decay)
    rows = schedules.rate_table([child], 1, num_steps)[:, 0]
    weight = tf.constant(start)
    momentum, second = tf.zeros((5, 3)), tf.zeros((5, 3))
    for step in range(num_steps):
        gradient = tf.constant(rng.normal(size=(5, 3)).astype("f4"))
        row = rows[step].copy()
        # Keras corrects both moments; here the rate holds the second's.
        corrected = rate * np.sqrt(1 - optimizer.SECOND_DECAY ** (step + 1))
        row[0] = corrected / (1 - decay ** (step + 1))
        row[2] *= rate / row[0]
        adamw.learning_rate = rate
        adamw.apply([gradient], [reference])
        weight, bits, second = optimizer.adamw_update(
            weight, momentum, second, gradient, tf.constant(1.0), row
        )
        assert bits.dtype == tf.bfloat16
        # Kept whole here, so that only the rule is compared.
        momentum = decay * momentum + (1 - decay) * gradient
    np.testing.assert_allclose(weight, reference.value, atol=2e-5)


def _child(**hparams):
    return child_job.ChildJob(
        0,
        (),
        {
            "opt_lr_schedule": "constant",
            "opt_lr": 0.02,
            "opt_lr_warmup_ratio": 0.1,
            "opt_momentum": 0.9,
            "opt_nesterov": False,
            **hparams,
        },
    )


def test_a_childs_rates_say_what_its_optimizer_needs():
    sgd, adamw = schedules.rate_table(
        [_child(), _child(opt_name="adamw", opt_weight_decay=0.3)], 2, 5
    ).transpose(1, 0, 2)
    np.testing.assert_allclose(sgd, np.tile([0.01, 0.9, 0.0], (10, 1)))
    # The second moment is small at first, and so is the rate.
    expected = 0.01 * np.sqrt(1 - optimizer.SECOND_DECAY ** np.arange(1, 11))
    np.testing.assert_allclose(adamw[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(adamw[:, 1:], np.tile([0.9, 0.3], (10, 1)))
