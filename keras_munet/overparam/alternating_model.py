"""A Keras model whose `fit` alternates between shared and task factors.

Invariant: a batch trains either what serves several tasks, with the sum of
all losses, or one task's own factors, with its own loss: claims 1 to 5 of US
patent 11,527,074, whose first inventor is an author of Ren and Shi 2023. Which
of the two follows from the optimizer's iterations alone, so that a training
that was interrupted goes on as it would have gone on without.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_munet import errors
from keras_munet.overparam import layers
from keras_munet.overparam import schedule as schedule_lib

_CONFIG_KEY = "alternation"


@keras.saving.register_keras_serializable(package="keras_munet")
class AlternatingModel(keras.Model):
    """A functional model with factorised layers, as `overparameterize` makes.

    `compile` and `fit` take what those of any Keras model take: losses and
    weights by output, metrics, callbacks, `jit_compile`, data sets of
    `tf.data`, a distribution strategy. There is one optimizer, applied to
    the variables that a batch trains; its iterations count batches.

    With a decoupled weight decay (AdamW) a shared step shrinks the contracted
    kernel by the share by which it would shrink an ordinary one.

    Attributes:
      task_outputs: task with factors -> the index of its output among the
        model's flattened outputs.
      schedule: how batches are divided.
    """

    task_outputs: Mapping[str, int] = types.MappingProxyType({})
    schedule = schedule_lib.Schedule()
    train_function: Any
    # What the next traced or eager step trains.
    _phase = schedule_lib.Phase(None)

    def alternate(
        self, task_outputs: Mapping[str, int], schedule: schedule_lib.Schedule
    ) -> None:
        """Sets what belongs to which task; once, before `compile`.

        Args:
          task_outputs: as the attribute.
          schedule: as the attribute.
        """
        self.task_outputs = dict(task_outputs)
        self.schedule = schedule

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Args:
          optimizer: of all variables.
          loss: one for all outputs, or one per output: by name, or in order.
          loss_weights: numbers in the structure of `loss`.
          *args: more of `keras.Model.compile`.
          **kwargs: more of `keras.Model.compile`.

        Raises:
          UsageError: a task has no loss, or several batches are to be one
            step of the optimizer or of the host.
        """
        optimizer = keras.optimizers.get(optimizer)
        if optimizer.gradient_accumulation_steps:
            raise errors.UsageError(
                "gradient_accumulation_steps is "
                f"{optimizer.gradient_accumulation_steps}; batches take turns "
                "here, so leave it out"
            )
        if kwargs.get("steps_per_execution", 1) != 1:
            raise errors.UsageError(
                f"steps_per_execution is {kwargs['steps_per_execution']!r}; "
                "batches take turns here, so leave it out"
            )
        if optimizer.weight_decay is not None and not optimizer.built:
            _spare_factors(optimizer, self)
        self._task_losses = {
            task: (
                _as_loss(self._of_output(loss, output_index), task),
                self._of_output(loss_weights, output_index),
            )
            for task, output_index in self.task_outputs.items()
        }
        super().compile(optimizer, loss, loss_weights, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as the model was that `get_compile_config` describes.

        Args:
          config: as `get_compile_config` returns it.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        # A saved state needs variables to go to.
        self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> None:
        """Makes one function per phase, traced at its first batch.

        Args:
          force: whether functions that exist are made anew.
        """
        if not self.optimizer.built:
            # Each batch applies it to some of these alone.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        if self.train_function is None or force:
            tasks = tuple(self.task_outputs)
            functions = {}
            for task in (None, *tasks):
                super().make_train_function(force=True)
                functions[schedule_lib.Phase(task)] = self.train_function
            self.train_function = _Alternation(self, functions)
        else:
            self.train_function.restart()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Trains on one batch what the phase says; returns the metrics.

        Args:
          data: `(x, y)` or `(x, y, sample_weight)`.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        task = self._phase.task
        variables = self.trained_variables(task)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            outputs = self(x, training=True)
            total = self.compute_loss(
                x, y, outputs, sample_weight, training=True
            )
            objective = total
            if task is not None:
                objective = self._task_loss(task, y, outputs, sample_weight)
            objective = self.optimizer.scale_loss(objective)
        gradients = tape.gradient(
            objective,
            [variable.value for variable in variables],
            unconnected_gradients="zero",
        )
        self.optimizer.apply(gradients, variables)
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        for metric in self.metrics:
            if metric.name == "loss":
                # Keras divides losses by the number of replicas.
                metric.update_state(
                    total * num_replicas,
                    sample_weight=tf.shape(tf.nest.flatten(x)[0])[0],
                )
        return self.compute_metrics(x, y, outputs, sample_weight)

    def trained_variables(self, task: str | None) -> list[keras.Variable]:
        """Returns what a phase trains.

        Args:
          task: whose own factors; None for all else.
        """
        own = {
            id(variable): name
            for layer in factorized_layers(self)
            for name in layer.tasks
            for variable in layer.task_variables(name)
        }
        return [v for v in self.trainable_variables if own.get(id(v)) == task]

    def get_config(self) -> dict[str, Any]:
        """Returns the functional model's config, with the alternation."""
        return {
            **super().get_config(),
            _CONFIG_KEY: {
                "task_outputs": dict(self.task_outputs),
                "shared_steps": self.schedule.shared_steps,
                "task_steps": self.schedule.task_steps,
            },
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> AlternatingModel:
        """Returns the model that `get_config` describes.

        Args:
          config: as `get_config` returns it.
          custom_objects: classes by name that Keras does not know.
        """
        config = dict(config)
        alternation = dict(config.pop(_CONFIG_KEY))
        model = super().from_config(config, custom_objects)
        task_outputs = alternation.pop("task_outputs")
        model.alternate(task_outputs, schedule_lib.Schedule(**alternation))
        return model

    def _task_loss(
        self, task: str, y: Any, outputs: Any, sample_weight: Any
    ) -> tf.Tensor:
        """Returns a task's own loss, weighted as in the sum."""
        output_index = self.task_outputs[task]
        loss, weight = self._task_losses[task]
        value = loss(
            self._of_output(y, output_index),
            self._of_output(outputs, output_index),
            sample_weight=self._of_output(sample_weight, output_index),
        )
        return value if weight is None else value * weight

    def _of_output(self, value: Any, output_index: int) -> Any:
        """Returns what belongs to one of the flattened outputs.

        Args:
          value: by output name, in order, or one for all.
          output_index: of the output, flattened.
        """
        if isinstance(value, Mapping):
            names = [self.output_names[output_index]]
            if isinstance(self.output, Mapping):
                # Flattened in the order of the sorted keys.
                names.insert(0, sorted(self.output)[output_index])
            return next((value[n] for n in names if n in value), None)
        if isinstance(value, list | tuple):
            return value[output_index] if output_index < len(value) else None
        return value


class _Alternation:
    """Chooses the function of each batch, as Keras calls it."""

    def __init__(
        self,
        model: AlternatingModel,
        functions: Mapping[schedule_lib.Phase, Any],
    ):
        self._model = model
        self._functions = functions
        self._step: int | None = None

    def restart(self) -> None:
        """Reads the number of the next step anew, from the optimizer."""
        self._step = None

    def __call__(self, iterator: Any) -> Any:
        if self._step is None:
            # Not before the first batch: a callback may restore a state.
            iterations = self._model.optimizer.iterations
            self._step = int(keras.ops.convert_to_numpy(iterations))
        tasks = tuple(self._model.task_outputs)
        phase = self._model.schedule.phase(self._step, tasks)
        # Read where the function is traced.
        self._model._phase = phase
        logs = self._functions[phase](iterator)
        self._step += 1
        return logs


class _FunctionLoss(keras.losses.Loss):
    """The mean of a function of labels and outputs."""

    def __init__(self, function: Any):
        super().__init__(name="task_loss")
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the examples."""
        return self._function(y_true, y_pred)


def factorized_layers(model: keras.Model) -> Iterator[layers.Factorized]:
    """Yields the factorised layers of a model and of models within it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from factorized_layers(layer)
        elif isinstance(layer, layers.Factorized):
            yield layer


def _as_loss(loss: Any, task: str) -> keras.losses.Loss:
    if loss is None:
        raise errors.UsageError(
            f"task {task!r} has factors and no loss; give `compile` a loss "
            "for its output"
        )
    function = keras.losses.get(loss)
    is_loss = isinstance(function, keras.losses.Loss)
    return function if is_loss else _FunctionLoss(function)


def _spare_factors(
    optimizer: keras.optimizers.Optimizer, model: keras.Model
) -> None:
    """Has decoupled decay shrink each kernel once, by its factor V alone."""
    factors: Sequence[keras.Variable] = [
        variable
        for layer in factorized_layers(model)
        for variable in layer.unscaled_factors
    ]
    # Keras replaces what was excluded before.
    before = {
        name: getattr(optimizer, name, None)
        for name in (
            "_exclude_from_weight_decay",
            "_exclude_from_weight_decay_pattern",
        )
    }
    optimizer.exclude_from_weight_decay(var_list=factors)
    optimizer._exclude_from_weight_decay |= (
        before["_exclude_from_weight_decay"] or set()
    )
    optimizer._exclude_from_weight_decay_pattern = before[
        "_exclude_from_weight_decay_pattern"
    ]
