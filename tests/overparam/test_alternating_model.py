"""`fit` alternates as published, with all that Keras users expect of it."""

from __future__ import annotations

import forked
import keras
import numpy as np
import overparam_samples as samples
import pytest
import tensorflow as tf
import two_devices

from keras_munet import errors
from keras_munet.overparam import alternating_model
from keras_munet.overparam import contraction
from keras_munet.overparam import model_transform
from keras_munet.overparam import schedule as schedule_lib
from keras_munet.train.devices import fake_tpu

_TASKS = tuple(sorted(samples.TASKS))
_SHARED = "shared"


def _groups(model):
    """Returns group -> the values of its variables."""
    return {
        task or _SHARED: [v.numpy() for v in model.trained_variables(task)]
        for task in (None, *_TASKS)
    }


def _changed(before, after):
    return {
        name
        for name in before
        if any(
            not np.array_equal(a, b)
            for a, b in zip(before[name], after[name], strict=True)
        )
    }


def _trained_groups(model, steps):
    trained = []
    for step in steps:
        before = _groups(model)
        samples.fit(model, range(step, step + 1))
        trained.append(_changed(before, _groups(model)))
    return trained


def test_batches_take_turns_as_the_schedule_says():
    model = samples.factorized(shared_steps=2)
    shared, *own = {_SHARED}, *({task} for task in _TASKS)
    assert _trained_groups(model, range(6)) == [shared, shared, *own, shared]


def test_every_variable_belongs_to_one_group():
    model = samples.factorized()
    groups = [
        {id(v) for v in model.trained_variables(t)} for t in (None, *_TASKS)
    ]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert set.union(*groups) == {id(v) for v in model.trainable_variables}


def test_without_factors_of_tasks_every_batch_trains_everything():
    model = samples.factorized(tasks=())
    for _ in range(2):
        before = [v.numpy() for v in model.trainable_variables]
        samples.fit(model, range(1))
        for old, new in zip(before, model.trainable_variables, strict=True):
            assert not np.array_equal(old, new)


@pytest.mark.parametrize("step", [0, 2])
def test_an_update_follows_the_gradient_of_the_right_losses(step):
    # Step 0 is for the shared variables, step 2 for the second task's own.
    rate = 0.1
    model = samples.factorized(
        samples.network(norm=False), keras.optimizers.SGD(rate)
    )
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(step)
    task = _TASKS[1] if step else None
    variables = model.trained_variables(task)
    images, labels = samples.batch(step)
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.add_n(
            [
                tf.reduce_mean((outputs[t] - labels[t]) ** 2)
                for t in ([task] if task else _TASKS)
            ]
        )
    gradients = tape.gradient(loss, [v.value for v in variables])
    before = [v.numpy() for v in variables]
    samples.fit(model, range(step, step + 1))
    for old, new, gradient in zip(before, variables, gradients, strict=True):
        np.testing.assert_allclose(
            new.numpy(), old - rate * gradient, atol=1e-6
        )


def test_a_tasks_loss_weight_weighs_its_own_steps_too():
    weighted, plain = (samples.factorized() for _ in range(2))
    weights = dict.fromkeys(_TASKS, 1.0) | {_TASKS[0]: 0.5}
    for model, options in ((weighted, {"loss_weights": weights}), (plain, {})):
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=dict.fromkeys(_TASKS, "mse"),
            **options,
        )
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(1)
    before = _groups(plain)[_TASKS[0]]
    moved = []
    for model in (weighted, plain):
        samples.fit(model, range(1, 2))
        after = _groups(model)[_TASKS[0]]
        moved.append([b - a for a, b in zip(before, after, strict=True)])
    for half, whole in zip(*moved, strict=True):
        np.testing.assert_allclose(half, 0.5 * whole, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 3])
def test_task_factors_move_by_the_order_of_shared_ones(depth):
    model = samples.factorized(
        samples.network(norm=False), keras.optimizers.SGD(0.05), depth=depth
    )
    layer = model.get_layer("trunk0")
    first = {v.path: v.numpy() for v in layer.weights}
    samples.fit(model, range(8))

    def moved(variables):
        return np.mean(
            [
                np.linalg.norm(v.numpy() - first[v.path])
                / np.linalg.norm(first[v.path])
                for v in variables
            ]
        )

    own = moved([v for t in _TASKS for v in layer.task_variables(t)])
    shared = moved([layer.u, layer.v])
    assert own > 0
    assert 0.1 < own / shared < 10


