"""Fixed inputs with the answers that an export gave when it was written.

Invariant: replaying them compares bit for bit, on what lies on the disk and
not on what was in memory. A later export answers for every task whose path is
the same.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import seeds
from keras_munet.data import npz_reader
from keras_munet.export import graph_guard
from keras_munet.export import saved_model_reader
from keras_munet.export import serving_functions

FILE = "canary.npz"
FEATURES = "features"
_BYTES = "predict_bytes"
# Neither square nor the size of a model's input.
_SHAPE = (1, 24, 20, 3)
_NUM_BYTES_MAX = 1 << 28
# What files of another kind than expected can raise on the way.
_ODD = (
    *(AttributeError, KeyError, IndexError, TypeError, ValueError),
    *(OverflowError, MemoryError, tf.errors.OpError),
)


@dataclasses.dataclass(frozen=True)
class Replay:
    """The result of comparing two exports.

    Attributes:
      num_outputs: outputs compared.
      num_skipped: recorded outputs that the export does not have, or gives
        from another path, other weights or another component.
    """

    num_outputs: int
    num_skipped: int


def images() -> np.ndarray:
    """Returns the canary's images, `[1, 24, 20, 3] uint8`, always the same."""
    rng = seeds.generator(0, "canary")
    return rng.integers(0, 256, _SHAPE).astype(np.uint8)


def encoded() -> list[bytes]:
    """Returns the image as PNG and as JPEG."""
    (image,) = images()
    return [
        tf.io.encode_png(image).numpy(),
        tf.io.encode_jpeg(image, quality=95).numpy(),
    ]


def record(
    folder: pathlib.Path, originals: Mapping[str, Sequence[bytes]] | None = None
) -> None:
    """Runs the export in `folder` and stores its answers beside it.

    Args:
      folder: of the export.
      originals: by task, picture files that it was made from; those that the
        export decodes go to `predict_bytes_<task>` too.
    """
    data = encoded()
    pixels = images()
    files = [
        (task, content)
        for task, contents in (originals or {}).items()
        for content in contents
    ]
    inputs = {"images": pixels, "encoded": data, "originals": files}
    outputs = []
    values = []
    described = saved_model_reader.described(folder)
    for name, output, task, value in _answers(folder, described, inputs):
        outputs.append([name, output, task, list(value.shape)])
        values.append(value.reshape(-1))
    index = {
        "outputs": outputs,
        "weights": described["weights"],
        "feature_component": described["feature_component"],
        "tasks": {n: t["path_id"] for n, t in described["tasks"].items()},
        "originals": [task for task, _ in files],
    }
    arrays: dict[str, Any] = {
        f"original_{i}": np.frombuffer(content, np.uint8)
        for i, (_, content) in enumerate(files)
    }
    np.savez_compressed(
        folder / FILE,
        images=pixels,
        png=np.frombuffer(data[0], np.uint8),
        jpeg=np.frombuffer(data[1], np.uint8),
        values=np.concatenate(values),
        index=np.frombuffer(json.dumps(index).encode(), np.uint8),
        **arrays,
    )


def replay(folder: pathlib.Path, canary: pathlib.Path) -> Replay:
    """Sends one export's canary to another, or to itself.

    Args:
      folder: the export that runs; it need not be trusted.
      canary: the export whose inputs and answers are kept.

    Returns:
      How many outputs are equal bit for bit.

    Raises:
      StoreError: an output differs, there is no canary to read, or the graph
        does more than compute; it is not run then.
    """
    try:
        graph_guard.check(folder)
        return _replay(folder, canary)
    except _ODD as error:
        what = " ".join(str(error).split())[:200]
        raise errors.StoreError(
            f"{folder} or {canary} is not what {commands.command('export')} "
            "writes: "
            f"{type(error).__name__}: {what}; export again"
        ) from error


