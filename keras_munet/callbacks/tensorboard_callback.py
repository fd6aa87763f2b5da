"""A job's events as TensorBoard shows them: scalars, HParams, images, graphs.

Invariant: what is written follows from the events that `metrics.jsonl` has,
but for the graph of a generation and a task's sample images, which no event
holds. Nothing is read back, so the folder may be deleted at any time.

A task is a run, and so is each child: that is how the HParams page compares
children. Steps of a task are its generations, steps of a child its cycles.
"""

from __future__ import annotations

import io
import os
import pathlib
import shlex
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.callbacks import callback as callback_lib
from keras_munet.core import child_record
from keras_munet.core import names
from keras_munet.core import plugins
from keras_munet.core import system_paths
from keras_munet.data import types
from keras_munet.search import plan as plan_lib

FOLDER = "tensorboard"
_NUM_IMAGES = 12
_SCORE = "score"
# Images smaller than this are drawn larger, pixel by pixel.
_SIDE_MIN = 64


def log_folder(workdir: str, folder: str, enabled: bool) -> str | None:
    """Returns where a job writes for TensorBoard; None for nowhere.

    Args:
      workdir: of the system.
      folder: the folder that was requested, which may be empty.
      enabled: whether to write beside the system without one.
    """
    return folder or (os.path.join(workdir, FOLDER) if enabled else None)


def tensorboard_command(folder: str) -> str:
    """Returns the command that shows a folder."""
    return f"tensorboard --logdir={shlex.quote(folder)}"


def require_tensorboard() -> None:
    """Does nothing where TensorBoard is installed.

    Raises:
      UsageError: it is not.
    """
    plugins.import_extra(
        *("tensorboard", "tensorboard", "event files need"),
        otherwise="leave out --tensorboard",
    )


