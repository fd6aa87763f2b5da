"""Stores the answers of published paths on test images beside a report.

Invariant: predictions are of one path, named by its id, so that those of a
path that was replaced are never shown as another's. Making them takes
TensorFlow (`keras_munet.report.measure_predictions`); reading them does not.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any
from typing import TypeAlias

from keras_munet import errors
from keras_munet.core import classification_metrics
from keras_munet.core import guarded_json
from keras_munet.store import files as files_lib
from keras_munet.store import storage

FILE = "predictions.json"
FORMAT_VERSION = 1
_NUM_BYTES_MAX = 1 << 28
# A class, or all classes of an image that has any number of them.
Label: TypeAlias = int | tuple[int, ...]
_ADDRESS = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One test image and what the path says of it.

    Attributes:
      address: the picture as a `data:` address of a PNG file.
      label: its class; all its classes where an image has any number.
      predicted: the class with the highest score; all classes from their
        thresholds on.
      prob: the highest score of a class, in [0, 1].
    """

    address: str
    label: Label
    predicted: Label
    prob: float


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The answers of one published path on its test images.

    Attributes:
      path_id: the path.
      num_examples: test images that were requested.
      num_correct: those whose class was found, or all of whose labels were.
      confusion: (class, predicted class, images), those with images alone;
        none where an image has any number of labels.
      samples: some of the images.
    """

    path_id: str
    num_examples: int
    num_correct: int
    confusion: tuple[tuple[int, int, int], ...]
    samples: tuple[Sample, ...]

    def metrics(
        self, num_classes: int
    ) -> classification_metrics.ClassificationMetrics | None:
        """Returns the measures that predictions give, or None without any.

        Args:
          num_classes: of the task; None is returned where a cell has another.
        """
        if not self.confusion or num_classes <= max(
            max(label, guess) for label, guess, _ in self.confusion
        ):
            return None
        return classification_metrics.ClassificationMetrics(
            num_classes, self.confusion
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` is the inverse."""
        return {
            "path_id": self.path_id,
            "num_examples": self.num_examples,
            "num_correct": self.num_correct,
            "confusion": [list(cell) for cell in self.confusion],
            "samples": [list(dataclasses.astuple(s)) for s in self.samples],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Predictions:
        """Returns what `to_json` wrote.

        Raises:
          ValueError: it is something else.
        """
        cells = [tuple(map(_whole, cell)) for cell in value["confusion"]]
        if any(len(cell) != 3 for cell in cells):
            raise ValueError("a cell has no three numbers")
        if not isinstance(value["path_id"], str):
            raise ValueError("no path id")
        return cls(
            path_id=value["path_id"],
            num_examples=_whole(value["num_examples"]),
            num_correct=_whole(value["num_correct"]),
            confusion=tuple((a, b, n) for a, b, n in cells),
            samples=tuple(_sample(*sample) for sample in value["samples"]),
        )


def read_predictions(out: files_lib.Location) -> dict[str, Predictions]:
    """Returns what the folder of a report holds, by task; maybe nothing.

    Raises:
      StoreError: the file is damaged or cannot be read.
    """
    files = files_lib.open_storage(out)
    try:
        text = files.read(FILE, _NUM_BYTES_MAX)
    except storage.MissingFileError:
        return {}
    try:
        record = guarded_json.loads(text)
        if record["format_version"] != FORMAT_VERSION:
            raise ValueError("of another version")
        return {
            str(task): Predictions.from_json(value)
            for task, value in record["tasks"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.StoreError(
            f"{files.where}/{FILE} is damaged or of another version; delete "
            "it and make the report with --predictions again"
        ) from error


def write_predictions(
    out: files_lib.Location, by_task: Mapping[str, Predictions]
) -> None:
    """Replaces the folder's predictions in one step.

    Raises:
      StoreError: the file cannot be written.
    """
    record = {
        "format_version": FORMAT_VERSION,
        "tasks": {task: by_task[task].to_json() for task in sorted(by_task)},
    }
    text = json.dumps(record, separators=(",", ":")) + "\n"
    files_lib.open_storage(out).write_atomic(FILE, text.encode())


def _sample(address: Any, label: Any, predicted: Any, prob: Any) -> Sample:
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ValueError("no picture")
    if type(prob) not in (int, float) or not 0 <= prob <= 1:
        raise ValueError("no probability")
    return Sample(address, _label(label), _label(predicted), float(prob))


def _label(value: Any) -> Label:
    if isinstance(value, list):
        return tuple(map(_whole, value))
    return _whole(value)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError("not a count")
    return value
