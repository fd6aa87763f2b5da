"""The alternating step: who is trained by what, on any number of devices."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import keras
import numpy as np
import overparam_samples as samples
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.overparam import combiners
from keras_munet.overparam import layers
from keras_munet.overparam import model_transform
from keras_munet.overparam import schedule as schedule_lib
from keras_munet.overparam import training

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TASKS = tuple(sorted(samples.TASKS))
_RATE = 0.1
# Logical devices can only be made before TensorFlow starts.
_TWO_DEVICES = (
    "import tensorflow as tf\n"
    "cpu = tf.config.list_physical_devices('CPU')[0]\n"
    "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
    "tf.config.set_logical_device_configuration(cpu, two)\n"
)


def _groups(made):
    """Returns group -> the values of its variables."""
    own = {task: [] for task in _TASKS}
    for layer in made.model.layers:
        if isinstance(layer, layers.Factorized):
            for task in layer.tasks:
                own[task] += layer.task_variables(task)
    of_tasks = {id(v) for vs in own.values() for v in vs}
    own["shared"] = [
        v for v in made.model.trainable_variables if id(v) not in of_tasks
    ]
    return {name: [v.numpy() for v in vs] for name, vs in own.items()}


def _changed(before, after):
    return {
        name
        for name in before
        if any(
            not np.array_equal(a, b)
            for a, b in zip(before[name], after[name], strict=True)
        )
    }


def test_steps_take_turns_as_the_schedule_says():
    made = samples.trainer(schedule=schedule_lib.Schedule(2, 1))
    trained = []
    for step in range(6):
        before = _groups(made)
        made.step(*samples.batch(step))
        trained.append(_changed(before, _groups(made)))
    shared, *own = {"shared"}, *({task} for task in _TASKS)
    assert trained == [shared, shared, *own, shared]


def test_together_each_batch_trains_the_shared_and_one_task():
    made = samples.trainer(
        samples.without_norm, schedule=schedule_lib.Schedule(together=True)
    )
    for step in range(4):
        before = _groups(made)
        made.step(*samples.batch(step))
        expected = {"shared", _TASKS[step % 3]}
        assert _changed(before, _groups(made)) == expected


def _gradients(model, images, labels, tasks, variables):
    """Returns the gradients of the summed mean losses, by a plain tape."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.add_n(
            [
                tf.reduce_mean((outputs[task] - labels[task]) ** 2)
                for task in tasks
            ]
        )
    return tape.gradient(loss, [v.value for v in variables])


@pytest.mark.parametrize("step", [0, 2])
def test_an_update_follows_the_gradient_of_the_right_losses(step):
    # Step 0 is for the shared variables, step 2 for the second task's own.
    plain = keras.optimizers.SGD
    made = samples.trainer(shared_optimizer=lambda: plain(_RATE))
    made.num_steps_done = step
    own = _TASKS[1]
    variables = (
        [v for v in made.model.trainable_variables if "task_" not in v.path]
        if step == 0
        else [
            v
            for layer in made.model.layers
            if isinstance(layer, layers.Factorized)
            for v in layer.task_variables(own)
        ]
    )
    images, labels = samples.batch(step)
    state = [v.numpy() for v in made.model.variables]
    gradients = _gradients(
        made.model, images, labels, [own] if step else _TASKS, variables
    )
    # The tape's own pass has moved the batch norm's statistics.
    for variable, value in zip(made.model.variables, state, strict=True):
        variable.assign(value)
    before = [v.numpy() for v in variables]
    losses = made.step(images, labels)
    for old, gradient, new in zip(before, gradients, variables, strict=True):
        np.testing.assert_allclose(
            new.numpy(), old - _RATE * gradient, atol=1e-6
        )
    assert set(losses) == set(_TASKS)


def test_training_makes_every_loss_smaller():
    made = samples.trainer(
        samples.without_norm,
        shared_optimizer=lambda: keras.optimizers.Adam(0.01),
    )
    history = [made.step(*samples.batch(0)) for _ in range(60)]
    for task in _TASKS:
        assert history[-1][task] < 0.8 * history[0][task]


def test_a_network_without_factors_takes_shared_steps_alone():
    for make in (
        samples.network,
        lambda: model_transform.overparameterize(samples.network(), ()),
    ):
        made = samples.trainer(make)
        assert made.factored_tasks == ()
        for step in range(2):
            before = _groups(made)["shared"]
            made.step(*samples.batch(step))
            after = _groups(made)["shared"]
            for a, b in zip(before, after, strict=True):
                assert not np.array_equal(a, b)


