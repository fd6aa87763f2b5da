"""One generation as one compiled step.

Invariant: the children's layers are ONE graph; what they share
frozen is evaluated once per batch, no gradient is computed below a child's
lowest trained component, and each child's update depends on its own loss
alone. Hyperparameters are arguments, so a structure compiles once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.models import path_model
from keras_munet.models.vit import functions
from keras_munet.train import generation_base
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import losses as losses_lib
from keras_munet.train import matmul_precision
from keras_munet.train import optimizer


class GenerationGraph(generation_base.GenerationBase):
    """The layers of a structure with the compiled functions of its steps."""

    def __init__(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        strategy: tf.distribute.Strategy,
        products: matmul_precision.MatmulPrecision = matmul_precision.FLOAT32,
        num_parts: int = 1,
    ):
        """Takes the layers; traces nothing before the first call.

        Args:
          structure: which layers each child has.
          pool: lends them.
          strategy: where steps run.
          products: which precision a training step multiplies in.
          num_parts: into how many parts, one after the other, a replica's
            share of a batch is divided to save memory.
        """
        super().__init__(structure, pool, strategy)
        self._num_parts = num_parts
        self._products = products
        self._strategy = strategy
        # What layers compute with that is not their own.
        self._bound_variables: list[tuple[keras.Variable, tf.Tensor]] = []
        self.train_batch = tf.function(self._train_batch, autograph=False)
        self.count_batch = tf.function(self._count_batch, autograph=False)
        self.train_shares = tf.function(self._train_shares, autograph=False)
        self.count_shares = tf.function(self._count_shares, autograph=False)

    def _train_batch(self, images, labels, rates):
        """Trains every child on one batch.

        Args:
          images: `[batch, size, size, 3] float32`, ready.
          labels: `[batch] int32`.
          rates: `[children, 3] float32`: `optimizer.Rates` of each child.

        Returns:
          `[children] float32`, the losses, nats.
        """
        losses = self._strategy.run(self._step, (images, labels, rates))
        return self._strategy.reduce("SUM", losses, axis=None)

    def _train_shares(self, images, labels, draws, rates, augment, jitter):
        """Trains every child on one batch that is divided over replicas.

        Args:
          images: of each replica, `[share, height, width, channels] uint8`.
          labels: `[share] int32`.
          draws: `[12, share] float32`, of the augmentation.
          rates: `[children, 3] float32`: `optimizer.Rates` of each child.
          augment: `preprocessing.AugmentHparams` of scalar tensors.
          jitter: `preprocessing.ColorJitter`.

        Returns:
          `[children] float32`, the losses, nats.
        """

        def varied_step(images, labels, draws, rates, augment):
            batch = preprocessing.varied_images(
                images, self.image_size, draws, augment, jitter
            )
            return self._step(batch, labels, rates)

        losses = self._strategy.run(
            varied_step, (images, labels, draws, rates, augment)
        )
        return self._strategy.reduce("SUM", losses, axis=None)

    def _step(self, images, labels, rates):
        """One update of every child on this replica's share of a batch."""
        context = tf.distribute.get_replica_context()
        batch_size = images.shape[0] * context.num_replicas_in_sync
        self._prepare(self._products)
        losses, gradients = self._gradients(images, labels, batch_size)
        if context.num_replicas_in_sync > 1:
            flat = context.all_reduce("SUM", tf.nest.flatten(gradients))
            gradients = tf.nest.pack_sequence_as(gradients, flat)
        for child in zip(
            self._trained,
            gradients,
            tf.unstack(rates, self.num_children),
            strict=True,
        ):
            self._update(context, *child)
        return losses

    def _gradients(self, images, labels, batch_size):
        """Returns the losses and each child's gradients, part after part."""
        if self._num_parts == 1:
            return self._gradients_of_part(images, labels, batch_size)
        size = images.shape[0] // self._num_parts
        variables = self._variables()
        zeros = [[tf.zeros_like(v) for v in child] for child in variables]

        def add(part, losses, sums):
            begin = [part * size, 0, 0, 0]
            more_losses, more = self._gradients_of_part(
                tf.slice(images, begin, [size, *images.shape[1:]]),
                tf.slice(labels, begin[:1], [size]),
                batch_size,
            )
            sums = tf.nest.map_structure(tf.add, sums, more)
            return part + 1, losses + more_losses, sums

        _, losses, gradients = tf.while_loop(
            lambda part, *_: part < self._num_parts,
            add,
            (tf.constant(0), tf.zeros([self.num_children]), zeros),
            parallel_iterations=1,
        )
        return losses, gradients

    def _gradients_of_part(self, images, labels, batch_size):
        """Returns what some examples add to `[children]` losses, gradients."""
        variables = self._variables()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v for child in variables for v in child])
            with self._multiplied():
                logits = path_model.compute_logits(self._layers, images)
            losses = [
                losses_lib.cross_entropy(
                    child, labels, smoothing, self.class_weights
                )
                for child, smoothing in zip(
                    logits, self.label_smoothing, strict=True
                )
            ]
        # The mean is the same for all, so no tape needs to know of it.
        share = tf.ones_like(losses[0]) / batch_size
        gradients = tape.gradient(
            losses,
            variables,
            [share] * self.num_children,
            unconnected_gradients="zero",
        )
        sums = tf.stack([tf.reduce_sum(child) for child in losses])
        return sums / batch_size, gradients

    @contextlib.contextmanager
    def _multiplied(self) -> Iterator[None]:
        """Has layers that are trained as factors compute with the products."""
        products = [
            (slot.weights, slot.product())
            for child in self._trained
            for slot in child
            if slot.factors is not None
        ]
        if not products:
            yield
            return
        # A scope within another one hides it.
        with keras.StatelessScope(
            state_mapping=[*self._bound_variables, *products]
        ):
            yield

    def _variables(self):
        """Returns what each child trains, input first."""
        return [[slot.variable for slot in child] for child in self._trained]

    def _prepare(
        self, products: matmul_precision.MatmulPrecision, training: bool = True
    ) -> None:
        """Has each call compute what the step needs and nothing else.

        Without training all calls of a kind of layer are the same function,
        which TensorFlow prepares once per graph.
        """
        for chain, gradients in zip(self.slots, self.gradients, strict=True):
            for slot, needed in zip(chain, gradients, strict=True):
                slot.layer.choose_products(products.of(slot.spec))
                slot.layer.choose_gradients(
                    needed if training else functions.INPUT_ONLY
                )

    def _update(self, context, slots, gradients, rates):
        """Applies one child's gradients to its trained slots."""
        scale = optimizer.clip_scale(optimizer.half_square(gradients))
        if context.num_replicas_in_sync == 1:
            for slot, part in zip(slots, gradients, strict=True):
                _move(slot.variable, part, scale, rates, *_state(slot))
            return

        # Mirrored variables may be assigned only where replicas meet.
        def merged(strategy, parts, scale, rates):
            for slot, part in zip(slots, parts, strict=True):
                strategy.extended.update(
                    slot.variable,
                    _move,
                    args=(part, scale, rates, *_state(slot)),
                    group=False,
                )

        context.merge_call(merged, args=(gradients, scale, rates))

    def _count_batch(self, images, labels, mask, whole=False):
        """Counts right answers in one batch.

        Args:
          images: `[batch, size, size, 3] float32`, ready.
          labels: `[batch] int32`.
          mask: `[batch] float32`, 0 where padded.
          whole: whether to return `[replicas, children, share, classes + 2]
            float32`, what `losses.scored_outputs` returns on each replica.

        Returns:
          `[children] float32`: the number of right answers, or NaN where a
          child's logits are not finite.
        """
        answer = self._collect if whole else self._count
        counts = self._strategy.run(answer, (images, labels, mask))
        return self._strategy.reduce("SUM", counts, axis=None)

    def _count_shares(self, images, labels, mask, whole=False):
        """Counts right answers in one batch that is divided over replicas.

        Args:
          images: of each replica, `[share, height, width, channels] uint8`.
          labels: `[share] int32`.
          mask: `[share] float32`, 0 where padded.
          whole: as of `count_batch`.

        Returns:
          What `count_batch` does.
        """

        def count_resized(images, labels, mask):
            batch = preprocessing.evaluation_images(
                images, self.image_size, self.antialias
            )
            answer = self._collect if whole else self._count
            return answer(batch, labels, mask)

        counts = self._strategy.run(count_resized, (images, labels, mask))
        return self._strategy.reduce("SUM", counts, axis=None)

    def _count(self, images, labels, mask):
        return losses_lib.num_correct(self._scored_logits(images), labels, mask)

    def _collect(self, images, labels, mask):
        """Returns this replica's own `losses.scored_outputs`."""
        rows = losses_lib.scored_outputs(
            self._scored_logits(images), labels, mask
        )
        context = tf.distribute.get_replica_context()
        number = context.replica_id_in_sync_group
        # The sum over replicas has them all, even what is not finite.
        mine = tf.equal(tf.range(context.num_replicas_in_sync), number)
        return tf.where(
            mine[:, None, None, None], rows[None], tf.zeros_like(rows)[None]
        )

    def _scored_logits(self, images):
        # What is scored is what will be served.
        self._prepare(matmul_precision.FLOAT32, training=False)
        return tf.stack(path_model.compute_logits(self._layers, images))


def _state(slot):
    """Returns the variables of a slot's optimizer."""
    if slot.second is None:
        return [slot.momentum]
    return [slot.momentum, slot.second]


def _move(weight, gradient, scale, rates, *state):
    """Moves a component's weights and its optimizer's state by one step."""
    compiled = (
        optimizer.compiled_update
        if len(state) == 1
        else optimizer.compiled_adamw_update
    )
    variables = weight, *state
    moved = compiled(
        *(variable.read_value() for variable in variables),
        *(gradient, scale, rates),
    )
    for variable, value in zip(variables, moved, strict=True):
        variable.assign(tf.cast(value, variable.dtype), read_value=False)
