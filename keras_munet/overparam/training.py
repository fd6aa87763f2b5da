"""The alternating training of factors, as an own step (section 5).

Invariant: shared variables are trained with the combined losses of all tasks,
a task's factors with its own loss alone; a step is a function of the state,
the batch and the seed, and gives the same result on any number of replicas up
to rounding. Losses and gradients are those of the global batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import seeds as seeds_lib
from keras_munet.overparam import combiners
from keras_munet.overparam import layers
from keras_munet.overparam import model_transform
from keras_munet.overparam import schedule as schedule_lib

# (sum of the loss over what counts in a batch, how much counts), float32
# scalars; a batch without labels of the task counts nothing.
Loss = Callable[[Any, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
OptimizerMaker = Callable[[], keras.optimizers.Optimizer]


class Trainer:
    """One network in training under one strategy.

    Attributes:
      strategy: where its steps run.
      model: the network; its variables change in place.
      tasks: those that have losses, sorted.
      factored_tasks: those of them that have factors of their own.
      num_steps_done: batches trained so far.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        make_model: Callable[[], keras.Model],
        losses: Mapping[str, Loss],
        *,
        shared_optimizer: OptimizerMaker,
        task_optimizer: OptimizerMaker | None = None,
        schedule: schedule_lib.Schedule | None = None,
        combiner: combiners.Combiner | None = None,
        seed: int = 0,
    ):
        """Makes the network and all that is trained with it.

        Args:
          strategy: where steps run.
          make_model: makes the network; called once, in the strategy's scope.
          losses: task -> its loss; each output of the model has one.
          shared_optimizer: makes the optimizer of the shared variables.
          task_optimizer: makes each task's optimizer of its factors; None for
            one as the shared variables have.
          schedule: what each batch trains.
          combiner: of the tasks' losses; None for their sum.
          seed: of the combiner's draws.

        Raises:
          UsageError: tasks and outputs do not agree.
        """
        self.strategy = strategy
        self._losses = dict(losses)
        self._schedule = schedule or schedule_lib.Schedule()
        self._combiner = combiner or combiners.Equal()
        self._seed = seed
        self.num_steps_done = 0
        with strategy.scope():
            self.model = make_model()
            self.tasks = tuple(sorted(losses))
            self._is_single = _check_outputs(self.model, self.tasks)
            self._group_variables()
            self._build_optimizers(shared_optimizer, task_optimizer)
        self._functions: dict[schedule_lib.Phase, Any] = {}
        self._predict = tf.function(self._outputs_of, autograph=False)

    def step(self, images: Any, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Trains on one batch; what it trains is the schedule's to say.

        Args:
          images: `[batch, ...]`, of all replicas together.
          labels: task -> what its loss takes, each `[batch, ...]`.

        Returns:
          Task -> its mean loss over the batch before the step, float32.

        Raises:
          UsageError: the batch does not divide over the replicas, or labels
            of a task are missing.
        """
        num_replicas = self.strategy.num_replicas_in_sync
        if len(images) % num_replicas:
            raise errors.UsageError(
                f"a batch of {len(images)} does not divide over {num_replicas} "
                "replicas; choose a multiple of it"
            )
        absent = [task for task in self.tasks if task not in labels]
        if absent:
            raise errors.UsageError(
                f"the batch has no labels for task {absent[0]!r}; give labels "
                "that the task's loss counts as none"
            )
        rng = seeds_lib.generator(self._seed, "combine", self.num_steps_done)
        phase = self._schedule.phase(self.num_steps_done, self.factored_tasks)
        seed = rng.integers(0, 2**31 - 1, 2, dtype=np.int32)
        result = self._function(phase)(
            self._divided(images),
            tf.nest.map_structure(
                self._divided, {t: labels[t] for t in self.tasks}
            ),
            tf.constant(seed),
        )
        self.num_steps_done += 1
        return result

    def predict(self, images: Any) -> dict[str, tf.Tensor]:
        """Returns task -> the output for a batch, in inference."""
        return self._predict(tf.convert_to_tensor(images))

    def state_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> each variable that the next steps depend on."""
        variables = {
            f"model.{i}": v for i, v in enumerate(self.model.variables)
        }
        for name, optimizer in self._named_optimizers():
            for i, variable in enumerate(optimizer.variables):
                variables[f"{name}.{i}"] = variable
        for i, variable in enumerate(self._combiner_variables):
            variables[f"combiner.{i}"] = variable
        return variables

    def _group_variables(self) -> None:
        """Says which optimizer each trained variable belongs to."""
        own: dict[str, list[keras.Variable]] = {t: [] for t in self.tasks}
        for layer in _factorized_layers(self.model):
            for task in layer.tasks:
                if task not in own:
                    raise errors.UsageError(
                        f"layer {layer.name!r} has factors of task {task!r}, "
                        "which has no loss; give it one"
                    )
                own[task] += layer.task_variables(task)
        trained = {id(v) for v in self.model.trainable_variables}
        self._task_variables = {
            task: [v for v in variables if id(v) in trained]
            for task, variables in own.items()
        }
        self.factored_tasks = tuple(
            task for task in self.tasks if self._task_variables[task]
        )
        of_tasks = {id(v) for vs in own.values() for v in vs}
        self._shared = [
            v for v in self.model.trainable_variables if id(v) not in of_tasks
        ]
        self._combiner_variables = self._combiner.build(self.tasks)

    def _build_optimizers(
        self, shared: OptimizerMaker, own: OptimizerMaker | None
    ) -> None:
        self._shared_optimizer = shared()
        self._shared_optimizer.build([*self._shared, *self._combiner_variables])
        self._task_optimizers = {}
        for task in self.factored_tasks:
            self._task_optimizers[task] = (own or shared)()
            self._task_optimizers[task].build(self._task_variables[task])

    def _named_optimizers(
        self,
    ) -> list[tuple[str, keras.optimizers.Optimizer]]:
        return [
            ("shared_optimizer", self._shared_optimizer),
            *(
                (f"task_optimizer_{task}", optimizer)
                for task, optimizer in self._task_optimizers.items()
            ),
        ]

    def _divided(self, values: Any) -> Any:
        """Returns rows of a batch, of each replica its share."""
        num_replicas = self.strategy.num_replicas_in_sync
        if num_replicas == 1:
            return tf.convert_to_tensor(values)
        size = len(values) // num_replicas

        def share(context: Any) -> tf.Tensor:
            start = context.replica_id_in_sync_group * size
            return tf.convert_to_tensor(values[start : start + size])

        return self.strategy.experimental_distribute_values_from_function(share)

    def _function(self, phase: schedule_lib.Phase) -> Any:
        """Returns the compiled step of a phase; each is traced once."""
        if phase not in self._functions:

            def run(images, labels, seed):
                losses = self.strategy.run(
                    functools.partial(self._step, phase),
                    (images, labels, seed),
                )
                # Equal on all replicas.
                return tf.nest.map_structure(
                    lambda x: self.strategy.experimental_local_results(x)[0],
                    losses,
                )

            self._functions[phase] = tf.function(run, autograph=False)
        return self._functions[phase]

    def _step(self, phase, images, labels, seed):
        """One update from this replica's share of a batch."""
        context = tf.distribute.get_replica_context()
        own = self._task_variables[phase.task] if phase.task else []
        watched = [*(self._shared if phase.shared else []), *own]
        with tf.GradientTape(
            persistent=True, watch_accessed_variables=False
        ) as tape:
            tape.watch([v.value for v in watched])
            with keras.StatelessScope() as scope:
                outputs = self._outputs_of(images, training=True)
            # Regularizers read the weights, which the scope would hide.
            extra = list(self.model.losses)
            shares, losses = self._mean_losses(context, labels, outputs)
            objective, own_gradients = self._objective(shares, losses)
            penalty = tf.add_n(extra) if extra else None
            if penalty is not None:
                objective += penalty / context.num_replicas_in_sync
        if phase.shared:
            self._train_shared(
                context,
                self._shared_gradients(
                    context, tape, objective, shares, penalty, seed
                ),
                own_gradients,
            )
        if phase.task:
            self._task_optimizers[phase.task].apply(
                _gradient(tape, shares[phase.task], own), own
            )
        del tape
        self._keep_statistics(context, scope)
        return losses

    def _outputs_of(self, images, training=False):
        outputs = self.model(images, training=training)
        return {self.tasks[0]: outputs} if self._is_single else dict(outputs)

    def _mean_losses(self, context, labels, outputs):
        """Returns what each loss is here and over all replicas."""
        totals, weights = {}, {}
        for task in self.tasks:
            total, weight = self._losses[task](labels[task], outputs[task])
            totals[task] = tf.cast(total, tf.float32)
            weights[task] = tf.stop_gradient(tf.cast(weight, tf.float32))
        if context.num_replicas_in_sync > 1:
            weights = context.all_reduce("SUM", weights)
        shares = {
            task: tf.math.divide_no_nan(totals[task], weights[task])
            for task in self.tasks
        }
        losses = {task: tf.stop_gradient(x) for task, x in shares.items()}
        if context.num_replicas_in_sync > 1:
            losses = context.all_reduce("SUM", losses)
        return shares, losses

    def _objective(self, shares, losses):
        """Returns this replica's part of the combined loss.

        The combiner is given the losses of all replicas; its slopes there
        weigh what this replica adds to each. Also returns the gradients of
        the combiner's own variables.
        """
        own = [v.value for v in self._combiner_variables]
        if self._combiner.per_task:
            return tf.add_n(list(shares.values())), []
        with tf.GradientTape() as tape:
            tape.watch(list(losses.values()))
            total = self._combiner.total(losses)
        slopes, gradients = tape.gradient(
            total, (losses, own), unconnected_gradients="zero"
        )
        parts = [tf.stop_gradient(slopes[t]) * shares[t] for t in self.tasks]
        return tf.add_n(parts), gradients

    def _shared_gradients(
        self, context, tape, objective, shares, penalty, seed
    ):
        """Returns one gradient per shared variable, this replica's part."""
        if not self._combiner.per_task:
            return _gradient(tape, objective, self._shared)
        num_replicas = context.num_replicas_in_sync
        variables = [v.value for v in self._shared]
        gradients = {t: tape.gradient(shares[t], variables) for t in self.tasks}
        for i, variable in enumerate(variables):
            # So that a combiner has one gradient of each at least.
            if all(parts[i] is None for parts in gradients.values()):
                gradients[self.tasks[0]][i] = tf.zeros_like(variable)
        if num_replicas > 1:
            flat = {
                (task, i): gradient
                for task, parts in gradients.items()
                for i, gradient in enumerate(parts)
                if gradient is not None
            }
            reduced = dict(
                zip(
                    flat,
                    context.all_reduce("SUM", list(flat.values())),
                    strict=True,
                )
            )
            gradients = {
                task: [reduced.get((task, i)) for i in range(len(parts))]
                for task, parts in gradients.items()
            }
        combined = self._combiner.combine(gradients, seed)
        if penalty is not None:
            more = _gradient(tape, penalty, self._shared)
            combined = [a + b for a, b in zip(combined, more, strict=True)]
        # The optimizer adds up what all replicas give it.
        return [gradient / num_replicas for gradient in combined]

    def _train_shared(self, context, gradients, own_gradients):
        num_replicas = context.num_replicas_in_sync
        own = [gradient / num_replicas for gradient in own_gradients]
        if not own:
            own = [tf.zeros_like(v.value) for v in self._combiner_variables]
        self._shared_optimizer.apply(
            [*gradients, *own], [*self._shared, *self._combiner_variables]
        )

    def _keep_statistics(self, context, scope):
        """Assigns what layers remember of a batch: means over the replicas."""
        changed = []
        for variable in self.model.non_trainable_variables:
            value = scope.get_current_value(variable)
            if value is None:
                continue
            value = tf.convert_to_tensor(value)
            if context.num_replicas_in_sync > 1 and value.dtype.is_floating:
                value = context.all_reduce("MEAN", value)
            changed.append((variable.value, value))
        if context.num_replicas_in_sync == 1:
            for variable, value in changed:
                variable.assign(value)
            return

        # Mirrored variables may be assigned only where replicas meet.
        def merged(strategy, values):
            for (variable, _), value in zip(changed, values, strict=True):
                strategy.extended.update(
                    variable, _assign, args=(value,), group=False
                )

        context.merge_call(merged, args=([value for _, value in changed],))


def _check_outputs(model: keras.Model, tasks: Sequence[str]) -> bool:
    """Returns whether the model has one output without a name."""
    outputs = sorted(model_transform.task_names(model))
    if not outputs and len(tasks) == 1:
        return True
    if outputs != sorted(tasks):
        raise errors.UsageError(
            f"the model has outputs {outputs} and there are losses for "
            f"{sorted(tasks)}; give each output one loss"
        )
    return False


def _factorized_layers(model: keras.Model) -> list[layers.Factorized]:
    layers_below = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layers_below += _factorized_layers(layer)
        elif isinstance(layer, layers.Factorized):
            layers_below.append(layer)
    return layers_below


def _gradient(tape, value, variables):
    return tape.gradient(
        value, [v.value for v in variables], unconnected_gradients="zero"
    )


def _assign(variable, value):
    variable.assign(value)
