"""Tells which task records of a bucket changed since a reader looked.

Invariant: a reader learns every publication of a job that announces it, or
that it must look at all records. Each publication is an object of the next
number, which is made before the record is replaced and marked afterwards; so a
reader that has seen it marked has the record still to read, and one that is
not marked stays among those that the reader looks at.

The objects are a cache. Only the last ones are kept; where numbers are missing,
all records are looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.store import storage
from keras_munet.store.gcs import bucket as bucket_lib

# Below the locks, which no copy of a system needs.
_DIR = "locks/published"
_NAME = re.compile(_DIR + r"/([0-9]{12})")
# As many as one request lists. A reader further behind looks at all records.
_NUM_KEPT = 500
# What an object's labels say.
_RECORD, _TOKEN, _IS_MADE = "record", "token", "is_made"
_PAUSE_SECS = 0.1
_PAUSE_SECS_MAX = 2.0


@dataclasses.dataclass(frozen=True)
class Position:
    """The last state of the publications that a reader saw.

    Attributes:
      number: of the last one; 0 before the first.
      token: tells it from another of this number.
      open_numbers: those whose records may still be replaced.
    """

    number: int
    token: str
    open_numbers: frozenset[int]


@dataclasses.dataclass(frozen=True)
class _Publication:
    """One publication; its record is `""` where the object is another's."""

    number: int
    token: str
    record: str
    is_made: bool


class Publications:
    """The publications in one folder of a bucket.

    Args:
      bucket: the folder.
      verify: called before every write; may raise.
      num_secs: how long to try for a number that no other job takes.
    """

    def __init__(
        self,
        bucket: bucket_lib.Bucket,
        verify: Callable[[], None],
        num_secs: float,
    ):
        self._bucket = bucket
        self._verify = verify
        self._num_secs = num_secs
        # The last number that was listed.
        self._last = 0

    def position(self) -> Position | None:
        """Returns where `changes` begins; taken before all records are read.

        None where publications are missing between the last ones.
        """
        listed = self._list(0)
        last = max(listed, default=0)
        numbers = range(max(1, last - _NUM_KEPT + 1), last + 1)
        if not listed.keys() >= set(numbers):
            return None
        return _position([listed[number] for number in numbers])

    def changes(self, since: Position) -> tuple[Position, list[str]] | None:
        """Returns (the position now, records changed since the other one).

        None if all records must be looked at.
        """
        looked_at = {*since.open_numbers, since.number} - {0}
        listed = self._list(min(looked_at, default=0))
        later = sorted(number for number in listed if number > since.number)
        if (
            not listed.keys() >= looked_at
            or later != [since.number + 1 + i for i in range(len(later))]
            or (since.number and listed[since.number].token != since.token)
        ):
            return None
        again = [listed[number] for number in sorted(since.open_numbers)]
        new = [listed[number] for number in later]
        names = dict.fromkeys(p.record for p in again + new)
        if "" in names:
            return None
        if not new:
            still_open = frozenset(p.number for p in again if not p.is_made)
            return dataclasses.replace(since, open_numbers=still_open), [*names]
        return _position(again + new), [*names]

    @contextlib.contextmanager
    def publication(self, record: str) -> Iterator[None]:
        """Announces a change that is made in its block.

        After an error it is unknown whether the record was replaced, or will
        be: readers go on looking at it, as if the job had been killed.

        Args:
          record: the name of the record.

        Raises:
          StoreError: the bucket cannot be written; the block did not begin.
        """
        labels = {_RECORD: record, _TOKEN: secrets.token_hex(8)}
        number, generation = self._begin(labels)
        yield
        # The record is replaced, even if what follows fails.
        with contextlib.suppress(errors.StoreError):
            self._write(number, labels | {_IS_MADE: "1"}, generation)
            if number > _NUM_KEPT:
                self._bucket.delete(
                    _name(number - _NUM_KEPT), verify=self._verify
                )

    def _begin(self, labels: dict[str, str]) -> tuple[int, int]:
        """Returns (the next number, the generation of its new object)."""
        for _ in storage.pauses(_PAUSE_SECS, _PAUSE_SECS_MAX, self._num_secs):
            listed = self._list(self._last) or self._list(0)
            number = max(listed, default=0) + 1
            generation = self._write(number, labels, 0)
            if generation is not None:
                return number, generation
        raise errors.StoreError(
            f"{self._bucket.where}/{_DIR} was changed by others again and "
            f"again for {self._num_secs:g} s; run again"
        )

    def _write(
        self, number: int, labels: dict[str, str], generation: int
    ) -> int | None:
        return self._bucket.write(
            _name(number),
            b"",
            generation,
            labels=labels,
            verify=self._verify,
        )

    def _list(self, first: int) -> dict[int, _Publication]:
        """Returns the publications from a number on, by their numbers."""
        listed = {}
        for name, info in self._bucket.list(
            f"{_DIR}/", is_flat=True, first=_name(first)
        ):
            number = _NAME.fullmatch(name)
            if number:
                record = info.labels.get(_RECORD, "")
                is_odd = not storage.is_name(record)
                listed[int(number[1])] = _Publication(
                    int(number[1]),
                    info.labels.get(_TOKEN, ""),
                    "" if is_odd else record,
                    is_odd or _IS_MADE in info.labels,
                )
        self._last = max(listed, default=0)
        return listed


def _name(number: int) -> str:
    return f"{_DIR}/{number:012}"


def _position(publications: Sequence[_Publication]) -> Position:
    if not publications:
        return Position(0, "", frozenset())
    last = publications[-1]
    open_numbers = (p.number for p in publications if not p.is_made)
    return Position(last.number, last.token, frozenset(open_numbers))
