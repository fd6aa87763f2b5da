"""A small system, published through the store, that the report's tests share.

Every number that the tests expect can be computed by hand from the table in
`build`.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np

from keras_munet.core import child_record
from keras_munet.core import specs
from keras_munet.store import system_dir
from keras_munet.store import task_state

HOSTILE = '<script>alert("x")</script>'
TASKS = ("birds", "cats/wild", "private:dogs")
# Children of every generation: (score, whether it improved).
CHILDREN = ((0.5, True), (None, False), (0.25, False))
CLOCK = {"train_secs": 6.0, "validate_secs": 2.0}
GENERATION_SECS = 10.0
OBJECT_ID = "0f" * 32
# A child that shares, resamples, copies and has something fresh.
RECORD = child_record.ChildRecord(
    components=(
        child_record.ComponentOrigin(
            "embedding", "share", False, 10, OBJECT_ID, "NOT_TRAINABLE"
        ),
        child_record.ComponentOrigin(
            "posembed_input", "resample", False, 4, OBJECT_ID, "NOT_TRAINABLE"
        ),
        child_record.ComponentOrigin(
            "encoderblock_0", "copy", True, 100, OBJECT_ID, "birds"
        ),
        child_record.ComponentOrigin("head", "fresh", True, 6, None, None),
    ),
    mutations=(
        child_record.Mutation("ds_crop", True, False),
        child_record.Mutation("opt_lr", 0.01, 0.02),
        child_record.Mutation("opt_lr_schedule", "cosine", "linear"),
    ),
    adapters_inserted=("residual_adapter_0",),
    adapters_removed=("residual_adapter_1",),
    size_factor=0.97,
    accounted_params=55.5,
    quality=0.75,
    duplicate_of=3,
)


def component(name: str, num_params: int, value: float) -> specs.Component:
    """A component with one weight of `num_params` values."""
    spec = specs.ComponentSpec(
        name, "Dense", {"units": num_params}, (("kernel", (num_params,)),)
    )
    values = np.full((num_params,), value, np.float32)
    return specs.Component(spec, {"kernel": values})


def create(
    workdir: pathlib.Path, task_names: tuple[str, ...] = TASKS
) -> system_dir.SystemDir:
    """A system with a root of 10 + 100 + 20 parameters and no tasks."""
    return system_dir.SystemDir.create(
        workdir,
        experiment={
            "seed": 7,
            "task_names": list(task_names),
            "num_task_iters": 2,
            "num_samples_per_task": 6,
            "search": {"version": "mu2net", "score_base": 1.0},
        },
        family={"family": "vit", "width": 2},
        root_components=[
            component("embedding", 10, 0),
            component("encoderblock_0", 100, 0),
            component("encoder_norm", 20, 0),
        ],
        root_hparams={"num_layers": 1},
        root_source="random",
    )


def publish(
    directory: system_dir.SystemDir,
    task: str,
    components: list[specs.ComponentRef],
    parent: specs.PathRecord | str,
    **changes,
) -> specs.PathRecord:
    """Publishes a path of `task`; `changes` are parts of its state."""
    metrics = changes.pop("metrics", {"quality": 0.5, "test_quality": 0.25})
    path = specs.PathRecord(
        task=task,
        parent=parent if isinstance(parent, str) else parent.id,
        created_in=(len(directory.tasks()), 0, 0),
        hparams={"num_layers": 1},
        components=tuple(components),
        metrics=metrics,
    )
    state = {
        "private": False,
        "num_classes": 2,
        "class_names": (),
        "num_iterations_done": 1,
        **changes,
    }
    directory.publish(task_state.TaskState(task=task, published=path, **state))
    return path


def build(workdir: pathlib.Path) -> system_dir.SystemDir:
    """A system of three tasks; who uses what, by parameters:

    =============== ========= ========= =========
    component       birds     cats/wild dogs
    =============== ========= ========= =========
    embedding       root 10   root 10   root 10
    encoderblock_0  root 100  own 100   cats' 100
    encoder_norm    own 20    cats' 20  cats' 20
    head            own 4     own 6     own 8
    =============== ========= ========= =========

    cats/wild descends from birds over a path of birds that was replaced.
    """
    directory = create(workdir)
    embedding, block, _ = directory.root.components

    def put(name: str, num_params: int, value: float) -> specs.ComponentRef:
        return directory.objects.put(component(name, num_params, value))

    birds = publish(
        directory,
        "birds",
        [embedding, block, put("encoder_norm", 20, 1), put("head", 4, 1)],
        directory.root,
        class_names=(HOSTILE, "a & b"),
        metrics={"quality": 0.75, "test_quality": 0.5, "score": 0.7},
        num_iterations_done=2,
        retired={"a" * 24: directory.root.id},
    )
    cats = publish(
        directory,
        "cats/wild",
        [
            embedding,
            put("encoderblock_0", 100, 2),
            put("encoder_norm", 20, 2),
            put("head", 6, 2),
        ],
        "b" * 24,
        metrics={"quality": 0.25, "test_quality": 0.75, "score": 0.25},
        retired={"b" * 24: birds.id},
    )
    publish(
        directory,
        "dogs",
        [*cats.components[:3], put("head", 8, 3)],
        cats,
        private=True,
    )
    return directory


def generation(task: str, number: int, iteration: int = 0, **changes) -> dict:
    """The event of a generation."""
    children = [
        {
            "index": i,
            "parent": "c" * 24,
            "parent_task": "NOT_TRAINABLE",
            "num_layers": 1,
            "hparams": {"opt_lr": 0.01},
            "components": ["embedding", "head"],
            "trained": ["head"],
            "scores": [score],
            "losses": [1.0],
            "score": score,
            "improved": improved,
        }
        for i, (score, improved) in enumerate(CHILDREN)
    ]
    return {
        "event": "generation",
        "job_secs": 1.0,
        "task": task,
        "iteration": iteration,
        "number": number,
        "children": children,
        "best_score": 0.5,
        "generation_secs": GENERATION_SECS,
        "clock": dict(CLOCK),
        **changes,
    }


def published(task: str, iteration: int, path_id: str = "d" * 24) -> dict:
    """The event of a publication; a report reads no more of its path."""
    return {
        "event": "published",
        "job_secs": 2.0,
        "task": task,
        "iteration": iteration,
        "path": {"id": path_id},
    }


def write_events(workdir: pathlib.Path, *events: dict, torn: str = "") -> None:
    """Writes `metrics.jsonl`, `torn` as its last line without a newline."""
    lines = [json.dumps(event, sort_keys=True) + "\n" for event in events]
    text = "".join(lines) + torn
    (workdir / "metrics.jsonl").write_text(text, encoding="utf-8")
