"""Runs one experiment on dense tasks: trains, contracts, measures, writes.

Invariant: what is measured is the network that is deployed, contracted and of
ordinary layers, on data that no step has seen. A run that is interrupted and
started again in its folder ends with the numbers of one that was not; a folder
holds one experiment.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import resource
import statistics
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import seeds
from keras_munet.overparam import contraction
from keras_munet.overparam import model_transform
from keras_munet.overparam.experiments import detection_metrics
from keras_munet.overparam.experiments import losses as losses_lib
from keras_munet.overparam.experiments import metrics as metrics_lib
from keras_munet.overparam.experiments import networks
from keras_munet.overparam.experiments import resnet
from keras_munet.overparam.experiments import segnet
from keras_munet.overparam.experiments import settings as settings_lib
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments import weighting
from keras_munet.overparam.experiments.datasets import dense_data
from keras_munet.overparam.experiments.datasets import sources
from keras_munet.store import files as files_lib

METRICS_FILE = "metrics.json"
# Of an experiment that has begun.
SETTINGS_FILE = "settings.json"
_NUM_BYTES_MAX = 1 << 26
# The joint network's folder and file; a task's own are called like it.
JOINT = "all_tasks"
_COMBINED: dict[str, type[keras.Model]] = {
    "uncertainty": weighting.UncertaintyModel,
    "pcgrad": weighting.PCGradModel,
}
_MIB = 2**20
_MOMENTUM = 0.9
# The chance of a middle that detection begins with.
_MIDDLE = 0.01
_NUM_MEASURED_AT_ONCE = 32

Say = Callable[[str], None]


def run(
    settings: settings_lib.Settings,
    folder: str,
    strategy: Any,
    *,
    data: dense_data.DataSet | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Runs an experiment, or returns what it found if it is finished.

    Writes `metrics.json` and, for the joint network or each task's own, the
    contracted `NAME.keras`.

    Args:
      settings: what to run.
      folder: its own, local; made where there is none.
      strategy: of `train.strategy`, where steps run.
      data: those that the settings name, if they are loaded already.
      say: gets one line now and then.

    Returns:
      `settings`; `metrics` and `validation`, each task -> metric -> value;
      `cost`, see `_cost`.

    Raises:
      UsageError: the folder holds another experiment, or a setting cannot be.
      DataError: data are missing, or a loss became infinite.
    """
    files_lib.require_local(folder, "--output_dir")
    path = pathlib.Path(folder) / METRICS_FILE
    if path.exists():
        return _finished(path, settings)
    begun = pathlib.Path(folder) / SETTINGS_FILE
    if begun.exists():
        _finished(begun, settings)
    else:
        _write_json(folder, SETTINGS_FILE, {"settings": settings.to_json()})
    data = data or sources.load_source(settings)
    method = settings_lib.METHODS[settings.method]
    groups = (
        {JOINT: data.tasks}
        if method.is_joint
        else {task.name: (task,) for task in data.tasks}
    )
    result: dict[str, Any] = {"metrics": {}, "validation": {}}
    costs, trained = [], {}
    for name, tasks in groups.items():
        deployed, cost = _train(
            settings, name, tasks, data, folder, strategy, say
        )
        costs.append(cost)
        for key, examples in (
            ("validation", data.validation),
            ("metrics", data.test),
        ):
            result[key].update(measure_network(deployed, tasks, examples))
        trained[name] = deployed
    result["cost"] = _cost(costs)
    result["settings"] = settings.to_json()

    for name, network in trained.items():
        network.save(pathlib.Path(folder) / f"{name}.keras")
        (pathlib.Path(folder) / f"{name}.weights.h5").unlink(missing_ok=True)
    _write_json(folder, METRICS_FILE, result)
    return result