@pytest.mark.slow
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path):
    whole = samples.factorized()
    samples.fit(whole, range(7))
    first = samples.factorized()
    samples.fit(first, range(3))
    first.save(tmp_path / "first.keras")
    second = keras.models.load_model(tmp_path / "first.keras")
    assert isinstance(second, alternating_model.AlternatingModel)
    assert second.schedule == whole.schedule
    assert int(second.optimizer.iterations) == 3
    samples.fit(second, range(3, 7))
    for a, b in zip(whole.variables, second.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_backup_and_restore_goes_on_with_the_right_group(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(model, *more):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        # Five batches an epoch: epochs begin with other groups.
        samples.fit(model, range(5), epochs=4, callbacks=[backup, *more])

    whole = samples.factorized()
    samples.fit(whole, range(5), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit(samples.factorized(), Interrupt())
    resumed = samples.factorized()
    fit(resumed)
    assert int(resumed.optimizer.iterations) == 20
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_early_stopping_data_sets_metrics_and_validation_work():
    model = samples.factorized()
    model.compile(
        "adam",
        loss={"depth": "mae", "normals": "mse", "segmentation": "huber"},
        metrics={"depth": ["mse"]},
    )
    images, labels = samples.batches(range(4))
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    history = model.fit(
        data,
        epochs=3,
        validation_data=data,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", min_delta=1e9),
            keras.callbacks.TerminateOnNaN(),
        ],
    ).history
    assert len(history["loss"]) == 2
    parts = [history[f"{task}_loss"][0] for task in _TASKS]
    assert history["loss"][0] == pytest.approx(sum(parts), rel=1e-5)
    assert {"depth_mse", "val_depth_mse", "val_loss"} <= set(history)


def test_it_trains_compiled_by_xla_and_eagerly_alike():
    models = []
    for options in ({"jit_compile": True}, {"run_eagerly": True}):
        model = samples.factorized(samples.network(norm=False))
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=dict.fromkeys(_TASKS, "mse"),
            **options,
        )
        samples.fit(model, range(5))
        models.append(model)
    for a, b in zip(*(m.variables for m in models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_two_devices_train_as_one():
    code = two_devices.MAKE + (
        "import numpy as np, keras\n"
        "import overparam_samples as samples\n"
        "devices = ['CPU:0', 'CPU:1']\n"
        "strategy = tf.distribute.MirroredStrategy(devices)\n"
        "with strategy.scope():\n"
        "    mirrored = samples.factorized(samples.network(norm=False))\n"
        "alone = samples.factorized(samples.network(norm=False))\n"
        "for model in (mirrored, alone):\n"
        "    h = samples.fit(model, range(5)).history\n"
        "    print(h['loss'][0])\n"
        "for a, b in zip(mirrored.variables, alone.variables):\n"
        "    np.testing.assert_allclose(\n"
        "        keras.ops.convert_to_numpy(a), b, atol=1e-5)\n"
        "print('equal')\n"
    )
    done = forked.run_code(code)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, last = done.stdout.split()[-3:]
    assert last == "equal"
    assert float(first) == pytest.approx(float(second), rel=1e-4)


def test_a_step_of_each_group_is_traced_for_a_tpu():
    strategy = fake_tpu.tpu_strategy("v3-8")
    plain = samples.network()
    with strategy.scope():
        model = samples.factorized(plain)
        model.optimizer.build(model.trainable_variables)
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype), samples.batch(0)
    )
    for task in (None, *_TASKS):
        model._phase = schedule_lib.Phase(task)

        @tf.function
        def step(images, labels):
            return strategy.run(model.train_step, args=((images, labels),))

        traced = fake_tpu.check_runnable(step, specs)
        types = [op.type for op in traced.graph.get_operations()]
        assert types.count("TPUReplicateMetadata") == 1
        # The gradients of the group's variables meet, and no others.
        num_trained = len(model.trained_variables(task))
        assert types.count("CrossReplicaSum") == num_trained


@pytest.mark.parametrize("make", [keras.optimizers.AdamW, keras.optimizers.SGD])
def test_decoupled_decay_shrinks_the_deployed_kernel_once(make):
    rate, decay = 0.1, 0.2
    model = samples.factorized(
        samples.network(norm=False),
        make(rate, weight_decay=decay),
        depth=2,
    )
    # A loss without a gradient: what moves is decay alone.
    model.compile(
        make(rate, weight_decay=decay),
        loss=dict.fromkeys(_TASKS, lambda y, p: 0.0 * (p - y)),
    )
    before = contraction.contract(model).get_layer("trunk0").kernel.numpy()
    samples.fit(model, range(4))
    after = contraction.contract(model).get_layer("trunk0").kernel.numpy()
    # Of four steps one is for what is shared.
    np.testing.assert_allclose(after, (1 - rate * decay) * before, atol=1e-6)


def test_what_was_excluded_from_decay_before_stays_so():
    model = samples.factorized(samples.network(norm=False))
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["trunk1"])
    model.compile(
        optimizer, loss=dict.fromkeys(_TASKS, lambda y, p: 0.0 * (p - y))
    )
    before = {v.path: v.numpy() for v in model.trainable_variables}
    samples.fit(model, range(1))
    shrunk = {
        v.path
        for v in model.trainable_variables
        if not np.array_equal(v, before[v.path])
    }
    assert "trunk0/v" in shrunk
    assert not any("trunk1" in path or path.endswith("/u") for path in shrunk)


