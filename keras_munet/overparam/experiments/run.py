"""Runs one experiment on dense tasks: trains, contracts, measures, writes.

Invariant: what is measured is the network that is deployed, contracted and of
ordinary layers, on data that no step has seen. A run that is interrupted and
started again in its folder ends with the numbers of one that was not; a folder
holds one experiment.
"""

from __future__ import annotations

import functools
import json
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
from keras_munet.overparam import combiners
from keras_munet.overparam import contraction
from keras_munet.overparam import fit
from keras_munet.overparam import losses as losses_lib
from keras_munet.overparam import model_transform
from keras_munet.overparam import schedule
from keras_munet.overparam import training
from keras_munet.overparam import weighting
from keras_munet.overparam.experiments import detection_metrics
from keras_munet.overparam.experiments import metrics as metrics_lib
from keras_munet.overparam.experiments import resnet
from keras_munet.overparam.experiments import segnet
from keras_munet.overparam.experiments import settings as settings_lib
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import dense_data
from keras_munet.overparam.experiments.datasets import sources
from keras_munet.store import files as files_lib
from keras_munet.train.devices import workers

METRICS_FILE = "metrics.json"
_NUM_BYTES_MAX = 1 << 26
# The joint network's folder and file; a task's own are called like it.
JOINT = "all_tasks"
_COMBINERS: dict[str, Callable[[], combiners.Combiner]] = {
    "equal": combiners.Equal,
    "uncertainty": weighting.Uncertainty,
    "pcgrad": weighting.PCGrad,
}
_MIB = 2**20
_MOMENTUM = 0.9
# The chance of a middle that detection begins with.
_MIDDLE = 0.01
_NUM_MEASURED_AT_ONCE = 32
# Steps between two lines of progress.
_SAY_EVERY_STEPS = 50
# Steps that compile or warm up, which the median step leaves out.
_NUM_FIRST_STEPS = 5

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
    data = data or sources.load_source(settings)
    method = settings_lib.METHODS[settings.method]
    groups = (
        {JOINT: data.tasks}
        if method.is_joint
        else {task.name: (task,) for task in data.tasks}
    )
    result: dict[str, Any] = {"metrics": {}, "validation": {}}
    costs, networks = [], {}
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
        networks[name] = deployed
    result["cost"] = _cost(costs)
    result["settings"] = settings.to_json()

    def write() -> None:
        for name, network in networks.items():
            network.save(pathlib.Path(folder) / f"{name}.keras")
        text = json.dumps(result, indent=2, sort_keys=True) + "\n"
        files_lib.open_storage(folder).write_atomic(METRICS_FILE, text.encode())

    workers.strategy_workers(strategy).from_chief(write, lambda: None)
    return result


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
    method = settings_lib.METHODS[settings.method]
    if not method.is_factorized:
        return plain
    return model_transform.overparameterize(
        plain,
        None if method.has_task_factors else (),
        depth=settings.depth,
        combination=settings.combination,
        task_factor=settings.task_factor,
    )


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
      DataError: a task has no label in them.
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
    method = settings_lib.METHODS[settings.method]
    divided = schedule.Schedule(
        shared_steps=settings.shared_steps,
        task_steps=settings.task_steps,
        together=settings.together,
    )
    num_shared, num_own = _steps_of_each(divided, method, tasks, num_steps)
    trainer = training.Trainer(
        strategy,
        lambda: make_network(settings, tasks),
        losses_lib.make_loss(tasks),
        shared_optimizer=lambda: _optimizer(
            settings, settings.learning_rate, num_shared
        ),
        task_optimizer=lambda: _optimizer(
            settings,
            settings.task_learning_rate or settings.learning_rate,
            num_own,
        ),
        schedule=divided,
        combiner=_COMBINERS[method.combiner](),
        seed=settings.seed,
    )
    clock = _Clock(name, num_steps, say)
    fit.train(
        trainer,
        batch_of,
        num_steps,
        place=pathlib.Path(folder) / name,
        save_every=settings.save_every,
        settings={**settings.to_json(), "network_of": name},
        on_step=clock.tick,
    )
    deployed = contraction.contract(trainer.model)
    cost = {
        "num_steps": num_steps,
        "step_secs": clock.step_secs,
        "trained_params": sum(
            int(np.prod(v.shape)) for v in trainer.model.trainable_variables
        ),
        "deployed_params": contraction.num_params(deployed),
        "multiply_adds": contraction.multiply_adds(deployed),
    }
    return deployed, cost


def _steps_of_each(divided, method, tasks, num_steps) -> tuple[int, int]:
    """Returns how many steps shared variables and each task's factors take."""
    names = sorted(task.name for task in tasks)
    if not method.has_task_factors:
        names = []
    phases = [divided.phase(step, names) for step in range(num_steps)]
    num_own = sum(phase.task is not None for phase in phases)
    return (
        max(sum(phase.shared for phase in phases), 1),
        max(num_own // max(len(names), 1), 1),
    )


def _optimizer(
    settings: settings_lib.Settings,
    learning_rate: float,
    num_steps: int,
) -> keras.optimizers.Optimizer:
    # Each optimizer counts the steps that it takes itself.
    rates = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rates)
    return keras.optimizers.SGD(rates, momentum=_MOMENTUM, nesterov=True)


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


class _Clock:
    """Times steps and says how training goes."""

    def __init__(self, name: str, num_steps: int, say: Say):
        self._name = name
        self._num_steps = num_steps
        self._say = say
        self._last: float | None = None
        self._secs: list[float] = []

    def tick(self, step: int, losses: dict[str, float]) -> None:
        """Notes that a step, counted from 0, is done."""
        now = time.perf_counter()
        if self._last is not None:
            self._secs.append(now - self._last)
        self._last = now
        num_steps = step + 1
        if num_steps % _SAY_EVERY_STEPS == 0 or num_steps == self._num_steps:
            losses_text = ", ".join(f"{t} {v:.3f}" for t, v in losses.items())
            remaining_secs = (self._num_steps - num_steps) * self.step_secs
            self._say(
                f"{self._name}: step {num_steps} of {self._num_steps}, loss "
                f"{losses_text}, {remaining_secs:.0f} s left"
            )

    @property
    def step_secs(self) -> float:
        """The median time of a step; 0 if none was done here."""
        timed = self._secs[_NUM_FIRST_STEPS:] or self._secs
        return statistics.median(timed) if timed else 0.0


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
