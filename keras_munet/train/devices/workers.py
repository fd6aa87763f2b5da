"""The processes that train one job together, and how they agree.

Invariant: what is agreed on is the same on every worker, in the same order.
One of them, the chief, decides; the others learn of it here. A worker that
dies ends the others, as none can go on without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from typing import TypeVar

import numpy as np
import tensorflow as tf

from keras_munet import errors

_T = TypeVar("_T")
# Vectors have one of few lengths, as each length is traced.
_LENGTH_MIN = 1024


class Workers:
    """A job of one process.

    Attributes:
      is_chief: whether this process decides and writes.
      num: processes.
    """

    is_chief = True
    num = 1

    def broadcast(self, value: Any = None) -> Any:
        """Returns the chief's `value`, plain JSON; others give none."""
        return value

    def share(self, num_children: int) -> list[int]:
        """Returns the numbers of the children that this worker trains."""
        return list(range(num_children))

    def gather(self, value: Any) -> list[Any]:
        """Returns the `value` of each worker, plain JSON, in their order."""
        return [value]

    def all_reduce_sum(self, vector: np.ndarray) -> np.ndarray:
        """Returns the sum of every worker's vector, float32."""
        return vector

    def all_reduce_min(self, number: float | None) -> float | None:
        """Returns the least number of all workers; None if one has none."""
        return number

    def all_reduce_any(self, flag: bool) -> bool:
        """Returns whether `flag` holds on any worker."""
        return flag

    def from_chief(
        self, lead: Callable[[], _T], follow: Callable[[], _T]
    ) -> _T:
        """Has the chief do something before the others do their part.

        Args:
          lead: what the chief does.
          follow: what the others do afterwards.

        Returns:
          What was returned here.

        Raises:
          MunetError: what `lead` raised, on every worker.
        """
        del follow
        return lead()


class SeveralWorkers(Workers):
    """The processes of a MultiWorkerMirroredStrategy."""

    def __init__(self, strategy: tf.distribute.MultiWorkerMirroredStrategy):
        """Takes part in a job; every worker must.

        Args:
          strategy: of the job, the one of this process.
        """
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec()
        chiefs = cluster.num_tasks("chief") if "chief" in cluster.jobs else 0
        is_worker = resolver.task_type != "chief"
        self._number = resolver.task_id + (chiefs if is_worker else 0)
        self.is_chief = self._number == 0
        self.num = chiefs + (
            cluster.num_tasks("worker") if "worker" in cluster.jobs else 0
        )
        self._total = tf.function(self._summed, autograph=False)

    def broadcast(self, value: Any = None) -> Any:
        """Returns the chief's `value`, plain JSON; others give none."""
        return self._from_worker(0, value)

    def share(self, num_children: int) -> list[int]:
        """Returns the numbers of the children that this worker trains."""
        return list(range(self._number, num_children, self.num))

    def gather(self, value: Any) -> list[Any]:
        """Returns the `value` of each worker, plain JSON, in their order."""
        return [self._from_worker(n, value) for n in range(self.num)]

    def all_reduce_sum(self, vector: np.ndarray) -> np.ndarray:
        """Returns the sum of every worker's vector, float32."""
        return self._sum(vector)

    def _from_worker(self, number: int, value: Any) -> Any:
        """Returns the plain JSON that one worker has."""
        data = b""
        if self._number == number:
            data = json.dumps(value).encode()
        length = int(self._sum(np.array([len(data)]))[0])
        mine = np.zeros(length)
        mine[: len(data)] = np.frombuffer(data, np.uint8)
        whole = self._sum(mine)
        return json.loads(whole.astype(np.uint8).tobytes())

    def all_reduce_min(self, number: float | None) -> float | None:
        """Returns the least number of all workers; None if one has none."""
        # In units that a float32 holds to seven digits.
        numbers = np.zeros(self.num)
        numbers[self._number] = -1.0 if number is None else number
        numbers = self._sum(numbers)
        return None if min(numbers) < 0 else float(min(numbers))

    def all_reduce_any(self, flag: bool) -> bool:
        """Returns whether `flag` holds on any worker."""
        return bool(self._sum(np.array([float(flag)]))[0])

    def from_chief(
        self, lead: Callable[[], _T], follow: Callable[[], _T]
    ) -> _T:
        """Has the chief do something before the others do their part.

        Args:
          lead: what the chief does.
          follow: what the others do afterwards.

        Returns:
          What was returned here.

        Raises:
          MunetError: what `lead` raised, on every worker.
        """
        if not self.is_chief:
            problem = self.broadcast()
            if problem is not None:
                raise error_from_json(problem)
            return follow()
        try:
            result = lead()
        except errors.MunetError as error:
            self.broadcast(error_to_json(error))
            raise
        self.broadcast(None)
        return result

    def _sum(self, vector: np.ndarray) -> np.ndarray:
        """Returns the sum over all workers."""
        num_padded = _LENGTH_MIN
        while num_padded < len(vector):
            num_padded *= 2
        padded = np.zeros(num_padded, np.float32)
        padded[: len(vector)] = vector
        total = self._total(tf.constant(padded))
        local = self._strategy.experimental_local_results(total)
        return local[0].numpy()[: len(vector)]

    def _summed(self, vector: tf.Tensor) -> Any:
        num_local = self._strategy.num_replicas_in_sync // self.num

        def add(vector: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # One replica speaks for its worker.
            speaks = context.replica_id_in_sync_group % num_local == 0
            mine = tf.where(speaks, vector, tf.zeros_like(vector))
            return context.all_reduce("SUM", mine)

        return self._strategy.run(add, (vector,))


ALONE = Workers()


def strategy_workers(strategy: tf.distribute.Strategy) -> Workers:
    """Returns the processes that share a strategy."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return SeveralWorkers(strategy)
    return ALONE


def error_to_json(error: BaseException) -> dict[str, str]:
    """Returns an error as plain JSON; `error_from_json` is the inverse."""
    return {"kind": type(error).__name__, "message": str(error)}


def error_from_json(problem: dict[str, str]) -> errors.MunetError:
    """Returns the error that the chief had, of the nearest kind of ours."""
    error_type = getattr(errors, problem["kind"], errors.MunetError)
    return error_type(f"the chief worker: {problem['message']}")
