"""The numbered variables of a SavedModel that is not trusted.

Invariant: only the checkpoint beside the graph is read; the graph, which is a
program, is never loaded. No memory is taken for a variable before the sizes
of all of them agree with the files. Every damage is a CheckpointError.

The layout is the "reusable SavedModel" of TensorFlow Hub as the published
ViTs use it: an object with a list `variables`, so that the checkpoint numbers
the weights and names none.
"""

from __future__ import annotations

import math
import re

import numpy as np

from keras_munet import errors
from keras_munet.core import plain_paths
from keras_munet.roots import augreg_names

NUM_BYTES_MAX = 4 * 2**30
NUM_INDEX_BYTES_MAX = 16 * 2**20
_VARIABLE = re.compile(
    r"variables/(0|[1-9][0-9]{0,4})/\.ATTRIBUTES/VARIABLE_VALUE"
)
_BESIDES = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/")
_NUM_NAMED_MAX = 3
# Axes of a block's weights in Flax's order: two norms, the MLP, then key,
# out, query and value; each bias comes before its kernel or scale.
_BLOCK_AXES = (1, 1, 1, 1, 1, 2, 1, 2, 2, 3, 1, 3, 2, 3, 2, 3)
_NUM_NORM = 2
# Axes of a ResNet unit's convolutions, then of its norms.
_UNIT_AXES = (*[4] * 3, *[1] * 6)
_PROJECTED_UNIT_AXES = (*[4] * 4, *[1] * 8)
# Of what stands between units and head, plain or on a ResNet: class token,
# the stem's convolution, the embedding, the stem's norm.
_PLAIN_AXES = (3, 1, 4)
_HYBRID_AXES = (3, 4, 1, 4, 1, 1)
_DENSE_AXES = (1, 2)
_SUPPORTED = (
    "supported are sayakpaul/vit_{s16,b8,b16,b32,l16,r26_s32_lightaug,"
    "r26_s32_medaug,r50_l32} with _classification or _fe, and other ViTs in "
    "that layout"
)


class Checkpoint:
    """The variables of a SavedModel folder under a ViT's names.

    Attributes:
      path: the folder.
      shapes: AugReg's name -> shape.
      dtypes: AugReg's name -> dtype.
    """

    def __init__(self, folder: str):
        """Reads every header and tells the names from the order.

        Raises:
          CheckpointError: it is no readable SavedModel folder, or its
            variables are not those of a ViT.
        """
        self.path = folder
        num_data_bytes = _num_data_bytes(folder)
        shapes, dtypes = self._open()
        needed = sum(
            math.prod(shape) * dtypes[key].itemsize
            for key, shape in shapes.items()
        )
        if needed > min(num_data_bytes, NUM_BYTES_MAX):
            raise self._damaged(
                f"its index tells of {needed} bytes, its data have "
                f"{num_data_bytes} and {NUM_BYTES_MAX} are read at most"
            )
        keys = self._numbered(list(shapes))
        names = self._names([shapes[key] for key in keys])
        self._keys = dict(zip(names, keys, strict=True))
        self.shapes = {name: shapes[key] for name, key in self._keys.items()}
        self.dtypes = {name: dtypes[key] for name, key in self._keys.items()}

    def read(self, name: str) -> np.ndarray:
        """Returns one array.

        Raises:
          CheckpointError: its bytes are damaged.
        """
        try:
            return np.asarray(self._reader.get_tensor(self._keys[name]))
        except Exception as error:
            raise self._damaged(f"{name}: {_first_line(error)}") from error

    def _open(self) -> tuple[dict, dict]:
        import tensorflow as tf

        # The reader raises what TensorFlow's C++ threw, of several kinds.
        try:
            # By its prefix: load_checkpoint would first look for a folder of
            # that name, which some file systems claim to have.
            self._reader = tf.compat.v1.train.NewCheckpointReader(
                f"{plain_paths.without_patterns(self.path)}/variables/variables"
            )
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except Exception as error:
            raise self._damaged(_first_line(error)) from error
        sizes = {
            key: tuple(shape)
            for key, shape in shapes.items()
            if not key.startswith(_BESIDES)
        }
        dtypes = {}
        for key in sizes:
            numeric = types[key].is_floating or types[key].is_integer
            if not numeric or any(side < 0 for side in sizes[key]):
                raise self._damaged(
                    f"variable {key!r} is {types[key].name} {list(sizes[key])}"
                )
            dtypes[key] = np.dtype(types[key].as_numpy_dtype)
        return sizes, dtypes

    def _numbered(self, keys: list[str]) -> list[str]:
        """Returns the keys by their numbers."""
        named = sorted(key for key in keys if not _VARIABLE.fullmatch(key))
        if named or not keys:
            examples = ", ".join(named[:_NUM_NAMED_MAX]) or "no variable"
            raise errors.CheckpointError(
                f"{self.path} holds {len(keys)} variables, such as {examples}: "
                f"another model family; {_SUPPORTED}"
            )
        numbers = {int(key.split("/")[1]): key for key in keys}
        if sorted(numbers) != list(range(len(keys))):
            gap = min(set(range(len(keys) + 1)) - set(numbers))
            raise self._damaged(f"it lacks variable {gap} of {len(keys)}")
        return [numbers[i] for i in range(len(keys))]

    def _names(self, shapes: list[tuple[int, ...]]) -> list[str]:
        axes = tuple(len(shape) for shape in shapes)
        num_blocks, position = 0, _NUM_NORM
        while _follows(axes, position, _BLOCK_AXES):
            num_blocks, position = num_blocks + 1, position + len(_BLOCK_AXES)
        if axes[:_NUM_NORM] != (1, 1) or not num_blocks:
            raise self._foreign(shapes, "no encoder blocks")
        # The position embedding is the last of the Transformer.
        has_positions = _follows(axes, position, (3,))
        units_per_stage, end = _units(axes, position + 1)
        units: tuple[int, ...] | None = units_per_stage
        num_dense = 0
        if _follows(axes, end, _HYBRID_AXES):
            end += len(_HYBRID_AXES)
        elif not units_per_stage and _follows(axes, end, _PLAIN_AXES):
            units, end = None, end + len(_PLAIN_AXES)
        else:
            has_positions = False
        while _follows(axes, end, _DENSE_AXES):
            num_dense, end = num_dense + 1, end + len(_DENSE_AXES)
        if not has_positions or end != len(axes) or num_dense > 2:
            contents = (
                f"{num_blocks} encoder blocks and {len(axes) - position} more"
            )
            raise self._foreign(shapes, contents)
        return augreg_names.unnamed(
            num_blocks,
            has_head=num_dense > 0,
            has_pre_logits=num_dense > 1,
            units=units,
        )

    def _foreign(self, shapes: list, contents: str) -> errors.CheckpointError:
        return errors.CheckpointError(
            f"{self.path} holds {len(shapes)} variables, {contents}: another "
            f"model family; {_SUPPORTED}"
        )

    def _damaged(self, what: str) -> errors.CheckpointError:
        return errors.CheckpointError(
            f"{self.path}: {what}; fetch the SavedModel anew"
        )


