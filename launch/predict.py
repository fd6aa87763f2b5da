"""Labels pictures with a task of a system, or with an exported SavedModel.

    python launch/predict.py IMAGES... --workdir=DIR [--task=NAME] [--top=K]
        [--out=FILE.csv|FILE.jsonl]
    python launch/predict.py IMAGES... --model=OUT [...]

IMAGES are files, folders (with the folders below, in the order of names) and
patterns. A file that cannot be read is a row with its reason. Exit code 1 if
no file could be read.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import launching
from absl import flags

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.core import target_types

if TYPE_CHECKING:
    from keras_munet.system import inference

_WORKDIR = flags.DEFINE_string("workdir", None, "The system's directory.")
_MODEL = flags.DEFINE_string(
    "model", None, "The folder of an export, instead of a system."
)
_TASK = flags.DEFINE_string(
    "task", None, "The task that names the labels; default the only one."
)
_TOP = flags.DEFINE_integer(
    "top", 3, "How many labels to print of a picture.", lower_bound=1
)
_OUT = flags.DEFINE_string(
    "out", "", "A file FILE.csv or FILE.jsonl; default prints a table."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 64, "Pictures that the model answers at once.", lower_bound=1
)


def main(images: Sequence[str]) -> None:
    """Prints or writes a row per picture."""
    if not images:
        raise errors.UsageError(
            "no picture is given; give files, folders or patterns such as "
            "'photos/*.jpg'"
        )
    write = _writer(_OUT.value)
    predictions = _predictions(images)
    text = write(predictions)
    if _OUT.value:
        launching.write_file(_OUT.value, text)
    else:
        sys.stdout.write(text)
    unread = [p for p in predictions if p.label is None]
    if len(unread) == len(predictions):
        raise errors.DataError(
            f"none of {len(unread)} files could be read; the first is "
            f"{unread[0].path!a}: {unread[0].reason}; give picture files"
        )
    if _OUT.value:
        print(
            f"{_OUT.value}: {len(predictions)} pictures, {len(unread)} of "
            "them could not be read"
        )


def _predictions(images: Sequence[str]) -> list[inference.Prediction]:
    """Predicts with the system or the export.

    Raises:
      UsageError: both are named, or neither.
    """
    workdir, model = _WORKDIR.value, _MODEL.value
    if workdir is not None and model is None:
        launching.quiet_tensorflow()
        from keras_munet.system import system

        opened = system.System.open(workdir)
        return opened.predict(_TASK.value, images, _BATCH_SIZE.value)
    if model is not None and workdir is None:
        launching.quiet_tensorflow()
        from keras_munet.system import inference

        classifier = inference.exported_classifier(model, _TASK.value)
        return inference.predict(classifier, images, _BATCH_SIZE.value)
    raise errors.UsageError(
        "give either --workdir, the system's directory, or --model, the "
        "folder of an export"
    )


def _writer(out: str):
    """Returns the function that makes the text of predictions.

    Raises:
      UsageError: the file's name says no format.
    """
    if not out:
        return _table
    if out.lower().endswith(".csv"):
        return _csv
    if out.lower().endswith(".jsonl"):
        return _json_lines
    raise errors.UsageError(
        f"--out={out} is neither FILE.csv nor FILE.jsonl; give one of these"
    )


def _top(prediction: inference.Prediction) -> list[tuple[str, float]]:
    return list(prediction.scores.items())[: _TOP.value]


def _joined(prediction: inference.Prediction) -> str:
    """Returns the labels of a picture that may have any number of them."""
    return target_types.SEPARATOR.join(prediction.labels)


def _table(predictions: Iterable[inference.Prediction]) -> str:
    rows = []
    for p in predictions:
        path = printable.printable(p.path or "")
        scores = [f"{name} {s:.4f}" for name, s in _top(p)]
        if p.thresholds is not None:
            rows.append((path, _joined(p) or "-", "", ", ".join(scores)))
            continue
        score = "-" if p.score is None else f"{p.score:.4f}"
        other_scores = ", ".join(scores[1:])
        rows.append((path, p.label or "-", score, p.reason or other_scores))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        + "\n"
        for row in rows
    )


def _csv(predictions: Sequence[inference.Prediction]) -> str:
    num = max(len(_top(p)) for p in predictions) or 1
    is_multi = any(p.thresholds is not None for p in predictions)
    header = ["label", "score"]
    for i in range(2, num + 1):
        header += [f"label_{i}", f"score_{i}"]
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    labels_header = ["labels"] if is_multi else []
    lines.writerow(["path", *labels_header, *header, "reason"])
    for p in predictions:
        cells = [text for name, s in _top(p) for text in (name, f"{s:.6f}")]
        cells += [""] * (len(header) - len(cells))
        labels = [_joined(p)] if is_multi else []
        lines.writerow([_utf8(p.path), *labels, *cells, p.reason])
    return file.getvalue()


def _json_lines(predictions: Iterable[inference.Prediction]) -> str:
    return "".join(
        json.dumps(
            {
                "path": p.path,
                **({} if p.thresholds is None else {"labels": p.labels}),
                "label": p.label,
                "score": p.score and round(p.score, 6),
                "scores": {name: round(s, 6) for name, s in _top(p)},
                "reason": p.reason,
            }
        )
        + "\n"
        for p in predictions
    )


def _utf8(path: str | None) -> str:
    """Returns a path that UTF-8 can hold; other bytes are escaped."""
    return (path or "").encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    launching.run_on_paths(main)
