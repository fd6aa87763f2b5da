"""A fused generation does to each child what training it alone does."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import training_samples as samples
import two_devices

from keras_munet import errors
from keras_munet.data import preprocessing
from keras_munet.models import layer_factory
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import schedules
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.graph import generation

_FOLDER = pathlib.Path(__file__).resolve().parent
_TRUNK = ("embedding", "cls", "posembed_input", "encoderblock_0")


def _generation():
    """Children that share a trunk, parts of it, or nothing."""
    return [
        samples.job(0, 2, _TRUNK),
        samples.job(1, 2, _TRUNK[:3], hparams={"opt_nesterov": True}),
        samples.job(2, 1, _TRUNK, hparams={"opt_momentum": 0.5}),
        samples.job(3, 2, ("embedding", "posembed_input", "encoderblock_1")),
        samples.job(4, 0, ("embedding",), hparams={"opt_lr": 0.01}),
        samples.job(5, 2),
    ]


@pytest.fixture(scope="module")
def fused():
    return samples.train(_generation())


def test_a_fused_child_equals_the_same_child_trained_alone(fused):
    for child, together in zip(_generation(), fused, strict=True):
        (alone,) = samples.train([child])
        np.testing.assert_allclose(alone.losses, together.losses, atol=1e-4)
        samples.assert_close(alone, together, atol=2e-4)


def test_a_fused_child_equals_a_plain_keras_training_loop():
    child = samples.job(3, 2, ("embedding", "posembed_input", "encoderblock_1"))
    made = samples.trainer(num_cycles=1)
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
    event = ("quarters", 0)
    indices = made._train_indices(data, num_steps, event)
    seeds = made._rng("augment", *event).integers(
        0, 2**31 - 1, (num_steps, 2), dtype=np.int32
    )
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


def test_the_same_generation_gives_the_same_bits(fused):
    for first, second in zip(fused, samples.train(_generation()), strict=True):
        assert first.scores == second.scores
        samples.assert_close(first, second, atol=0.0)


def test_what_was_trained_before_does_not_matter(fused):
    made = samples.trainer()
    samples.train([samples.job(i, 2, seed=3) for i in range(3)], made)
    for first, second in zip(
        fused, samples.train(_generation(), made), strict=True
    ):
        samples.assert_close(first, second, atol=0.0)


def test_children_learn_to_tell_the_quarters():
    made = samples.trainer(num_cycles=16)
    plain = {"ds_crop": False, "ds_flip_left_right": False}
    (child,) = samples.train([samples.job(0, 2)], made, data_hparams=plain)
    assert child.quality > 0.9


def test_a_shared_frozen_component_is_one_layer_and_stays_as_it_was():
    strategy = strategy_lib.make_strategy("one_device")
    pool = layer_pool.LayerPool(strategy)
    children = [samples.job(i, 2, _TRUNK) for i in range(4)]
    graph = generation.GenerationGraph(
        generation_structure.structure_of(children, 16), pool, strategy
    )
    trunk = {id(slot.layer) for chain in graph.slots for slot in chain[:4]}
    assert len(trunk) == 4
    made = samples.trainer()
    samples.train(children, made)
    for chain in next(iter(made._graphs.values())).slots:
        for slot, part in zip(
            chain[:4], children[0].components[:4], strict=True
        ):
            for name, value in layer_factory.layer_values(
                slot.layer, part.spec
            ).items():
                np.testing.assert_array_equal(value, part.load().weights[name])


def test_children_that_differ_in_hyperparameters_share_a_compiled_step():
    # Of one replica, which has a graph of its own as several have.
    made = samples.trainer("mirrored")
    samples.train([samples.job(0, 1)], made)
    samples.train([samples.job(1, 1, hparams={"opt_lr": 0.1})], made)
    (graph,) = made._graphs.values()
    assert graph.train_batch.experimental_get_tracing_count() == 1
    assert graph.count_batch.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_graphs_and_layers_do_not_grow_with_the_number_of_generations():
    made = samples.trainer(num_cycles=1)
    for i in range(12):
        frozen = _TRUNK[: i % 4]
        samples.train([samples.job(0, 1 + i % 3, frozen, seed=i)], made)
    assert len(made._graphs) <= 8
    # At most one trained and one frozen layer of each place and shape.
    assert len(made._pool._slots) <= 2 * 8


def test_a_diverged_child_has_no_snapshot_and_harms_no_other(fused):
    children = _generation()
    children[1] = samples.job(
        1, 2, _TRUNK[:3], hparams={"opt_lr": float("nan")}
    )
    results = samples.train(children)
    assert results[1].quality is None
    assert results[1].components == {}
    samples.assert_close(results[0], fused[0], atol=0.0)


@pytest.mark.parametrize(("ties", "taken"), [(True, True), (False, False)])
def test_an_equal_score_is_a_snapshot_only_where_ties_are_accepted(ties, taken):
    # A rate of zero keeps every score as it is.
    child = samples.job(0, 1, hparams={"opt_lr": 0.0})
    (first,) = samples.train([child])
    again = samples.job(
        0, 1, hparams={"opt_lr": 0.0}, score_to_beat=first.scores[0]
    )
    (result,) = samples.train([again], accept_ties=ties)
    assert (result.quality is not None) == taken


def test_the_snapshot_is_of_the_best_cycle_and_scored_with_the_size_factor():
    child = samples.job(0, 2, size_factor=0.5)
    seen = []
    (result,) = samples.train(
        [child],
        samples.trainer(num_cycles=4),
        on_cycle=lambda cycle, scores, losses: seen.append(float(scores[0])),
    )
    assert list(result.scores) == seen
    assert result.quality == pytest.approx(max(seen) / 0.5)


def test_momentum_is_carried_over_from_a_component():
    child = samples.job(0, 1)
    (first,) = samples.train([child])
    head = first.components["head"]
    assert np.any(head.momentum["kernel"])
    strategy = strategy_lib.make_strategy("one_device")
    slot = layer_pool.LayerPool(strategy).get(layer_pool.TRAINED, head.spec, 0)
    slot.fill(lambda: head, None)
    np.testing.assert_array_equal(
        slot.snapshot().momentum["kernel"], head.momentum["kernel"]
    )


def test_every_example_is_counted_exactly_once():
    made = samples.trainer(batch_size=16)
    data = samples.data(num_validation=37)
    child = samples.job(0, 1, tuple(p.spec.name for p in _parts()))
    seen = made.evaluate(child.components, data, "validation", 16)
    # A zero head calls everything class 0.
    assert seen == pytest.approx(np.mean(data.validation.labels == 0))


def _parts():
    return samples.job(0, 1).components


def test_a_batch_that_does_not_divide_over_the_replicas_is_refused():
    code = (
        two_devices.MAKE + "import training_samples as samples\n"
        "from keras_munet import errors\n"
        "try:\n"
        "    samples.trainer('mirrored', batch_size=15)\n"
        "except errors.UsageError as e:\n"
        "    assert 'batch_size 15' in str(e)\n"
        "else:\n"
        "    raise SystemExit(1)\n"
    )
    two_devices.run(_FOLDER, code)


def test_mirrored_replicas_equal_one_device(fused, tmp_path):
    code = (
        two_devices.MAKE + "import sys, numpy as np\n"
        "import training_samples as samples, test_generation as t\n"
        "made = samples.trainer('mirrored')\n"
        "assert made._strategy.num_replicas_in_sync == 2\n"
        "out = {}\n"
        "for child in samples.train(t._generation(), made):\n"
        "    for name, c in child.components.items():\n"
        "        for key, value in c.weights.items():\n"
        "            out[f'{child.index}/{name}/{key}'] = value\n"
        "np.savez(sys.argv[1], **out)\n"
    )
    path = tmp_path / "mirrored.npz"
    two_devices.run(_FOLDER, code, str(path))
    with np.load(path) as mirrored:
        for child in fused:
            for name, component in child.components.items():
                for key, value in component.weights.items():
                    np.testing.assert_allclose(
                        mirrored[f"{child.index}/{name}/{key}"],
                        value,
                        atol=2e-4,
                        err_msg=f"{child.index}/{name}/{key}",
                    )


def test_one_mirrored_replica_equals_one_device(fused):
    # Its variables are distributed ones all the same.
    made = samples.trainer("mirrored")
    assert made._strategy.num_replicas_in_sync == 1
    for first, second in zip(
        fused, samples.train(_generation(), made), strict=True
    ):
        samples.assert_close(first, second)


def test_layers_that_do_not_fit_together_are_refused_before_a_step():
    with pytest.raises(errors.UsageError, match="patches"):
        samples.train([samples.job(0, 1)], data_hparams={"ds_image_size": 17})


@pytest.mark.slow
def test_a_second_mirrored_trainer_divides_its_batches_too():
    code = (
        two_devices.MAKE + "import training_samples as samples\n"
        "from keras_munet.train import memory\n"
        "children = [samples.job(0, 2), samples.job(1, 1, ('embedding',))]\n"
        "limit = max(memory.child_need(c, 16).bytes_at(4) for c in children)\n"
        "divided = samples.trainer('mirrored', num_bytes_max=limit)\n"
        "assert divided.passes(children, 16).num_parts == 2\n"
        "found = [\n"
        "    samples.train(children, made)\n"
        "    for made in (samples.trainer('mirrored'), divided)\n"
        "]\n"
        "for first, second in zip(*found, strict=True):\n"
        "    samples.assert_close(first, second)\n"
    )
    two_devices.run(_FOLDER, code)