def _follows(
    axes: tuple[int, ...], position: int, part: tuple[int, ...]
) -> bool:
    """Returns whether `part` stands at `position`."""
    return axes[position : position + len(part)] == part


def _units(axes: tuple[int, ...], position: int) -> tuple[tuple[int, ...], int]:
    """Returns (ResNet units of each stage, the place behind them)."""
    stage_units: list[int] = []
    while True:
        if _follows(axes, position, _PROJECTED_UNIT_AXES):
            # Only the first unit of a stage changes the width.
            stage_units.append(1)
            position += len(_PROJECTED_UNIT_AXES)
        elif stage_units and _follows(axes, position, _UNIT_AXES):
            stage_units[-1] += 1
            position += len(_UNIT_AXES)
        else:
            return tuple(stage_units), position


def _num_data_bytes(folder: str) -> int:
    """Returns the size of the data files, after a look at all there is."""
    import tensorflow as tf

    gfile = tf.io.gfile
    prefix = f"{plain_paths.without_patterns(folder)}/variables/variables"
    try:
        if not gfile.isdir(folder):
            state = "a file" if gfile.exists(folder) else "absent"
            raise errors.CheckpointError(
                f"{folder} is {state}; give the folder of a SavedModel, which "
                "holds saved_model.pb and variables/"
            )
        if not gfile.exists(f"{prefix}.index"):
            raise errors.CheckpointError(
                f"{folder} has no variables/variables.index; give the folder "
                "of a SavedModel, which holds saved_model.pb and variables/"
            )
        if gfile.stat(f"{prefix}.index").length > NUM_INDEX_BYTES_MAX:
            raise errors.CheckpointError(
                f"{folder} has an index of more than {NUM_INDEX_BYTES_MAX} "
                "bytes; give the SavedModel of a ViT"
            )
        shards = gfile.glob(f"{prefix}.data-?????-of-?????")
        return sum(gfile.stat(shard).length for shard in shards)
    except (OSError, tf.errors.OpError) as error:
        raise errors.CheckpointError(
            f"{folder} cannot be read ({_first_line(error)}); check the path "
            "and the access rights"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:160]