def test_one_task_alone_needs_no_name_for_its_output():
    def one():
        source = keras.Input((4,))
        return model_transform.overparameterize(
            keras.Model(source, keras.layers.Dense(2, name="out")(source)),
            ["only"],
        )

    from keras_munet.train.devices import strategy as strategy_lib

    made = training.Trainer(
        strategy_lib.make_strategy("one_device"),
        one,
        {"only": samples.squared_error},
        shared_optimizer=lambda: keras.optimizers.SGD(0.1),
    )
    x, y = np.ones((2, 4), np.float32), np.ones((2, 2), np.float32)
    losses = [float(made.step(x, {"only": y})["only"]) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert set(made.predict(x)) == {"only"}


def test_a_task_without_labels_in_a_batch_changes_nothing_of_its_own():
    made = samples.trainer(samples.without_norm)
    images, labels = samples.batch(0)
    labels["depth"] = np.full_like(labels["depth"], np.nan)
    before = _groups(made)
    for _ in range(4):
        losses = made.step(images, labels)
    assert float(losses["depth"]) == 0.0
    after = _groups(made)
    assert _changed(before, after) == {"shared", "normals", "segmentation"}
    assert all(np.isfinite(v).all() for vs in after.values() for v in vs)


class _Doubled(combiners.Combiner):
    """Twice the sum, by losses or by gradients."""

    def __init__(self, per_task):
        self.per_task = per_task

    def total(self, losses):
        return 2.0 * super().total(losses)

    def combine(self, gradients, seed):
        assert seed.shape == (2,)
        columns = zip(*gradients.values(), strict=True)
        return [
            2.0 * tf.add_n([g for g in column if g is not None])
            for column in columns
        ]


def test_combining_gradients_equals_combining_losses():
    of_losses, of_gradients = (
        samples.trainer(combiner=_Doubled(per_task))
        for per_task in (False, True)
    )
    # Initialisers draw from Python's global generator, which threads of
    # other tests may advance: both trainers begin from one state.
    for name, variable in of_gradients.state_variables().items():
        variable.assign(of_losses.state_variables()[name].value)
    results = []
    for made in (of_losses, of_gradients):
        made.step(*samples.batch(0))
        results.append(_groups(made)["shared"])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("per_task", [False, True])
def test_penalties_of_layers_that_were_kept_are_trained_too(per_task):
    def penalised():
        model = samples.network_without_norm()
        head = keras.layers.Dense(1, kernel_regularizer="l2", name="kept")
        outputs = dict(model(model.inputs[0]))
        outputs["depth"] = head(outputs["normals"])
        return model_transform.overparameterize(
            keras.Model(model.inputs, outputs), keep="kept"
        )

    made = samples.trainer(
        penalised,
        combiner=_Doubled(per_task) if per_task else None,
        shared_optimizer=lambda: keras.optimizers.SGD(_RATE),
    )
    images, labels = samples.batch(0)
    kernel = made.model.get_layer("kept").kernel
    before = kernel.numpy()
    # Without labels nothing but the penalty is left: 0.01 times the squares.
    made.step(images, {t: np.full_like(y, np.nan) for t, y in labels.items()})
    expected = before * (1.0 - _RATE * 2 * 0.01)
    np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-5)


class _Weighted(combiners.Combiner):
    """A trained weight of the loss, as uncertainty weighting has."""

    def build(self, tasks):
        self.log_scale = keras.Variable(0.0, name="log_scale")
        return [self.log_scale]

    def total(self, losses):
        scale = self.log_scale.value
        return tf.exp(-scale) * super().total(losses) + scale


def test_a_combiner_trains_variables_of_its_own_and_they_are_kept():
    combiner = _Weighted()
    made = samples.trainer(
        combiner=combiner, shared_optimizer=lambda: keras.optimizers.SGD(_RATE)
    )
    total = sum(map(float, made.step(*samples.batch(0)).values()))
    # d(exp(-s) L + s)/ds = 1 - L at s = 0.
    expected = -_RATE * (1.0 - total)
    np.testing.assert_allclose(combiner.log_scale.numpy(), expected, rtol=1e-5)
    assert "combiner.0" in made.state_variables()


@pytest.mark.parametrize(
    "combiner",
    ["_Weighted()", pytest.param("_Doubled(True)", marks=pytest.mark.slow)],
)
def test_two_replicas_train_as_one(combiner):
    code = (
        _TWO_DEVICES + "import sys, numpy as np\n"
        "import overparam_samples as samples\n"
        "import test_training as own\n"
        "from keras_munet.overparam import schedule\n"
        "def run(strategy):\n"
        "    made = samples.trainer(samples.without_norm, strategy,\n"
        f"        combiner=own.{combiner},\n"
        "        schedule=schedule.Schedule(together=True))\n"
        "    images, labels = samples.batch(0)\n"
        # Unequal numbers of labels on the two.
        "    labels['depth'][:1] = np.nan\n"
        "    losses = made.step(images, labels)\n"
        "    return samples.values(made), losses\n"
        "(one, a), (two, b) = run('one_device'), run('mirrored')\n"
        "for name in one:\n"
        "    np.testing.assert_allclose(one[name], two[name], atol=1e-5)\n"
        "for task in a:\n"
        "    np.testing.assert_allclose(a[task], b[task], rtol=1e-5)\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=pathlib.Path(__file__).parent,
    )
    assert done.stdout.endswith("done\n"), done.stderr[-2000:]


def test_tasks_outputs_and_labels_must_agree():
    with pytest.raises(errors.UsageError, match="give each output one loss"):
        samples.trainer(_without_depth)
    made = samples.trainer()
    images, labels = samples.batch(0)
    del labels["depth"]
    with pytest.raises(errors.UsageError, match="no labels for task 'depth'"):
        made.step(images, labels)


def _without_depth():
    model = samples.network()
    outputs = {t: model.get_layer(f"{t}_head").output for t in _TASKS[1:]}
    return keras.Model(model.inputs, outputs)


@pytest.mark.parametrize("value", [0, -1, True, 1.5])
def test_a_schedule_counts_batches(value):
    with pytest.raises(errors.UsageError, match="integer of 1 or more"):
        schedule_lib.Schedule(shared_steps=value)
    with pytest.raises(errors.UsageError, match="integer of 1 or more"):
        schedule_lib.Schedule(task_steps=value)