def _write_json(folder: str, name: str, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    files_lib.open_storage(folder).write_atomic(name, text.encode())


def make_network(
    settings: settings_lib.Settings, tasks: Sequence[tasks_lib.Task]
) -> keras.Model:
    """Returns the network that a method trains, newly initialised.

    Methods with products begin with the outputs of those without: the seed
    gives both the same kernels.

    Raises:
      UsageError: the image does not divide as the network halves it.
    """
    keras.utils.set_random_seed(
        int(seeds.generator(settings.seed, "weights").integers(2**31))
    )
    outputs = {task.name: task.num_outputs for task in tasks}
    size = (settings.image_height, settings.image_width)
    if settings.network == "segnet":
        plain = segnet.segnet(
            outputs,
            size,
            width=settings.width,
            num_stages=settings.num_stages,
        )
    else:
        plain = resnet.resnet(
            outputs,
            size,
            width=settings.width,
            blocks_per_stage=(2,) * settings.num_stages,
        )
    for task in tasks:
        if task.task_type == tasks_lib.DETECTION:
            _expect_few_middles(plain, task)
    if not settings.norm:
        plain = networks.without_norms(plain)
    method = settings_lib.METHODS[settings.method]
    if method.is_factorized:
        return model_transform.overparameterize(
            plain,
            None if method.has_task_factors else (),
            depth=settings.depth,
            task_factor=settings.task_factor,
            shared_steps=settings.shared_steps,
            task_steps=settings.task_steps,
        )
    if method.combiner in _COMBINED:
        return _COMBINED[method.combiner](plain.input, plain.output)
    return plain


def _expect_few_middles(model: keras.Model, task: tasks_lib.Task) -> None:
    """Makes heatmaps begin low (arXiv 1708.02002, section 4.1).

    At a half, the many pixels that are no middle would drown every other loss.
    """
    layer = model.get_layer(f"{task.name}_output")
    bias = np.zeros(task.num_outputs, np.float32)
    bias[: -tasks_lib.NUM_BOX_CHANNELS] = np.log(_MIDDLE / (1 - _MIDDLE))
    layer.bias.assign(bias)


def measure_network(
    model: keras.Model,
    tasks: Sequence[tasks_lib.Task],
    examples: dense_data.Examples,
) -> dict[str, dict[str, float]]:
    """Returns task -> metric -> value of a network on some examples.

    Raises:
      DataError: a task has no label in them, or an output is not finite.
    """
    kinds = {task.task_type: task.name for task in tasks}
    meters = {
        task.name: detection_metrics.Detection(task)
        if task.task_type == tasks_lib.DETECTION
        else metrics_lib.make_metric(task)
        for task in tasks
    }
    predict = tf.function(
        functools.partial(model, training=False),
        input_signature=[
            tf.TensorSpec([None, *examples.images.shape[1:]], tf.float32)
        ],
        autograph=False,
    )
    for images, labels in dense_data.in_order(examples, _NUM_MEASURED_AT_ONCE):
        outputs = {
            name: output.numpy()
            for name, output in predict(tf.constant(images)).items()
        }
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise errors.DataError(
                    f"the network's output for {name} is not finite; use a "
                    "smaller learning rate"
                )
        classes = None
        if tasks_lib.SEGMENTATION in kinds:
            classes = outputs[kinds[tasks_lib.SEGMENTATION]].argmax(-1)
        for name, meter in meters.items():
            if isinstance(meter, detection_metrics.Detection):
                meter.update(labels[name], outputs[name], classes)
            else:
                meter.update(labels[name], outputs[name])
    return {name: meter.result() for name, meter in meters.items()}


def _train(settings, name, tasks, data, folder, strategy, say):
    """Returns the contracted network and what it cost."""
    num_batches = len(data.train) // settings.batch_size
    batch_of = dense_data.batch_maker(
        data.train,
        tasks,
        batch_size=settings.batch_size,
        seed=settings.seed,
        flip=settings.flip,
    )
    num_steps = settings.num_epochs * num_batches
    with strategy.scope():
        model = make_network(settings, tasks)
        model.compile(
            _optimizer(settings, num_steps),
            loss=losses_lib.make_losses(tasks),
            # A first compilation takes longer than it saves in short runs.
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)
    path = pathlib.Path(folder) / f"{name}.weights.h5"
    if path.exists():
        model.load_weights(path)
    signature = tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype), batch_of(0)
    )
    epoch_secs = []
    for epoch in range(
        _num_steps_taken(model) // num_batches, settings.num_epochs
    ):
        steps = range(epoch * num_batches, (epoch + 1) * num_batches)
        batches = tf.data.Dataset.from_generator(
            lambda steps=steps: map(batch_of, steps), output_signature=signature
        ).apply(tf.data.experimental.assert_cardinality(num_batches))
        began = time.perf_counter()
        logs = model.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
        ).history
        epoch_secs.append(time.perf_counter() - began)
        _check_finite(name, epoch, logs)
        _save_weights(model, path)
        text = ", ".join(f"{k} {v[-1]:.3f}" for k, v in sorted(logs.items()))
        left = (settings.num_epochs - epoch - 1) * statistics.median(epoch_secs)
        say(
            f"{name}: epoch {epoch + 1} of {settings.num_epochs}, {text}, "
            f"{left:.0f} s left"
        )
    deployed = contraction.contract(model)
    cost = {
        "num_steps": num_steps,
        "step_secs": statistics.median(epoch_secs or [0.0]) / num_batches,
        "trained_params": sum(
            int(np.prod(v.shape)) for v in model.trainable_variables
        ),
        "deployed_params": contraction.num_params(deployed),
        "multiply_adds": contraction.multiply_adds(deployed),
    }
    return deployed, cost


