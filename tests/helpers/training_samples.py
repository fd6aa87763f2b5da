"""Small children and data that the training tests share."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_munet.core import settings
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.models.vit import architecture
from keras_munet.models.vit import variants
from keras_munet.train import child_job
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import strategy as strategy_lib

FAMILY = architecture.VitFamily.of(variants.variant("mu"), 4)
HPARAMS = {**settings.DEFAULT_HPARAMS, "opt_lr": 0.05}
DATA_HPARAMS = {
    **{k: v for k, v in HPARAMS.items() if k.startswith("ds_")},
    "ds_image_size": 16,
}
NUM_CLASSES = 3


def data(num_train: int = 96, num_validation: int = 50) -> types.TaskData:
    """Images whose class is where their bright quarter lies."""
    rng = np.random.default_rng(0)

    def split(number: int) -> types.Split:
        labels = rng.integers(0, NUM_CLASSES, number).astype(np.int32)
        images = rng.integers(0, 120, (number, 16, 16, 3)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 120
        return types.Split(images, labels)

    return types.TaskData(
        name="quarters",
        num_classes=NUM_CLASSES,
        class_names=("a", "b", "c"),
        train=split(num_train),
        validation=split(num_validation),
        test=split(40),
    )


def job(
    index: int,
    num_layers: int,
    frozen: tuple[str, ...] = (),
    seed: int = 0,
    adapters: tuple[int, ...] = (),
    factor_depth: int = 0,
    image_size: int = 16,
    **changes,
) -> child_job.ChildJob:
    """A child that trains all but the components named in `frozen`.

    Frozen ones have equal ids and values in all children of one seed. With a
    `factor_depth` adapters and head are trained as factors.
    """
    layout = FAMILY.layout(
        {
            "num_layers": num_layers,
            "ds_image_size": image_size,
            "adapter_dim": 8,
        },
        NUM_CLASSES,
        frozenset(adapters),
    )

    def part(spec: specs.ComponentSpec) -> child_job.JobComponent:
        shared = spec.name in frozen
        # A new component has values of its own, a shared one those of all.
        own = 0 if shared else index + 1

        def load() -> specs.Component:
            rng = np.random.default_rng([seed, own, len(spec.name)])
            return FAMILY.initial(spec, rng)

        shared_id = f"{spec.name}-{seed}" if shared else None
        in_factors = spec.name == "head" or "adapter" in spec.name
        depth = factor_depth if in_factors else 0
        return child_job.JobComponent(spec, load, shared_id, not shared, depth)

    hparams = {**HPARAMS, **changes.pop("hparams", {})}
    return child_job.ChildJob(
        index=index,
        components=tuple(part(spec) for spec in layout),
        hparams=hparams,
        **changes,
    )


def multi_label_data() -> types.TaskData:
    """Images of which each of three quarters is bright or not."""
    rng = np.random.default_rng(0)

    def changed(split: types.Split) -> types.Split:
        images = split.images // 2
        labels = rng.integers(0, 2, (len(split), 3)).astype(np.int32)
        for image, row in zip(images, labels, strict=True):
            for number in np.flatnonzero(row):
                top, left = 8 * (number // 2), 8 * (number % 2)
                image[top : top + 8, left : left + 8] += 120
        return dataclasses.replace(split, images=images, labels=labels)

    plain = data()
    return dataclasses.replace(
        plain,
        name="bright",
        train=changed(plain.train),
        validation=changed(plain.validation),
        test=changed(plain.test),
    )


def two_children(**hparams) -> list[child_job.ChildJob]:
    """Two children, of which the second shares more."""
    return [
        job(0, 1, hparams=hparams),
        job(1, 1, ("embedding",), hparams=hparams),
    ]


def trainer(
    strategy: str = "one_device",
    batch_size: int = 16,
    num_cycles: int = 2,
    compute_dtype: str = "float32",
    num_bytes_max: int | None = None,
    quality: str = "accuracy",
    class_weights: str = "none",
    engine: str = "auto",
    **options,
) -> trainer_lib.Trainer:
    """A trainer of a few steps per child."""
    budget = child_job.Budget(
        num_cycles, batch_size, 96, 50, quality, class_weights
    )
    return trainer_lib.Trainer(
        strategy_lib.make_strategy(strategy),
        budget,
        7,
        compute_dtype,
        num_bytes_max,
        engine,
        **options,
    )


def train(children, made=None, data_hparams=None, task=None, **options):
    """Trains children as generation 0; returns the results."""
    return (made or trainer()).train(
        children,
        task or data(),
        {**DATA_HPARAMS, **(data_hparams or {})},
        ("quarters", 0),
        **{"accept_ties": True, **options},
    )


def assert_close(first, second, atol=2e-5):
    """Asserts that two trained children have close values."""
    assert first.components.keys() == second.components.keys()
    for name, component in first.components.items():
        for key, value in component.weights.items():
            np.testing.assert_allclose(
                value,
                second.components[name].weights[key],
                atol=atol,
                err_msg=f"{name}/{key}",
            )
