"""Plans the calls of children that train at one time.

Invariant: what a child does in a call follows from its job, its generation's
schedule and the call, not from the replica that it stands on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train import engine as engine_lib
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import calls as calls_lib
from keras_munet.train.program import stacking

_NO_AUGMENTATION = preprocessing.AugmentHparams(
    *(False, 1.0, 1.0, False, 0.0, 0.0, 0.0, 0.0)
)


@dataclasses.dataclass(frozen=True)
class Wave:
    """Children that replicas hold, and what all their calls are given.

    Attributes:
      bucket: of the program.
      children: replica by replica.
      stacks: of each team of replicas that shares children.
      data: the task's data.
      class_weights: see `losses.cross_entropy`.
      augment: of the generation.
      jitter: likewise.
    """

    bucket: bucket_lib.Bucket
    children: tuple[child_job.ChildJob, ...]
    stacks: tuple[stacking.Stacked, ...]
    data: types.TaskData
    class_weights: tuple[float, ...] = ()
    augment: preprocessing.AugmentHparams = _NO_AUGMENTATION
    jitter: preprocessing.ColorJitter = preprocessing.ColorJitter.OFF

    def place_of(self, number: int) -> tuple[int, int]:
        """Returns the replica of a child and its number there."""
        bucket = self.bucket
        team, child = divmod(number, bucket.children)
        return team * bucket.group, child

    def plans(
        self,
        call: calls_lib.Call,
        rates: np.ndarray | None = None,
        draws: np.ndarray | None = None,
        dealt: bool = False,
    ) -> tuple[list[call_data.Plan], list[np.ndarray]]:
        """Returns the plan of each replica.

        Args:
          call: its steps and examples.
          rates: `[steps, children, 3] float32` of its steps; None without.
          draws: `[steps, 13, batch] float32` of its steps; None without.
          dealt: whether each team counts its own part of what is held out.

        Returns:
          The plans, and of each team the numbers of the held-out examples
          that it counts.
        """
        bucket = self.bucket
        held_rows = (
            np.arange(len(call.held_out)) if call.counts else np.arange(0)
        )
        parts = [held_rows] * len(self.stacks)
        if dealt:
            parts = np.array_split(held_rows, len(self.stacks))
        plans = []
        for team, (stacked, part) in enumerate(
            zip(self.stacks, parts, strict=True)
        ):
            first = team * bucket.children
            mine = self.children[first : first + bucket.children]
            held_rows, mask = _batches(
                part + len(call.picked), bucket.batch_size * bucket.group
            )
            for share in range(bucket.group):
                columns = slice(
                    share * bucket.batch_size, (share + 1) * bucket.batch_size
                )
                plans.append(
                    self._plan(
                        stacked,
                        mine,
                        call.indices[:, columns],
                        None
                        if rates is None
                        else rates[:, first : first + len(mine)],
                        None if draws is None else draws[:, :, columns],
                        held_rows[:, columns],
                        mask[:, columns],
                        call.split,
                    )
                )
        return plans, parts

    def _plan(
        self,
        stacked: stacking.Stacked,
        children: Sequence[child_job.ChildJob],
        indices: np.ndarray,
        rates: np.ndarray | None,
        draws: np.ndarray | None,
        held_rows: np.ndarray,
        mask: np.ndarray,
        split: str,
    ) -> call_data.Plan:
        bucket = self.bucket
        num, share = bucket.children, bucket.batch_size
        weights = np.ones(bucket.num_classes, np.float32)
        weights[: len(self.class_weights)] = self.class_weights
        jitters = list(preprocessing.ColorJitter)
        adapters = {p.key for p in bucket.chain_layers if p.is_adapter}

        def of_children(name: str, dtype: type) -> np.ndarray:
            values = [getattr(child, name) for child in children]
            return padded(np.array(values, dtype), (num,))

        return call_data.Plan(
            num_layers=stacked.num_layers,
            lowest=stacked.lowest,
            trained=stacked.trained,
            present={k: v for k, v in stacked.present.items() if k in adapters},
            num_classes=self.data.num_classes,
            class_weights=weights,
            smoothing=of_children("label_smoothing", np.float32),
            uses_adamw=of_children("uses_adamw", np.bool_),
            num_steps=len(indices),
            rates=padded(rates, (bucket.steps, num, 3)),
            indices=padded(indices, (bucket.steps, share)),
            draws=padded(draws, (bucket.steps, preprocessing.NUM_DRAWS, share)),
            augment=self.augment,
            jitter=jitters.index(self.jitter),
            sides=_sides(self.data.train),
            num_batches=len(held_rows),
            held_indices=padded(held_rows, (bucket.batches, share)),
            held_mask=padded(mask, (bucket.batches, share)),
            held_sides=_sides(getattr(self.data, split)),
        )

    def rows(
        self,
        call: calls_lib.Call,
        sums: Sequence[call_data.Sums],
        parts: Sequence[np.ndarray],
        number: int,
    ) -> np.ndarray:
        """Returns what a child's quality is computed of.

        Args:
          call: that counted.
          sums: of each replica.
          parts: from `plans`.
          number: of the child; of all teams together where they dealt.

        Returns:
          As of `losses.scored_outputs`.
        """
        bucket = self.bucket
        first, child = self.place_of(number)
        is_dealt = any(part is not parts[0] for part in parts)
        teams = range(len(parts)) if is_dealt else [first // bucket.group]
        split = getattr(self.data, call.split)
        result = []
        for team in teams:
            shares = [
                sums[team * bucket.group + share].logits[:, child]
                for share in range(bucket.group)
            ]
            logits = np.concatenate(shares, axis=1)
            logits = logits.reshape(-1, bucket.num_classes)
            part = parts[team]
            logits = logits[: len(part), : self.data.num_classes]
            labels = split.labels[call.held_out[part]].reshape(len(part), -1)
            ones = np.ones_like(labels[:, :1])
            result.append(np.concatenate([logits, labels, ones], axis=1))
        return np.concatenate(result).astype(np.float32)


def draws_of(
    schedule: engine_lib.Schedule, first: int, last: int
) -> np.ndarray:
    """Returns `[steps, 13, batch] float32`, as a CPU draws them."""
    batch_size = schedule.indices.shape[1]
    if first == last:
        return np.zeros((0, preprocessing.NUM_DRAWS, batch_size), np.float32)
    with tf.device("CPU:0"):
        return np.stack(
            [
                preprocessing.draws_of(tf.constant(seed), batch_size).numpy()
                for seed in schedule.seeds[first:last]
            ]
        )


def _batches(
    examples: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[batches, batch]` examples, padded, and where they are real."""
    num = -(-len(examples) // batch_size)
    shape = num, batch_size
    flat = np.zeros(num * batch_size, np.int32)
    flat[: len(examples)] = examples
    mask = (np.arange(num * batch_size) < len(examples)).astype(np.float32)
    return flat.reshape(shape), mask.reshape(shape)


def _sides(split: types.Split) -> np.ndarray:
    return np.array(split.images.shape[1:3], np.float32)


def largest_side(data: types.TaskData) -> int:
    """Returns the most rows or columns of a task's stored images."""
    return max(
        side
        for split in (data.train, data.validation, data.test)
        for side in split.images.shape[1:3]
    )


def padded(values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Returns values in the corner of zeros of a shape."""
    if values is None:
        return np.zeros(shape, np.float32)
    result = np.zeros(shape, values.dtype)
    result[tuple(map(slice, values.shape))] = values
    return result