def _num_steps_taken(model: keras.Model) -> int:
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def _check_finite(name: str, epoch: int, logs: dict[str, list[float]]) -> None:
    bad = [key for key, values in logs.items() if not np.isfinite(values[-1])]
    if bad:
        raise errors.DataError(
            f"{name}: {bad[0]} is {logs[bad[0]][-1]} in epoch {epoch + 1}; "
            "look at its labels, or use a smaller learning rate"
        )


def _save_weights(model: keras.Model, path: pathlib.Path) -> None:
    """Replaces the state of weights and optimizer in one step."""
    part = path.with_name(f"unfinished-{path.name}")
    model.save_weights(part)
    os.replace(part, path)


def _optimizer(
    settings: settings_lib.Settings, num_steps: int
) -> keras.optimizers.Optimizer:
    rates = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, num_steps
    )
    decay = settings.weight_decay or None
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.Adam(rates, weight_decay=decay)
    else:
        optimizer = keras.optimizers.SGD(
            rates, momentum=_MOMENTUM, nesterov=True, weight_decay=decay
        )
    if decay is not None:
        optimizer.exclude_from_weight_decay(
            var_names=["bias", "gamma", "beta", "log_variances"]
        )
    return optimizer


def _cost(costs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns what all networks of a method cost together.

    Steps, parameters and multiply-adds (of one image) are summed, and
    `train_secs` is the time of all steps if each took as long as the median
    one; `step_secs` is of one step of every network.
    """
    return {
        **{key: sum(cost[key] for cost in costs) for key in costs[0]},
        "train_secs": sum(c["num_steps"] * c["step_secs"] for c in costs),
        # Kibibytes, as Linux counts.
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * 1024
        / _MIB,
    }


def _finished(path, settings):
    try:
        result = guarded_json.loads(
            guarded_file.read_file(path, _NUM_BYTES_MAX)
        )
        stored = result["settings"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise errors.StoreError(
            f"{path} is not what an experiment writes ({type(e).__name__}); "
            "delete it, or give another folder"
        ) from e
    current = settings.to_json()
    if stored != current:
        differ = [k for k in current if stored.get(k) != current[k]]
        raise errors.UsageError(
            f"{path} is of another experiment: {', '.join(differ)} differ; "
            "give another folder"
        )
    return result