class TensorBoard(callback_lib.Callback):
    """Writes event files."""

    def __init__(
        self,
        folder: str,
        num_generations: int,
        samples: Callable[[str], types.TaskData] | None = None,
    ):
        """Prepares a folder.

        Args:
          folder: where runs go; it may have some.
          num_generations: of a task iteration, so that a job that goes on
            counts on.
          samples: returns a task's data by its name, for sample images.

        Raises:
          UsageError: the package tensorboard is not installed.
          StoreError: the folder cannot be written.
        """
        require_tensorboard()
        self._folder = folder
        self._num_generations = num_generations
        self._samples = samples
        self._tasks: dict[str, Any] = {}
        self._write(folder, [(0, _hparams_config())])

    def on_generation_begin(self, plan: plan_lib.GenerationPlan) -> None:
        """Writes the graph of a generation before it is trained.

        Raises:
          StoreError: it cannot be written.
        """
        from tensorboard.compat.proto import event_pb2

        number = plan.generation + 1
        event = event_pb2.Event(
            wall_time=time.time(),
            step=number,
            graph_def=_graph(plan).SerializeToString(),
        )
        run = f"round_{plan.iteration + 1}/generation_{number}"
        self._write(self._run(plan.task, run), [event])

    def on_run_end(self) -> None:
        """Ends the files of all tasks."""
        for writer in self._tasks.values():
            writer.close()
        self._tasks.clear()

    def on_generation_end(self, event: Mapping[str, Any]) -> None:
        """Writes the scalars of a generation.

        Raises:
          StoreError: they cannot be written.
        """
        task, iteration = event["task"], event["iteration"]
        step = iteration * self._num_generations + event["number"]
        scalars = {f"secs/{k}": v for k, v in event["clock"].items()}
        scalars["secs/generation"] = event["generation_secs"]
        if event["best_score"] is not None:
            scalars["best_score"] = event["best_score"]
        scores = [
            c["score"] for c in event["children"] if c["score"] is not None
        ]
        if scores:
            scalars["mean_child_score"] = float(np.mean(scores))
        improved = sum(child["improved"] for child in event["children"])
        scalars["num_improved"] = float(improved)
        self._task_scalars(task, step, scalars)

    def on_child_end(
        self, event: Mapping[str, Any], child: Mapping[str, Any]
    ) -> None:
        """Writes the run of a child.

        Raises:
          StoreError: it cannot be written.
        """
        task = event["task"]
        run = f"round_{event['iteration'] + 1}/child_{child['index']:03d}"
        self._write(self._run(task, run), _child(task, child))

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Writes the metrics of the published path.

        Raises:
          StoreError: they cannot be written.
        """
        metrics = event["path"]["metrics"]
        self._task_scalars(
            event["task"],
            event["iteration"] + 1,
            {f"published/{key}": value for key, value in metrics.items()},
        )

    def _task_scalars(
        self, task: str, step: int, scalars: Mapping[str, float]
    ) -> None:
        try:
            if task not in self._tasks:
                self._tasks[task] = _writer(self._run(task))
                for summary in self._images(task):
                    self._tasks[task].add_event(_event(0, summary))
            for name, value in scalars.items():
                self._tasks[task].add_event(_event(step, _scalar(name, value)))
            self._tasks[task].flush()
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def _images(self, task: str) -> list[Any]:
        if self._samples is None:
            return []
        data = self._samples(task)
        count = min(_NUM_IMAGES, len(data.train))
        pixels, labels = data.train.batch(np.arange(count))
        images: dict[str, list[np.ndarray]] = {}
        for image, label in zip(pixels, labels, strict=True):
            images.setdefault(data.class_names[label], []).append(image)
        return [_image(f"samples/{k}", v) for k, v in sorted(images.items())]

    def _run(self, task: str, run: str = "") -> str:
        # A task's own slash would look like a run of the task before it.
        return os.path.join(self._folder, names.file_name(task), run)

    def _write(self, folder: str, items: Iterable[Any]) -> None:
        """Writes a run that is whole: events, or (step, summary)."""
        try:
            writer = _writer(folder)
            for item in items:
                writer.add_event(
                    _event(*item) if isinstance(item, tuple) else item
                )
            writer.close()
        except OSError as error:
            raise _unwritable(self._folder, error) from error


def _writer(folder: str) -> Any:
    from tensorboard.summary.writer import event_file_writer

    if "://" not in folder:
        system_paths.refuse_links(folder)
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    return event_file_writer.EventFileWriter(folder)


def _event(step: int, summary: Any) -> Any:
    from tensorboard.compat.proto import event_pb2

    event = event_pb2.Event(wall_time=time.time(), step=step)
    # Some of TensorBoard's own functions return TensorFlow's class for it.
    event.summary.ParseFromString(summary.SerializeToString())
    return event


def _scalar(name: str, value: float) -> Any:
    from tensorboard.plugins.scalar import summary_v2

    return summary_v2.scalar_pb(name, float(value))


def _image(name: str, images: list[np.ndarray]) -> Any:
    """Returns the summary of `[height, width, channels] uint8` images."""
    from PIL import Image
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.image import metadata
    from tensorboard.util import tensor_util

    encoded = []
    for image in images:
        times = max(1, -(-_SIDE_MIN // max(image.shape[:2])))
        image = image.repeat(times, 0).repeat(times, 1)
        plain = image[..., 0] if image.shape[-1] == 1 else image
        file = io.BytesIO()
        Image.fromarray(plain).save(file, "png")
        encoded.append(file.getvalue())
    height, width = image.shape[:2]
    sizes = [str(width).encode(), str(height).encode()]
    return summary_pb2.Summary(
        value=[
            summary_pb2.Summary.Value(
                tag=name,
                metadata=metadata.create_summary_metadata(name, ""),
                tensor=tensor_util.make_tensor_proto([*sizes, *encoded]),
            )
        ]
    )


def _hparams_config() -> Any:
    from tensorboard.plugins.hparams import summary_v2 as hparams

    return hparams.hparams_config_pb(
        hparams=[], metrics=[hparams.Metric(_SCORE, display_name="best score")]
    )


def _child(task: str, child: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """Returns (step, summary) of every fact of a child."""
    from tensorboard.plugins.hparams import summary
    from tensorboard.plugins.hparams import summary_v2 as hparams

    hparam_values: dict[str, Any] = {
        "task": task,
        "parent_task": child["parent_task"],
        "num_trained": len(child["trained"]),
        **child["hparams"],
    }
    record = None
    if child_record.KEY in child:
        record = child_record.ChildRecord.from_json(child[child_record.KEY])
        hparam_values["size_factor"] = record.size_factor
        hparam_values["accounted_params"] = record.accounted_params
        hparam_values["num_mutations"] = len(record.mutations)
        for init, number in record.num_by_init.items():
            hparam_values[f"num_{init}"] = number
    events = [(0, hparams.hparams_pb(hparam_values))]
    if record is not None and record.quality is not None:
        events.append((0, _scalar("quality", record.quality)))
    for cycle, (score, loss) in enumerate(
        zip(child["scores"], child["losses"], strict=True), start=1
    ):
        # A child that diverged has neither.
        if score is not None:
            events.append((cycle, _scalar("cycle/score", score)))
        if loss is not None:
            events.append((cycle, _scalar("cycle/loss", loss)))
    if child["score"] is not None:
        events.append((0, _scalar(_SCORE, child["score"])))
    failed = child["score"] is None
    status = "STATUS_FAILURE" if failed else "STATUS_SUCCESS"
    events.append((0, summary.session_end_pb(status)))
    return events


def _graph(plan: plan_lib.GenerationPlan) -> Any:
    """Returns a generation as TensorBoard's graph of components.

    As in the trained graph, a component that several children apply to the
    same input is one node.
    """
    from tensorboard.compat.proto import attr_value_pb2
    from tensorboard.compat.proto import graph_pb2
    from tensorboard.compat.proto import node_def_pb2
    from tensorboard.compat.proto import versions_pb2

    nodes = [node_def_pb2.NodeDef(name="images", op="Images")]
    node_names: dict[tuple[str, str], str] = {}
    for child in plan.children:
        below = "images"
        for part in child.components:
            scope = f"child_{child.index}/{part.spec.name}"
            identity = scope
            if not part.is_new:
                identity = part.known_source().id
                scope = f"shared/{part.spec.name}_{identity[:8]}"
            if (identity, below) in node_names:
                below = node_names[identity, below]
                continue
            name, number = scope, 1
            while name in node_names.values():
                number += 1
                name = f"{scope}_{number}"
            node_names[identity, below] = name
            node = node_def_pb2.NodeDef(
                name=name, op=part.spec.layer, input=[below]
            )
            node.attr["trained"].b = part.trainable
            node.attr["num_params"].i = part.spec.num_params
            node.attr["starts_from"].s = part.init.encode()
            if part.source is not None and part.source_task is not None:
                node.attr["source"].s = part.source.id.encode()
                node.attr["source_task"].s = part.source_task.encode()
            nodes.append(node)
            below = name
        head = node_def_pb2.NodeDef(
            name=f"child_{child.index}/logits", op="Output", input=[below]
        )
        parent = f"{child.parent.task} {child.parent.id}"
        head.attr["parent"].CopyFrom(
            attr_value_pb2.AttrValue(s=parent.encode())
        )
        nodes.append(head)
    return graph_pb2.GraphDef(
        node=nodes, versions=versions_pb2.VersionDef(producer=22)
    )


def _unwritable(folder: str, error: OSError) -> errors.StoreError:
    return errors.StoreError(
        f"cannot write TensorBoard's files to {folder}: {error.strerror}; "
        "choose another --tensorboard_dir, or leave it out"
    )
