"""What a TPU core is given computes what one device computes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_munet import errors
from keras_munet.aot import programs
from keras_munet.aot import tracing
from keras_munet.core import settings as settings_lib
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train.devices import fake_tpu
from keras_munet.train.graph import generation


def _settings() -> settings_lib.Settings:
    return settings_lib.Settings.from_dict(
        {
            "task_names": ["digits"],
            "children_per_generation": 2,
            "batch_size": 8,
            "compute_dtype": "float32",
            "root": {"source": "random", "variant": "mu/16"},
        }
    )


def _values(specs) -> list:
    rng = np.random.default_rng(0)

    def value(spec):
        if not isinstance(spec, tf.TensorSpec):
            return spec
        if spec.dtype == tf.bool:
            return tf.constant(True)
        if spec.dtype.is_integer:
            high = 200 if spec.dtype == tf.uint8 else 2
            return tf.constant(rng.integers(0, high, spec.shape), spec.dtype)
        return tf.constant(rng.uniform(0.1, 0.9, spec.shape), spec.dtype)

    return tf.nest.map_structure(value, list(specs))


def _first_uses(graph: tf.Graph) -> list[tf.Tensor]:
    """The handles of variables in the order in which they are used."""
    inputs = [i for op in graph.get_operations() for i in op.inputs]
    used = {i.name: i for i in inputs if i.dtype == tf.resource}
    return list(used.values())


@pytest.mark.parametrize("num_parts", [1, 2])
def test_a_core_computes_what_one_device_does(num_parts):
    settings = _settings()
    children = tracing.children_of(settings)
    alone = tf.distribute.OneDeviceStrategy("/cpu:0")
    image_size = settings.root.image_size
    real = generation.GenerationGraph(
        generation_structure.structure_of(children, image_size),
        layer_pool.LayerPool(alone),
        alone,
        num_parts=num_parts,
    )
    rng = np.random.default_rng(1)
    for slot in (slot for chain in real.slots for slot in chain):
        slot.variable.assign(rng.normal(0.0, 0.1, slot.variable.shape))
    steps = tracing.steps_of(
        settings,
        fake_tpu.tpu_strategy("v3-8", 1),
        children=children,
        num_parts=num_parts,
    )
    inputs = _values(steps.train_inputs)
    traced = real.train_shares.get_concrete_function(*inputs)
    captured = dict(
        zip(
            (inner.name for inner in traced.graph.internal_captures),
            traced.captured_inputs,
            strict=True,
        )
    )
    handles = [captured[t.name] for t in _first_uses(traced.graph)]
    (program,) = programs.core_programs(
        steps.train.get_concrete_function(*steps.train_inputs)
    )
    specs = program.arguments[-len(handles) :]

    def held() -> list[tf.Tensor]:
        return [
            tf.raw_ops.ReadVariableOp(resource=handle, dtype=spec.dtype)
            for handle, spec in zip(handles, specs, strict=True)
        ]

    given = [v for v in tf.nest.flatten(inputs) if isinstance(v, tf.Tensor)]
    before = held()
    run = tf.function(program.function, autograph=False)
    replica_id = tf.constant(0)
    made = run(replica_id, *given, *before)
    np.testing.assert_allclose(made[0], traced(*given), rtol=1e-6)
    first = len(program.arguments) - len(handles)
    for number, value in enumerate(held()):
        output = program.aliases.get(first + number)
        expected = before[number] if output is None else made[output]
        # A momentum of bfloat16 may be rounded to its neighbour.
        np.testing.assert_allclose(
            tf.cast(expected, tf.float32),
            tf.cast(value, tf.float32),
            rtol=1e-5 if value.dtype == tf.float32 else 2**-7,
            atol=1e-7,
        )
    assert any(spec.dtype == tf.bfloat16 for spec in specs)


def test_sums_over_cores_and_work_of_the_host_are_counted():
    steps = tracing.steps_of(
        _settings(), fake_tpu.tpu_strategy("v3-8"), batch_size=8
    )
    traced = steps.train.get_concrete_function(*steps.train_inputs)
    (program,) = programs.core_programs(traced)
    trained = sum(
        part.spec.num_params
        for child in steps.children
        for part in child.components
        if part.trainable
    )
    assert program.reduced_bytes == 4 * trained
    assert program.host_ops["TPUReplicatedInput"] == len(program.arguments)
    # A float32 weight and a bfloat16 momentum.
    assert program.changed_bytes == 6 * trained < program.variable_bytes


def _step_on_tpu(compute) -> tf.types.experimental.ConcreteFunction:
    strategy = fake_tpu.tpu_strategy("v3-8", 1)
    with strategy.scope():
        variable = tf.Variable(2.0)

    @tf.function
    def step(x):
        return strategy.run(lambda x: compute(variable, x), (x,))

    return step.get_concrete_function(tf.TensorSpec([], tf.float32))


def _run(traced, *arguments) -> list[float]:
    (program,) = programs.core_programs(traced)
    run = tf.function(program.function, autograph=False)
    # The replica's number comes first.
    made = run(tf.constant(0), *map(tf.constant, arguments))
    return [float(value) for value in made]


def test_a_variable_is_what_was_assigned_to_it_last():
    def compute(variable, x):
        variable.assign(3.0 * x)
        variable.assign_add(1.0)
        seen = variable.read_value()
        variable.assign_sub(x)
        return seen

    assert _run(_step_on_tpu(compute), 5.0, 2.0) == [16.0, 11.0]


def test_a_loop_carries_what_it_assigns():
    def compute(variable, x):
        for _ in tf.range(3):
            variable.assign(variable * x)
        return variable.read_value()

    assert _run(_step_on_tpu(compute), 5.0, 2.0) == [250.0, 250.0]


def test_a_function_that_is_called_changes_its_variable():
    def compute(variable, x):
        @tf.function
        def double():
            variable.assign(2.0 * variable)

        double()
        return x + variable

    assert _run(_step_on_tpu(compute), 5.0, 2.0) == [9.0, 4.0]


def test_an_op_that_must_have_the_variable_itself_is_named():
    def compute(variable, x):
        return tf.cond(x > 0.0, lambda: variable + 1.0, lambda: x)

    with pytest.raises(
        errors.UsageError, match=r"op (Stateless)?If .*variable"
    ):
        _run(_step_on_tpu(compute), 5.0, 2.0)


def test_a_function_without_replicas_is_no_program():
    traced = tf.function(lambda x: x).get_concrete_function(tf.constant(1.0))
    with pytest.raises(errors.UsageError, match="replicates nothing"):
        programs.core_programs(traced)
