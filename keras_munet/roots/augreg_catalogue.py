"""The AugReg checkpoints by what they were trained with.

Invariant: a query names exactly one file, or is refused with what there is.

The files lie in `gs://vit_models/augreg` (Steiner et al. 2021, arXiv
2106.10270). A folder with the published `index.csv` is searched through it;
elsewhere the name is composed as the published ones are: 300 epochs, learning
rate 0.001, and dropout equal to stochastic depth.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from keras_munet import errors

QUERY_PREFIX = "augreg:"
FOLDER = "gs://vit_models/augreg"
# What a query may ask for, and the values of the study.
CHOICES: dict[str, tuple[str, ...]] = {
    "name": (
        *("Ti/16", "S/32", "S/16", "B/32", "B/16", "B/8", "L/16"),
        *("R+Ti/16", "R26+S/32", "R50+L/32"),
    ),
    "ds": ("i1k", "i21k"),
    "aug": (
        *("none", "light0", "light1", "medium1", "medium2"),
        *("strong1", "strong2"),
    ),
    "wd": ("0.03", "0.1"),
    "sd": ("0.0", "0.1"),
}
# Fine-tuned relatives of a file, and where it lies.
_OPTIONAL = ("adapt_ds", "adapt_resolution", "folder")
_INDEX = "index.csv"
_NUM_INDEX_BYTES_MAX = 64 * 2**20
_NUM_NAMED_MAX = 3


def file_name(*, name: str, ds: str, aug: str, wd: str, sd: str) -> str:
    """Returns a pretrained checkpoint's published name, without folder.

    Args:
      name: the ViT, e.g. `Ti/16` or `R26+S/32`.
      ds: `i1k` or `i21k`, what it was trained on.
      aug: the augmentation, e.g. `light1`.
      wd: weight decay, `0.03` or `0.1`.
      sd: stochastic depth and dropout, `0.0` or `0.1`.

    Raises:
      UsageError: a value that the study does not have.
    """
    choices = {"name": name, "ds": ds, "aug": aug, "wd": wd, "sd": sd}
    for key, value in choices.items():
        if value not in CHOICES[key]:
            raise errors.UsageError(
                f"AugReg query has {key}={value}; it must be one of "
                f"{', '.join(CHOICES[key])}"
            )
    model = name.replace("/", "_").replace("+", "_")
    return f"{model}-{ds}-300ep-lr_0.001-aug_{aug}-wd_{wd}-do_{sd}-sd_{sd}.npz"


def file_names() -> Iterator[str]:
    """Yields the name of every ViT of the study at 300 epochs."""
    for name in CHOICES["name"]:
        for ds in CHOICES["ds"]:
            for aug in CHOICES["aug"]:
                for wd in CHOICES["wd"]:
                    for sd in CHOICES["sd"]:
                        yield file_name(name=name, ds=ds, aug=aug, wd=wd, sd=sd)


def resolve(query: str) -> str:
    """Returns the path of the one file that a query names.

    Args:
      query: `augreg:` and `key=value` pairs with commas between. All of
        `name`, `ds`, `aug`, `wd` and `sd` are needed, unless the folder has
        the published `index.csv`, which any of its columns may ask.
        `folder` is where the files lie, the public bucket by default;
        `adapt_ds` and `adapt_resolution` ask for a fine-tuned file.

    Raises:
      UsageError: the query is misspelt or names no file, or several.
      CheckpointError: the index cannot be read.
    """
    choices = _parsed(query)
    folder = choices.pop("folder", FOLDER).rstrip("/")
    index = _read_index(f"{folder}/{_INDEX}") if folder != FOLDER else None
    if index is not None:
        return f"{folder}/{_from_index(query, choices, index)}"
    needless = sorted(set(choices) - set(CHOICES))
    absent = [key for key in CHOICES if key not in choices]
    if needless or absent:
        what = f"has {needless[0]}" if needless else f"lacks {absent[0]}"
        raise errors.UsageError(
            f"AugReg query {query!r} {what}; without {_INDEX} in {folder} it "
            f"takes {', '.join(CHOICES)}"
        )
    return f"{folder}/{file_name(**choices)}"


def _parsed(query: str) -> dict[str, str]:
    choices: dict[str, str] = {}
    allowed = [*CHOICES, *_OPTIONAL]
    for part in query.removeprefix(QUERY_PREFIX).split(","):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not value or key not in allowed or key in choices:
            raise errors.UsageError(
                f"AugReg query {query!r} has the part {part!r}; write each "
                f"of {', '.join(allowed)} at most once, as in "
                "'augreg:name=Ti/16,ds=i21k,aug=none,wd=0.03,sd=0.0'"
            )
        choices[key] = value
    return choices


def _read_index(path: str) -> list[dict[str, str]] | None:
    """Returns the rows of an index, or None where there is none."""
    import tensorflow as tf

    try:
        if not tf.io.gfile.exists(path):
            return None
        if tf.io.gfile.stat(path).length > _NUM_INDEX_BYTES_MAX:
            raise errors.CheckpointError(
                f"{path} is larger than {_NUM_INDEX_BYTES_MAX} bytes; fetch "
                "the published index anew"
            )
        with tf.io.gfile.GFile(path) as file:
            rows = list(csv.DictReader(io.StringIO(file.read())))
    except (tf.errors.OpError, csv.Error, UnicodeDecodeError) as error:
        raise errors.CheckpointError(
            f"{path} cannot be read ({str(error).splitlines()[0][:120]}); "
            "fetch the published index anew"
        ) from error
    if not rows or not {"filename", *CHOICES} <= rows[0].keys():
        raise errors.CheckpointError(
            f"{path} lacks the columns filename, {', '.join(CHOICES)}; fetch "
            "the published index anew"
        )
    return rows


def _from_index(
    query: str, choices: dict[str, str], index: list[dict[str, str]]
) -> str:
    adapted = any(key.startswith("adapt_") for key in choices)
    column = "adapt_filename" if adapted else "filename"
    matches = sorted(
        {
            row[column]
            for row in index
            if all(_same(row.get(k), v) for k, v in choices.items())
        }
    )
    if len(matches) != 1:
        named = ", ".join(matches[:_NUM_NAMED_MAX]) or "none"
        raise errors.UsageError(
            f"AugReg query {query!r} fits {len(matches)} files of the index "
            f"({named}); ask for more of {', '.join(CHOICES)}, adapt_ds, "
            "adapt_resolution until one is left"
        )
    return f"{matches[0].removesuffix('.npz')}.npz"


def _same(value: str | None, expected: str) -> bool:
    """Returns whether two texts are equal, or the same number."""
    if value is None:
        return False
    try:
        return float(value) == float(expected)
    except ValueError:
        return value == expected
