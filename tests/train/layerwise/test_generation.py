"""Layer by layer a generation becomes what it becomes as one graph."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.train import losses
from keras_munet.train import memory
from keras_munet.train.devices import cpu_threads

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")


def _generation():
    """Children with frozen layers below, between and above trained ones."""
    return [
        samples.job(0, 2, _TRUNK, adapters=(1,)),
        samples.job(1, 2, _TRUNK[:3], hparams={"opt_nesterov": True}),
        samples.job(2, 2, ("cls", "encoderblock_0", "encoder_norm")),
        samples.job(3, 1, factor_depth=1, adapters=(0,)),
        samples.job(4, 0, ("embedding",)),
    ]


@pytest.fixture(scope="module")
def layer_by_layer():
    return samples.train(_generation())


def test_batches_in_parts_change_children_by_rounding_alone(layer_by_layer):
    needs = [memory.child_need(child, 16) for child in _generation()]
    limit = max(need.bytes_at(8) for need in needs)
    made = samples.trainer(num_bytes_max=limit)
    assert made.passes(_generation(), 16).num_parts == 2
    for whole, parts in zip(
        layer_by_layer, samples.train(_generation(), made), strict=True
    ):
        np.testing.assert_allclose(whole.losses, parts.losses, atol=1e-5)
        samples.assert_close(whole, parts, atol=1e-5)


def test_a_child_has_the_same_bits_alone_as_among_others(layer_by_layer):
    for child, together in zip(_generation(), layer_by_layer, strict=True):
        (alone,) = samples.train([child])
        assert alone.losses == together.losses
        samples.assert_close(alone, together, atol=0.0)


@pytest.mark.parametrize("num_threads", [1, 5])
def test_bits_do_not_depend_on_how_many_threads_work(
    layer_by_layer, num_threads, monkeypatch
):
    monkeypatch.setattr(cpu_threads, "num_operations", lambda: num_threads)
    for one, other in zip(
        layer_by_layer, samples.train(_generation()), strict=True
    ):
        assert one.losses == other.losses
        samples.assert_close(one, other, atol=0.0)


def test_a_new_structure_of_known_layers_compiles_nothing():
    made = samples.trainer()
    seen = [(), _TRUNK[:1], _TRUNK[:3]]
    samples.train([samples.job(i, 2, f) for i, f in enumerate(seen)], made)
    known = set(made._engine.layer_functions._calls)
    deeper = [_TRUNK[:3], (), _TRUNK[:3], _TRUNK[:1]]
    samples.train([samples.job(i, 3, f) for i, f in enumerate(deeper)], made)
    assert len(made._engine._graphs) == 2
    assert set(made._engine.layer_functions._calls) == known


def test_steps_hold_on_to_no_batch_and_no_feature_of_it():
    made = samples.trainer(num_cycles=1)
    seen = []
    output = made._engine.layer_functions.output

    def told(kind, handle, x):
        y = output(kind, handle, x)
        seen.extend([weakref.ref(x), weakref.ref(y)])
        return y

    made._engine.layer_functions.output = told
    # A batch's parts, each of them freed before the next.
    children = [samples.job(i, 2, _TRUNK) for i in range(2)]
    limit = max(memory.child_need(child, 16).bytes_at(8) for child in children)
    made._num_bytes_max = limit
    assert made.passes(children, 16).num_parts == 2
    alive = []
    loss = made._engine.layer_functions.loss

    def counted(*args):
        alive.append(sum(ref() is not None for ref in seen))
        return loss(*args)

    made._engine.layer_functions.loss = counted
    gc.disable()
    try:
        samples.train(children, made)
    finally:
        gc.enable()
    # Of one part: images, and what the four layers of the trunk make of them.
    # Besides, the inputs of validation are kept.
    assert max(alive) <= 2 * 5 + len(made._engine._inputs._tensors)


@pytest.mark.slow
def test_functions_are_dropped_when_there_are_very_many(layer_by_layer):
    made = samples.trainer()
    made._engine.layer_functions._num_max = 10
    results = samples.train(_generation(), made)
    assert len(made._engine.layer_functions._calls) <= 10
    for one, other in zip(layer_by_layer, results, strict=True):
        samples.assert_close(one, other, atol=0.0)


def test_kept_functions_hold_no_layer():
    made = samples.trainer()
    samples.train(_generation(), made)
    slots = [weakref.ref(slot) for slot in made._engine._pool._slots.values()]
    layers = [weakref.ref(slot().layer) for slot in slots]
    made._engine._graphs.clear()
    made._engine._pool.keep_only([])
    gc.collect()
    assert not [ref for ref in (*slots, *layers) if ref() is not None]
    assert made._engine.layer_functions._calls


def test_an_error_in_a_step_is_raised_and_nothing_is_left_of_it(
    layer_by_layer, monkeypatch
):
    made = samples.trainer()

    def loss(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(made._engine.layer_functions, "loss", loss)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="no mem"):
            samples.train(_generation(), made)
    assert not [
        t for t in threading.enumerate() if t.name.startswith("dataflow")
    ]
    for one, other in zip(
        layer_by_layer, samples.train(_generation(), made), strict=True
    ):
        samples.assert_close(one, other, atol=0.0)


_ADAMW = {"opt_name": "adamw", "opt_lr": 0.01, "opt_weight_decay": 0.01}


def _generation_of_both_optimizers():
    return [
        samples.job(0, 2, _TRUNK, hparams=_ADAMW),
        samples.job(1, 2, _TRUNK[:3]),
        samples.job(2, 1, factor_depth=1, adapters=(0,), hparams=_ADAMW),
    ]


def test_adamw_and_sgd_train_side_by_side_in_every_engine():
    layers, graph = (
        samples.train(
            _generation_of_both_optimizers(), samples.trainer(strategy)
        )
        for strategy in ("one_device", "mirrored")
    )
    for first, second in zip(layers, graph, strict=True):
        np.testing.assert_allclose(first.losses, second.losses, atol=1e-4)
        assert first.scores == pytest.approx(second.scores, abs=1e-6)
    # The child of SGD does not feel the others.
    (alone,) = samples.train([samples.job(1, 2, _TRUNK[:3])])
    assert alone.losses == layers[1].losses


def test_adamw_learns_and_decays_and_forgets_its_second_moment():
    made = samples.trainer()
    first, again = (
        samples.train([samples.job(0, 1, hparams=_ADAMW)], made)[0]
        for _ in range(2)
    )
    # A slot that was used before gives the same bits: nothing is left in it.
    assert first.losses == again.losses
    assert first.losses[-1] < first.losses[0]
    strong = {**_ADAMW, "opt_weight_decay": 1.0}
    (decayed,) = samples.train([samples.job(0, 1, hparams=strong)])

    def size(child):
        weights = child.components["encoderblock_0"].weights
        return sum(float(np.abs(w).sum()) for w in weights.values())

    # 12 steps whose rates add up to about 0.06; norms begin at 1.
    assert size(decayed) < 0.995 * size(first)


def test_a_momentum_that_adamw_inherits_takes_no_long_first_step():
    plain = samples.job(0, 1, hparams=_ADAMW)

    def inherits(part):
        component = part.load()
        # As large as the gradients of another task may be, in bfloat16.
        momentum = {
            name: np.full(weight.shape, 0x3F80, np.uint16)
            for name, weight in component.weights.items()
        }
        loaded = dataclasses.replace(component, momentum=momentum)
        return dataclasses.replace(part, load=lambda: loaded)

    heir = dataclasses.replace(
        plain, components=tuple(map(inherits, plain.components))
    )
    made = samples.trainer(num_cycles=1)
    (child,) = samples.train([heir], made)
    # 6 steps of at most the rate each, but for the weight decay.
    limit = 6 * 0.01 * 1.1
    for part in plain.components:
        before = part.load().weights
        after = child.components[part.spec.name].weights
        for name, weight in before.items():
            assert np.abs(after[name] - weight).max() < limit


def test_children_smooth_their_labels_each_by_their_own_share():
    def generation():
        return [
            samples.job(0, 1, hparams={"opt_label_smoothing": 0.2}),
            samples.job(1, 1),
        ]

    layers, graph = (
        samples.train(generation(), samples.trainer(strategy))
        for strategy in ("one_device", "mirrored")
    )
    for first, second in zip(layers, graph, strict=True):
        np.testing.assert_allclose(first.losses, second.losses, atol=1e-4)
    smoothed, plain = layers
    # At the start all classes are alike, and both losses log(3).
    assert smoothed.losses[-1] > plain.losses[-1]
    (alone,) = samples.train([samples.job(1, 1)])
    assert alone.losses == plain.losses


def test_smoothed_losses_are_those_of_soft_labels():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 1, 2], np.int32)
    soft = 0.7 * np.eye(4)[labels] + 0.3 / 4
    expected = keras.losses.categorical_crossentropy(
        soft, logits, from_logits=True
    )
    found = losses.cross_entropy(tf.constant(logits), tf.constant(labels), 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adamw_takes_memory_for_its_second_moment():
    sgd, adamw = (
        memory.child_need(samples.job(0, 1, hparams=hparams), 16)
        for hparams in ({}, _ADAMW)
    )
    num_params = sum(
        part.spec.num_params for part in samples.job(0, 1).components
    )
    assert adamw.fixed - sgd.fixed == 4 * num_params