def test_a_regularizer_acts_on_the_product():
    plain = samples.network(
        norm=False, kernel_regularizer=keras.regularizers.L2(0.3)
    )
    wide = samples.factorized(plain)
    images, _ = samples.batch(0)
    wide(images), plain(images)
    assert sum(map(float, wide.losses)) == pytest.approx(
        sum(map(float, plain.losses)), rel=1e-4
    )
    deployed = contraction.contract(wide)
    assert deployed.get_layer("trunk0").kernel_regularizer is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps_per_execution": 4}, "steps_per_execution is 4"),
        ({"loss": {"depth": "mse"}}, "task 'normals' has factors and no loss"),
        ({"loss": ["mse"]}, "no loss"),
        (
            {"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
            "gradient_accumulation_steps is 2",
        ),
    ],
)
def test_what_would_train_otherwise_is_refused(options, told):
    model = samples.factorized()
    with pytest.raises(errors.UsageError, match=told):
        model.compile(**{"optimizer": "sgd", "loss": "mse", **options})


def _two_outputs(norm=False):
    keras.utils.set_random_seed(0)
    image = keras.Input((6,))
    x = keras.layers.Dense(5, "relu", name="trunk")(image)
    outputs = [
        keras.layers.Dense(n, name=name)(x)
        for name, n in (("left", 2), ("right", 3))
    ]
    return keras.Model(image, outputs)


@pytest.mark.parametrize("tasks", [None, ["left", "right"], ["a", "b"]])
@pytest.mark.parametrize("as_list", [False, True])
def test_a_model_with_a_list_of_outputs_is_trained(tasks, as_list):
    wide = model_transform.overparameterize(_two_outputs(), tasks)
    assert list(wide.task_outputs) == (tasks or ["left", "right"])
    loss = ["mse", "mae"] if as_list else {"left": "mse", "right": "mae"}
    wide.compile("sgd", loss=loss)
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("f4")
    y = [np.ones([8, 2], "f4"), np.ones([8, 3], "f4")]
    own = wide.get_layer("trunk").task_variables(list(wide.task_outputs)[1])
    before = own[0].numpy()
    wide.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert not np.array_equal(before, own[0])
    assert isinstance(wide(x), list)


def test_a_list_of_outputs_is_deployed_in_the_pages_ten_lines(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [keras.layers.Dense(n)(x) for n in (10, 24)]
    wide = model_transform.overparameterize(
        keras.Model(image, outputs), ["digit", "letter"]
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wide.compile("adam", loss=[crossentropy, crossentropy])
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("f4")
    labels = [np.arange(16) % 10, np.arange(16)]
    wide.fit(images, labels, batch_size=4, epochs=2, verbose=0)
    exact = contraction.contract(wide)
    small = contraction.contract(wide, fold_norms=True)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    small.export(tmp_path / "small.tflite", format="litert", verbose=False)
    assert (tmp_path / "small.tflite").stat().st_size > 0
    for trained, same, folded in zip(
        wide(images), exact(images), loaded(images), strict=True
    ):
        np.testing.assert_array_equal(same, trained)
        np.testing.assert_allclose(folded, trained, atol=1e-5)


def test_phases_follow_from_the_step_alone():
    schedule = schedule_lib.Schedule(2, 3)
    tasks = [schedule.phase(step, ("a", "b")).task for step in range(16)]
    assert tasks == 2 * [None, None, "a", "a", "a", "b", "b", "b"]
    for bad in (0, -1, True, 1.5):
        with pytest.raises(errors.UsageError, match="task_steps"):
            schedule_lib.Schedule(1, bad)