def _replay(folder: pathlib.Path, canary: pathlib.Path) -> Replay:
    index, inputs, expected = _read(canary)
    described = saved_model_reader.described(folder)
    expected_tasks = {
        task
        for task, path_id in index["tasks"].items()
        if described["tasks"].get(task, {}).get("path_id") == path_id
        and described["weights"] == index["weights"]
    }
    same_features = described["feature_component"] == index["feature_component"]
    actual = {
        (name, output): value
        for name, output, task, value in _answers(folder, described, inputs)
        if task in expected_tasks and (name != FEATURES or same_features)
    }
    common = [key for key in expected if key in actual]
    different = [
        key
        for key in common
        if actual[key].shape != expected[key].shape
        or actual[key].tobytes() != expected[key].tobytes()
    ]
    if different:
        name, output = different[0]
        apart = np.abs(actual[name, output] - expected[name, output]).max()
        raise errors.StoreError(
            f"{len(different)} of {len(common)} outputs of {folder} are not "
            f"what {canary} recorded, the first {output!r} of {name} by up to "
            f"{apart:.2g}; export again on this machine if the processor or "
            "TensorFlow is another, else do not serve it"
        )
    return Replay(len(common), len(expected) - len(common))


def _answers(
    folder: pathlib.Path,
    described: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Yields (signature, output, task, value) of every numeric output."""
    loaded = saved_model_reader.load_saved_model(folder)
    arguments = {
        "images": tf.constant(inputs["images"]),
        "encoded": tf.constant(inputs["encoded"]),
        "inputs": tf.constant(
            [serving_functions.example(data) for data in inputs["encoded"]]
        ),
    }
    # Signature -> output -> its task; None for every output of one task.
    signatures_wanted: dict[str, dict[str | None, str]] = {
        signature: {None: task}
        for task, record in described["tasks"].items()
        for signature in record["signatures"].values()
    }
    signatures_wanted["all_tasks"] = {
        f"{record['key']}_{output}": task
        for task, record in described["tasks"].items()
        for output in ("logits", "scores", "thresholds")
    }
    signatures_wanted[FEATURES] = {
        f"{record['key']}_features": task
        for task, record in described["tasks"].items()
    }
    for name, tasks in sorted(signatures_wanted.items()):
        signature = loaded.signatures[name]
        (key,) = signature.structured_input_signature[1]
        answer = signature(**{key: arguments[key]})
        for output, tensor in sorted(answer.items()):
            if tensor.dtype == tf.float32:
                task = tasks.get(None) or tasks[output]
                yield name, output, task, tensor.numpy()
    for i, (task, content) in enumerate(inputs["originals"]):
        if task not in described["tasks"]:
            continue
        name = described["tasks"][task]["signatures"][_BYTES]
        try:
            answer = loaded.signatures[name](encoded=tf.constant([content]))
        except tf.errors.InvalidArgumentError:
            # A kind of file that exports refuse; preparing said so.
            continue
        for output, tensor in sorted(answer.items()):
            yield name, f"{output} of original {i}", task, tensor.numpy()


def _read(folder: pathlib.Path):
    """Returns (index, inputs, (signature, output) -> answer)."""
    try:
        # The whole is bounded here, each array by the archive.
        guarded_file.read_file(folder / FILE, _NUM_BYTES_MAX, follow=True)
        with npz_reader.Archive(folder / FILE) as archive:
            if archive.num_bytes > _NUM_BYTES_MAX:
                raise ValueError(f"it unpacks to {archive.num_bytes} bytes")
            index = guarded_json.loads(archive.read("index").tobytes())
            values = archive.read("values")
            inputs = {
                "images": archive.read("images"),
                "encoded": [archive.read(n).tobytes() for n in ("png", "jpeg")],
                # Exports of before 2026-12 have none.
                "originals": [
                    (task, archive.read(f"original_{i}").tobytes())
                    for i, task in enumerate(index.get("originals", ()))
                ],
            }
    except (OSError, ValueError, KeyError, errors.CheckpointError) as error:
        raise errors.StoreError(
            f"{folder} is no export, or a damaged one: its {FILE} cannot be "
            f"read; give the folder that {commands.command('export')} wrote, "
            "or export again"
        ) from error
    expected = {}
    at = 0
    for name, output, _, shape in index["outputs"]:
        count = int(np.prod(shape))
        expected[name, output] = values[at : at + count].reshape(shape)
        at += count
    return index, inputs, expected
