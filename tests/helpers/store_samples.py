"""Small components, states and systems that the store's tests share."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_munet.core import specs
from keras_munet.store import system_dir
from keras_munet.store import task_state

EXPERIMENT = {"seed": 0, "search": {"version": "mu2net", "mu": 0.2}}
FAMILY = {"family": "vit", "width": 2}
HPARAMS = {"num_layers": 1, "opt_lr": 0.01}


def component(
    name: str = "head",
    value: float = 0.0,
    *,
    shape: tuple[int, ...] = (2, 3),
    momentum: bool = False,
) -> specs.Component:
    """A component whose values begin at `value`."""
    spec = specs.ComponentSpec(
        name, "Dense", {"units": 3}, (("kernel", shape), ("bias", ()))
    )
    weights = {
        n: (np.arange(np.prod(s), dtype=np.float32) + value).reshape(s)
        for n, s in spec.weights
    }
    bits = {n: np.full(s, 7, np.uint16) for n, s in spec.weights}
    return specs.Component(spec, weights, bits if momentum else None)


def create(place, num_components: int = 2) -> system_dir.SystemDir:
    """A system with a root only."""
    return system_dir.SystemDir.create(
        place,
        experiment=EXPERIMENT,
        family=FAMILY,
        root_components=[component(f"c{i}", i) for i in range(num_components)],
        root_hparams=HPARAMS,
        root_source="random",
    )


def state(
    system: system_dir.SystemDir,
    task: str = "mnist",
    *,
    num_iterations_done: int = 1,
    value: float = 10.0,
    parent: specs.PathRecord | None = None,
    **changes,
) -> task_state.TaskState:
    """A state whose published path has one new head, which is stored."""
    parent = parent or system.root
    head = system.objects.put(component("head", value, momentum=True))
    path = specs.PathRecord(
        task=task,
        parent=parent.id,
        created_in=(num_iterations_done, 0, 0),
        hparams=HPARAMS,
        components=(*system.root.components, head),
        metrics={"quality": 0.5, "score": 0.25},
    )
    made = task_state.TaskState(
        task=task,
        private=False,
        num_classes=2,
        class_names=("a", "b"),
        num_iterations_done=num_iterations_done,
        published=path,
        retired={"0" * 24: system.root.id},
        child_counts={system.root.id: 3},
    )
    return dataclasses.replace(made, **changes)


def same(left: specs.Component, right: specs.Component) -> bool:
    """Whether two components are equal bit for bit."""

    def values(arrays):
        if arrays is None:
            return None
        return {
            n: (a.shape, str(a.dtype), a.tobytes()) for n, a in arrays.items()
        }

    return (
        left.spec == right.spec
        and values(left.weights) == values(right.weights)
        and values(left.momentum) == values(right.momentum)
    )
