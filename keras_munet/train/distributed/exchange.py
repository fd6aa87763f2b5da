"""Gives every worker of a job the children that the others trained.

Invariant: a child arrives as it was trained: others add zeros to its values.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.train import child_job
from keras_munet.train.devices import workers as workers_lib

_BFLOAT16 = tf.bfloat16.as_numpy_dtype


def of_all_workers(
    workers: workers_lib.Workers,
    children: Sequence[child_job.ChildJob],
    trained: Mapping[int, child_job.TrainedChild],
) -> dict[int, child_job.TrainedChild]:
    """Returns all children after their training; every worker takes part.

    Args:
      workers: of the job.
      children: of the generation.
      trained: number in the generation -> those that this worker trained.
    """
    records: dict[str, dict] = {}
    for part in workers.gather(
        {
            number: {
                "scores": child.scores,
                "losses": child.losses,
                "quality": child.quality,
            }
            for number, child in trained.items()
        }
    ):
        records.update(part)
    results = {}
    for number, child in enumerate(children):
        record = records[str(number)]
        components: dict[str, specs.Component] = {}
        if record["quality"] is not None:
            mine = trained.get(number)
            own = [p for p in child.components if p.shared_id is None]
            sizes = [p.spec.num_params * (1 + p.trainable) for p in own]
            vector = np.zeros(sum(sizes), np.float32)
            if mine is not None:
                vector = np.concatenate(
                    [_packed(p, mine.components[p.spec.name]) for p in own]
                )
            whole = workers.all_reduce_sum(vector)
            components = dict(_components(own, whole))
        results[number] = child_job.TrainedChild(
            index=child.index,
            scores=tuple(record["scores"]),
            losses=tuple(record["losses"]),
            quality=record["quality"],
            components=components,
        )
    return results


def _packed(
    part: child_job.JobComponent, component: specs.Component
) -> np.ndarray:
    """Returns values, then momenta where there are some, float32."""
    packed = [layer_factory.pack(part.spec, component.weights)]
    if part.trainable:
        assert component.momentum is not None, part.spec.name
        bits = layer_factory.pack(part.spec, component.momentum)
        packed.append(bits.view(_BFLOAT16).astype(np.float32))
    return np.concatenate(packed)


def _components(
    parts: Sequence[child_job.JobComponent], whole: np.ndarray
) -> Iterator[tuple[str, specs.Component]]:
    """Yields the name and values of each component, as `_packed` wrote them."""
    start = 0
    for part in parts:
        spec, momentum = part.spec, None
        end = start + spec.num_params
        weights = layer_factory.unpack(spec, whole[start:end].copy())
        start = end
        if part.trainable:
            end = start + spec.num_params
            bits = whole[start:end].astype(_BFLOAT16).view(np.uint16)
            momentum = layer_factory.unpack(spec, bits)
            start = end
        yield spec.name, specs.Component(spec, weights, momentum)
