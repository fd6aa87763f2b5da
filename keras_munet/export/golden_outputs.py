"""Fixed inputs with the answers that an export gave when it was written.

Invariant: replaying them compares bit for bit, on what lies on the disk and
not on what was in memory. A later export answers for every task whose path is
the same.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Iterable
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
from keras_munet.export import options
from keras_munet.export import saved_model_reader
from keras_munet.export import serving_functions

FILE = "canary.npz"
FEATURES = "features"
_ALL_TASKS = "all_tasks"
_BYTES = "predict_bytes"
# The tasks that are recorded where there are more, and each of a structure.
_NUM_SAMPLED = 8
# Between a task's own signature and `all_tasks`, and between graphs.
_NEAR = 1e-5
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
      num_outputs: outputs that are equal bit for bit.
      num_skipped: recorded outputs that the export does not have, or gives
        from another path, other weights or another component.
      num_near: outputs that are within 1e-5: of what an earlier version of
        the library recorded, whose graph computes by other operations, or
        scores that were not recorded of those recorded of `all_tasks`.
    """

    num_outputs: int
    num_skipped: int
    num_near: int = 0


def sample(structures: Mapping[str, Hashable], verify: str) -> list[str]:
    """Returns the tasks whose own signatures are recorded.

    Args:
      structures: task -> what tasks of one graph have in common.
      verify: `all`, or `sample`: the first task of each structure and of the
        tasks in their order one of so many that they are 8.
    """
    names = list(structures)
    step = 1 if verify == options.ALL else -(-len(names) // _NUM_SAMPLED)
    firsts = {structures[name]: name for name in reversed(names)}
    recorded = {*firsts.values(), *names[::step]}
    return [name for name in names if name in recorded]


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
    folder: pathlib.Path,
    tasks: Collection[str],
    originals: Mapping[str, Sequence[bytes]] | None = None,
) -> None:
    """Runs the export in `folder` and stores its answers beside it.

    Args:
      folder: of the export.
      tasks: those whose own signatures are recorded, see `sample`.
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
    called = {_ALL_TASKS}
    for task in tasks:
        called.update(described["tasks"][task]["signatures"].values())
    if len(tasks) == len(described["tasks"]):
        called.add(FEATURES)
    export = _Export(folder, described, called | _bytes(described, files))
    for name, output, task, value in export.answers(inputs, called):
        outputs.append([name, output, task, list(value.shape)])
        values.append(value.reshape(-1))
    index = {
        "outputs": outputs,
        "weights": described["weights"],
        "feature_component": described["feature_component"],
        "graph": described["graph"],
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


def replay(
    folder: pathlib.Path,
    canary: pathlib.Path,
    verify: str = options.SAMPLE,
) -> Replay:
    """Sends one export's canary to another, or to itself.

    Args:
      folder: the export that runs; it need not be trusted.
      canary: the export whose inputs and answers are kept.
      verify: `sample` sends what was recorded; `all` sends it to the
        signatures of the other tasks too, whose scores must be near those that
        `all_tasks` recorded.

    Returns:
      How many outputs are equal bit for bit, and how many are near.

    Raises:
      UsageError: `verify` is neither.
      StoreError: an output differs, there is no canary to read, or the graph
        does more than compute; it is not run then.
    """
    options.check_verify(verify)
    try:
        graph_guard.check(folder)
        return _replay(folder, canary, verify)
    except _ODD as error:
        what = " ".join(str(error).split())[:200]
        raise errors.StoreError(
            f"{folder} or {canary} is not what {commands.command('export')} "
            "writes: "
            f"{type(error).__name__}: {what}; export again"
        ) from error


def _replay(folder: pathlib.Path, canary: pathlib.Path, verify: str) -> Replay:
    index, inputs, expected = _read(canary)
    described = saved_model_reader.described(folder)
    same_features = described["feature_component"] == index["feature_component"]
    expected_tasks = {
        task
        for task, path_id in index["tasks"].items()
        if described["tasks"].get(task, {}).get("path_id") == path_id
        and described["weights"] == index["weights"]
    }
    recorded = {name for name, _ in expected}
    own = {
        signature: task
        for task in expected_tasks
        for signature in described["tasks"][task]["signatures"].values()
    }
    unrecorded = set()
    if verify == options.ALL:
        unrecorded = own.keys() - recorded
    export = _Export(
        folder,
        described,
        recorded | unrecorded | _bytes(described, inputs["originals"]),
    )
    # Other operations round otherwise, so there no bits can be compared.
    same_graph = described.get("graph", 1) == index.get("graph", 1)
    is_as_recorded = _is_equal if same_graph else _is_near
    actual = {
        (name, output): value
        for name, output, task, value in export.answers(inputs, recorded)
        if task in expected_tasks and (name != FEATURES or same_features)
    }
    common = [key for key in expected if key in actual]
    different = [
        key for key in common if not is_as_recorded(actual[key], expected[key])
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
    for name in sorted(unrecorded):
        key = described["tasks"][own[name]]["key"]
        answer = export.ask(name, inputs)["scores"].numpy()
        # The first picture is the same for all kinds of signature.
        apart = np.abs(answer[0] - expected[_ALL_TASKS, f"{key}_scores"][0])
        if not apart.max() <= _NEAR:
            raise errors.StoreError(
                f"the scores of {name} of {folder} are {apart.max():.2g} from "
                f"those that {canary} recorded of {_ALL_TASKS}, more than "
                f"{_NEAR:g}; do not serve it"
            )
    num_skipped = len(expected) - len(common)
    if same_graph:
        return Replay(len(common), num_skipped, len(unrecorded))
    return Replay(0, num_skipped, len(common) + len(unrecorded))


def _is_equal(value: np.ndarray, recorded: np.ndarray) -> bool:
    return (
        value.shape == recorded.shape and value.tobytes() == recorded.tobytes()
    )


def _is_near(value: np.ndarray, recorded: np.ndarray) -> bool:
    largest = np.abs(recorded).max(initial=1.0)
    return value.shape == recorded.shape and np.allclose(
        value, recorded, rtol=0, atol=_NEAR * largest
    )


def _bytes(
    described: Mapping[str, Any], originals: Iterable[tuple[str, bytes]]
) -> set[str]:
    """Returns the signatures that decode the original files of tasks."""
    return {
        described["tasks"][task]["signatures"][_BYTES]
        for task, _ in originals
        if task in described["tasks"]
    }


class _Export:
    """A loaded export and what its signatures are."""

    def __init__(
        self,
        folder: pathlib.Path,
        described: Mapping[str, Any],
        names: Collection[str],
    ):
        self._tasks = described["tasks"]
        self._signatures = saved_model_reader.load_saved_model(
            folder, names
        ).signatures

    def ask(
        self, name: str, inputs: Mapping[str, Any]
    ) -> Mapping[str, tf.Tensor]:
        """Returns what a signature answers to the canary."""
        signature = self._signatures[name]
        (key,) = signature.structured_input_signature[1]
        values = {
            "images": lambda: inputs["images"],
            "encoded": lambda: inputs["encoded"],
            "inputs": lambda: list(
                map(serving_functions.example, inputs["encoded"])
            ),
        }
        return signature(**{key: tf.constant(values[key]())})

    def answers(
        self, inputs: Mapping[str, Any], called: Collection[str]
    ) -> Iterator[tuple[str, str, str, np.ndarray]]:
        """Yields (signature, output, task, value) of every numeric output.

        Args:
          inputs: of the canary.
          called: names of signatures to call, where the export has them.
        """
        # Signature -> output -> its task; None for every output of one task.
        tasks_of_outputs: dict[str, dict[str | None, str]] = {
            signature: {None: task}
            for task, record in self._tasks.items()
            for signature in record["signatures"].values()
        }
        tasks_of_outputs[_ALL_TASKS] = {
            f"{record['key']}_{output}": task
            for task, record in self._tasks.items()
            for output in ("logits", "scores", "thresholds")
        }
        tasks_of_outputs[FEATURES] = {
            f"{record['key']}_features": task
            for task, record in self._tasks.items()
        }
        for name, tasks in sorted(tasks_of_outputs.items()):
            if name not in called:
                continue
            for output, tensor in sorted(self.ask(name, inputs).items()):
                if tensor.dtype == tf.float32:
                    task = tasks.get(None) or tasks[output]
                    yield name, output, task, tensor.numpy()
        for i, (task, content) in enumerate(inputs["originals"]):
            if task not in self._tasks:
                continue
            name = self._tasks[task]["signatures"][_BYTES]
            try:
                answer = self._signatures[name](encoded=tf.constant([content]))
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
