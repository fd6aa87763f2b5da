"""Both engines do to each child what the method says, and nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples

from keras_munet.data import preprocessing
from keras_munet.models import layer_factory
from keras_munet.train import schedules

_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")
_engines = pytest.mark.parametrize("engine", ["layerwise", "program"])
# A program is compiled for each test; one of them is always compared.
_engines_slowly = pytest.mark.parametrize(
    "engine", ["layerwise", pytest.param("program", marks=pytest.mark.slow)]
)


def _generation():
    """Children that share a trunk, parts of it, or nothing."""
    return [
        samples.job(0, 2, _TRUNK),
        samples.job(1, 2, _TRUNK[:3], hparams={"opt_nesterov": True}),
        samples.job(2, 1, _TRUNK, hparams={"opt_momentum": 0.5}),
        samples.job(3, 0, ("embedding",), hparams={"opt_lr": 0.01}),
    ]


@_engines_slowly
def test_a_child_equals_the_same_child_trained_alone(engine):
    made = samples.trainer(engine=engine)
    together = samples.train(_generation(), made)
    for child, result in zip(_generation(), together, strict=True):
        (alone,) = samples.train([child], made)
        np.testing.assert_allclose(alone.losses, result.losses, atol=1e-4)
        samples.assert_close(alone, result, atol=2e-4)


@_engines
def test_a_child_equals_a_plain_keras_training_loop(engine):
    child = samples.job(3, 2, ("embedding", "posembed_input", "encoderblock_1"))
    made = samples.trainer(num_cycles=1, engine=engine)
    (trained,) = samples.train([child], made)
    data = samples.data()
    layers = [
        layer_factory.make_layer(p.spec, f"plain_{p.spec.name}")
        for p in child.components
    ]
    tensor = images = keras.Input((16, 16, 3))
    for layer in layers:
        tensor = layer(tensor)
    model = keras.Model(images, tensor)
    for layer, part in zip(layers, child.components, strict=True):
        layer_factory.assign_values(layer, part.spec, part.load().weights)
        layer.trainable = part.trainable
    num_steps = 96 // 16
    rates = schedules.learning_rates("cosine", 0.05, 0.1, 1, num_steps)
    schedule = made.schedule(data, ("quarters", 0))
    indices, seeds = schedule.indices, schedule.seeds
    augment, _ = preprocessing.augment_hparams(samples.DATA_HPARAMS)
    optimizer = keras.optimizers.SGD(0.0, 0.9, global_clipnorm=1.0)
    for step in range(num_steps):
        batch = preprocessing.training_images(
            tf.constant(data.train.images[indices[step]]),
            16,
            tf.constant(seeds[step]),
            augment,
        )
        optimizer.learning_rate = float(rates[step])
        # Keras keeps the step, not the gradient, in its momentum, so the two
        # agree only while the rate is constant; carry the ratio over.
        if step:
            ratio = float(rates[step] / rates[step - 1])
            for slot in optimizer.momentums:
                slot.assign(slot * ratio)
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(
                data.train.labels[indices[step]],
                model(batch, training=True),
                from_logits=True,
            )
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        optimizer.apply(
            tape.gradient(loss, variables, unconnected_gradients="zero"),
            variables,
        )
    for layer, part in zip(layers, child.components, strict=True):
        if part.trainable:
            for name, value in layer_factory.layer_values(
                layer, part.spec
            ).items():
                # The momentum is rounded to bfloat16 in ours.
                np.testing.assert_allclose(
                    trained.components[part.spec.name].weights[name],
                    value,
                    atol=2e-3,
                    err_msg=f"{part.spec.name}/{name}",
                )


@_engines_slowly
def test_children_learn_to_tell_the_quarters(engine):
    made = samples.trainer(num_cycles=16, engine=engine)
    plain = {"ds_crop": False, "ds_flip_left_right": False}
    (child,) = samples.train([samples.job(0, 2)], made, data_hparams=plain)
    assert child.quality > 0.9


@_engines_slowly
@pytest.mark.parametrize(("ties", "taken"), [(True, True), (False, False)])
def test_an_equal_score_is_a_snapshot_only_where_ties_are_accepted(
    ties, taken, engine
):
    made = samples.trainer(engine=engine)
    # A rate of zero keeps every score as it is.
    child = samples.job(0, 1, hparams={"opt_lr": 0.0})
    (first,) = samples.train([child], made)
    again = samples.job(
        0, 1, hparams={"opt_lr": 0.0}, score_to_beat=first.scores[0]
    )
    (result,) = samples.train([again], made, accept_ties=ties)
    assert (result.quality is not None) == taken


@_engines_slowly
def test_the_snapshot_is_of_the_best_cycle_and_scored_with_the_size_factor(
    engine,
):
    child = samples.job(0, 2, size_factor=0.5)
    scores = []
    (result,) = samples.train(
        [child],
        samples.trainer(num_cycles=4, engine=engine),
        on_cycle=lambda cycle, values, losses: scores.append(float(values[0])),
    )
    assert list(result.scores) == scores
    assert result.quality == pytest.approx(max(scores) / 0.5)


@_engines_slowly
def test_momentum_is_carried_over_from_a_component(engine):
    made = samples.trainer(engine=engine)
    (first,) = samples.train([samples.job(0, 1)], made)
    assert np.any(first.components["head"].momentum["kernel"])

    def clone(with_momentum):
        child = samples.job(0, 1)
        parts = []
        for part in child.components:
            component = first.components[part.spec.name]
            if not with_momentum:
                component = type(component)(component.spec, component.weights)
            parts.append(
                type(part)(part.spec, lambda c=component: c, None, True)
            )
        return type(child)(
            0, tuple(parts), {**child.hparams, "opt_momentum": 0.9}
        )

    (carried,), (fresh,) = (
        samples.train([clone(way)], made) for way in (True, False)
    )
    assert carried.losses[0] != fresh.losses[0]


@_engines_slowly
def test_every_example_is_counted_exactly_once(engine):
    made = samples.trainer(engine=engine)
    data = samples.data(num_validation=37)
    names = tuple(p.spec.name for p in samples.job(0, 1).components)
    parts = samples.job(0, 1, names).components
    for split in ("validation", "test", "train"):
        right = made.evaluate(parts, data, split, 16)
        # A zero head calls everything class 0.
        assert right == pytest.approx(np.mean(getattr(data, split).labels == 0))
