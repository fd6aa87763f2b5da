"""Supervised pretraining of a ViT root on characters.

Invariant: equal settings and equal data give the same root on one machine;
the classes that it was trained to tell apart are not part of the root, whose
head starts at zero like any other.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.models.vit import keras_state
from keras_munet.roots import root as root_lib
from keras_munet.roots.pretraining import characters as characters_lib

_NUM_VALIDATION_IMAGES = 4_096
# Coarser pictures that are mixed in: every task has its own resolution.
_COARSE_FACTORS = (2, 4)


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """One pretraining.

    Attributes:
      seed: of everything that is drawn.
      variant: the ViT's name.
      image_size: side of the square input, pixels.
      scripts: keys of `characters.SCRIPTS`.
      omniglot_dir: prepared TFDS data with Omniglot; empty for none.
      num_draws: how often fresh distorted pictures are drawn.
      num_images_per_draw: pictures per draw.
      num_epochs_per_draw: how often each picture is seen.
      batch_size: pictures per step.
      learning_rate: the peak of the cosine schedule of AdamW.
      warmup_ratio: share of the steps in which the rate rises linearly.
      weight_decay: of AdamW.
      label_smoothing: share of the target spread over all classes.
    """

    seed: int = 0
    variant: str = "mu/8"
    image_size: int = 32
    scripts: tuple[str, ...] = tuple(characters_lib.SCRIPTS)
    omniglot_dir: str = ""
    num_draws: int = 10
    num_images_per_draw: int = 20_480
    num_epochs_per_draw: int = 2
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_ratio: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.1

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PretrainSettings:
        """Returns the settings of plain values.

        Raises:
          UsageError: an unknown key, or a number that cannot be.
        """
        allowed = [field.name for field in dataclasses.fields(cls)]
        for key, setting in value.items():
            if key not in allowed:
                raise errors.UsageError(
                    f"unknown config key {key}; there are: {', '.join(allowed)}"
                )
            counts = key.startswith("num_") or key == "batch_size"
            if counts and not (isinstance(setting, int) and setting >= 1):
                raise errors.UsageError(
                    f"config key {key} is {setting!r}; it must be at least 1"
                )
        scripts = tuple(value.get("scripts", characters_lib.SCRIPTS))
        return cls(**{**value, "scripts": scripts})


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The result of pretraining.

    Attributes:
      root: the ViT with a fresh head of two classes.
      accuracies: validation accuracy by source, in [0, 1].
      num_classes: of the characters it was trained to tell apart.
      secs: wall time of the training alone, seconds.
    """

    root: root_lib.Root
    accuracies: dict[str, float]
    num_classes: int
    secs: float


@keras_state.default_keras_state()
def pretrain(
    settings: PretrainSettings, progress: Callable[[str], None] = print
) -> Pretrained:
    """Trains a ViT to tell characters apart.

    Args:
      settings: what to train, on what, and for how long.
      progress: gets one line per epoch.

    Raises:
      UsageError: the settings cannot be.
      DataError: the characters cannot be had.
    """
    characters, held_out = characters_lib.load_characters(
        settings.scripts, settings.omniglot_dir
    )
    start = root_lib.random(
        settings.variant,
        image_size=settings.image_size,
        num_classes=characters.num_classes,
        seed=settings.seed,
    )
    layers = [
        layer_factory.make_layer(c.spec, c.spec.name) for c in start.components
    ]
    model = path_model.build_model({"logits": layers}, settings.image_size)
    for layer, component in zip(layers, start.components, strict=True):
        layer_factory.assign_values(layer, component.spec, component.weights)
    started = time.perf_counter()
    _train(model, characters, settings, progress)
    secs = time.perf_counter() - started
    accuracies = {
        name: _accuracy(model, part, settings)
        for name, part in held_out.items()
    }
    trained = [
        specs.Component(c.spec, layer_factory.layer_values(layer, c.spec))
        for layer, c in zip(layers, start.components, strict=True)
    ]
    fresh = root_lib.random(
        settings.variant, image_size=settings.image_size, seed=settings.seed
    )
    root = dataclasses.replace(
        fresh,
        components=(*trained[:-1], fresh.components[-1]),
        source=f"pretrained {settings.variant} seed {settings.seed}",
    )
    return Pretrained(root, accuracies, characters.num_classes, secs)


def _train(
    model: keras.Model,
    characters: characters_lib.Characters,
    settings: PretrainSettings,
    progress: Callable[[str], None],
) -> None:
    batch_size = settings.batch_size
    num_steps_per_epoch = -(-settings.num_images_per_draw // batch_size)
    num_images = num_steps_per_epoch * batch_size
    num_epochs = settings.num_draws * settings.num_epochs_per_draw
    num_steps = num_epochs * num_steps_per_epoch
    num_warmup_steps = int(settings.warmup_ratio * num_steps)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            num_steps - num_warmup_steps,
            warmup_target=settings.learning_rate,
            warmup_steps=num_warmup_steps,
        ),
        weight_decay=settings.weight_decay,
        global_clipnorm=1.0,
    )
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step(images, labels, seed):
        x = preprocessing.evaluation_images(images, settings.image_size)
        x = _coarsened(x, seed)
        target = tf.one_hot(labels, characters.num_classes)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)["logits"]
            losses = keras.losses.categorical_crossentropy(
                target,
                logits,
                from_logits=True,
                label_smoothing=settings.label_smoothing,
            )
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        right = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    def draw(number: int):
        return characters.draw(
            num_images, settings.image_size, settings.seed, number
        )

    rng = seeds.generator(settings.seed, "pretraining", "order")
    # The next pictures are drawn while these are trained on.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, 0)
        for epoch in range(num_epochs):
            number, again = divmod(epoch, settings.num_epochs_per_draw)
            if not again:
                images, labels = coming.result()
                if number + 1 < settings.num_draws:
                    coming = pool.submit(draw, number + 1)
            order = rng.permutation(num_images).reshape(-1, batch_size)
            step_results = [
                step(images[part], labels[part], tf.constant([epoch, i]))
                for i, part in enumerate(order)
            ]
            loss, right = np.mean(step_results, axis=0)
            progress(
                f"epoch {epoch + 1}/{num_epochs}: loss {loss:.3f}, accuracy "
                f"{right:.3f}"
            )


def _coarsened(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns images of which half are seen as if at a lower resolution."""
    batch, size = images.shape[0], images.shape[1]
    draw = tf.random.stateless_uniform([batch, 1, 1, 1], seed)
    result = images
    share = 0.5 / len(_COARSE_FACTORS)
    for i, factor in enumerate(_COARSE_FACTORS):
        small = tf.nn.avg_pool2d(images, factor, factor, "VALID")
        coarse = tf.image.resize(small, [size, size])
        chosen = (draw >= i * share) & (draw < (i + 1) * share)
        result = tf.where(chosen, coarse, result)
    return result


def _accuracy(
    model: keras.Model,
    held_out: characters_lib.Characters,
    settings: PretrainSettings,
) -> float:
    """Returns the accuracy on distorted pictures of held-out templates."""
    images, labels = held_out.draw(
        _NUM_VALIDATION_IMAGES, settings.image_size, settings.seed, "held"
    )
    right = 0
    for start in range(0, len(labels), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        x = preprocessing.evaluation_images(images[part], settings.image_size)
        predicted = np.argmax(model(x, training=False)["logits"], axis=1)
        right += int((predicted == labels[part]).sum())
    return right / len(labels)
