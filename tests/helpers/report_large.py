"""A system of many tasks and children, as a report reads it.

The store holds every task's published path; `metrics.jsonl` tells of every
child. Scores and parents are drawn; nothing was trained.
"""

from __future__ import annotations

import pathlib

import numpy as np
import report_samples

from keras_munet.core import child_record
from keras_munet.core import specs

_NUM_CYCLES = 4
_PLACES = (
    *("embedding", "cls", "posembed_input", "encoderblock_0"),
    *("encoderblock_1", "encoderblock_2", "encoder_norm", "head"),
)
_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def build(workdir: pathlib.Path, num_tasks: int, num_children: int) -> None:
    """Makes a system of one task iteration with one generation per task."""
    rng = np.random.default_rng(0)
    names = [f"family_{i % 40}/task_{i}" for i in range(num_tasks)]
    directory = report_samples.create(workdir, tuple(names))
    root = directory.root
    parents = [(root.id, specs.NOT_TRAINABLE)]
    shared = [
        directory.objects.put(report_samples.component(name, 50, i))
        for i, name in enumerate(_PLACES[:-1])
    ]
    num_each = num_children // num_tasks
    events = []
    for t, task in enumerate(names):
        # A new component for every twentieth task, shared by later ones.
        if t % 20 == 0:
            place = t // 20 % len(shared)
            shared[place] = directory.objects.put(
                report_samples.component(_PLACES[place], 50, 100 + t)
            )
        head = directory.objects.put(
            report_samples.component("head", 10, 10_000 + t)
        )
        parent, parent_task = parents[
            rng.integers(max(0, len(parents) - 50), len(parents))
        ]
        path = report_samples.publish(
            directory,
            task,
            [*shared, head],
            parent,
            metrics={
                "quality": 0.5,
                "test_quality": float(rng.uniform(0.3, 1)),
            },
        )
        events.append(
            _generation(rng, task, t, parent, parent_task, num_each, path.id)
        )
        parents.append((path.id, task))
    report_samples.write_events(workdir, *events)


def _generation(rng, task, number, parent, parent_task, num, path_id) -> dict:
    children, last = [], parent
    for i in range(num):
        score = float(rng.uniform(0.2, 0.95))
        trained = [*rng.choice(_PLACES[:-2], 2), *_PLACES[-2:]]
        own = path_id if i == num - 1 else f"{number:012x}{i:012x}"
        children.append(
            {
                "index": i,
                "parent": parent if i == num - 1 else last,
                "parent_task": parent_task,
                "path_id": own,
                "hparams": {
                    **{f"ds_value_{k}": 0.0 for k in range(8)},
                    "num_layers": 3,
                    "opt_lr": _RATES[rng.integers(len(_RATES))],
                    "opt_momentum": 0.9,
                    "mu": float(rng.integers(10, 30)) / 100,
                },
                "components": list(_PLACES),
                "trained": trained,
                "scores": rng.uniform(0.1, score, _NUM_CYCLES).tolist(),
                "losses": rng.uniform(0.1, 2, _NUM_CYCLES).tolist(),
                "score": score,
                "improved": True,
                child_record.KEY: _record(rng, trained, parent_task, score),
            }
        )
        if i % 3 == 0:
            last = own
    return report_samples.generation(task, 1, children=children)


def _record(rng, trained, task, quality) -> dict:
    """A child with a fresh head; what it trains comes from its own parent."""
    parts = []
    for place in _PLACES[:-1]:
        clones = place in trained
        source = (
            rng.bytes(32).hex() if clones else f"{_PLACES.index(place):064x}"
        )
        init = child_record.COPY if clones else child_record.SHARE
        parts.append((place, init, clones, 50, source, task))
    parts.append(("head", child_record.FRESH, True, 10, None, None))
    return child_record.ChildRecord(
        tuple(child_record.ComponentOrigin(*part) for part in parts),
        (child_record.Mutation("opt_lr", *map(float, rng.choice(_RATES, 2))),),
        accounted_params=float(rng.uniform(100, 400)),
        quality=quality,
    ).to_json()
