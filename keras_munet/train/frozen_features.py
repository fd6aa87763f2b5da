"""Computes what heads of published paths read of a task, and answer.

Invariant: the input is that of an evaluation, and so is each layer's
computation; of a batch each layer is called once, whichever paths share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import matmul_precision
from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import layer_functions as layer_functions_lib
from keras_munet.train.layerwise import layer_signature

# Parameters of the paths that are in memory at one time, or of one path.
_NUM_PARAMS_MAX = 2**28
_BATCH_SIZE_MAX = 256
# Of a batch's input, over all its images.
_NUM_PIXELS_MAX = 2**22
_POLICY = "float32"


@dataclasses.dataclass(frozen=True)
class FrozenPath:
    """A published path whose features are wanted.

    Attributes:
      components: its components, input first, the head last.
      image_size: side of its input, pixels.
      antialias: see `preprocessing.evaluation_images`.
    """

    components: tuple[child_job.JobComponent, ...]
    image_size: int
    antialias: bool

    @property
    def image(self) -> feature_cache.Image:
        """Returns the key of its input."""
        return self.image_size, self.antialias


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A component below a head, as a function of its input."""

    signature: layer_signature.LayerSignature
    component: child_job.JobComponent

    @property
    def key(self) -> tuple[str | None, bool]:
        return self.component.shared_id, self.signature.class_token_only


def read_features(
    paths: Sequence[FrozenPath],
    split: types.Split,
    indices: np.ndarray,
    layer_functions: layer_functions_lib.LayerFunctions,
) -> list[closed_form.Features]:
    """Returns what the head of each path reads of some examples.

    Args:
      paths: whose; all their components are published.
      split: of the task.
      indices: `[n]`, the examples.
      layer_functions: keeps what is compiled.

    Raises:
      UsageError: a head is no linear layer.
    """
    for path in paths:
        _refuse_other_head(path)
    labels = split.labels[indices]
    return [
        closed_form.Features(values.astype(np.float64), labels)
        for group in _groups(paths)
        for values in _values(group, split, indices, layer_functions)
    ]


def path_logits(
    path: FrozenPath,
    split: types.Split,
    indices: np.ndarray,
    layer_functions: layer_functions_lib.LayerFunctions,
) -> np.ndarray:
    """Returns the `[n, classes] float32` logits of a path for some examples.

    Args:
      path: whose; all its components are published.
      split: of the task.
      indices: `[n]`, the examples.
      layer_functions: keeps what is compiled.
    """
    (values,) = _values([path], split, indices, layer_functions, with_head=True)
    return values


def _groups(paths: Sequence[FrozenPath]) -> Iterator[list[FrozenPath]]:
    """Yields paths that fit in memory together, in their order."""
    group: list[FrozenPath] = []
    ids: set[str | None] = set()
    total = 0
    for path in paths:
        new = [p for p in path.components[:-1] if p.shared_id not in ids]
        num_params = sum(part.spec.num_params for part in new)
        if group and total + num_params > _NUM_PARAMS_MAX:
            yield group
            group, ids, total = [], set(), 0
            num_params = sum(p.spec.num_params for p in path.components[:-1])
        group.append(path)
        ids.update(part.shared_id for part in path.components)
        total += num_params
    yield group


def _values(
    paths: Sequence[FrozenPath],
    split: types.Split,
    indices: np.ndarray,
    layer_functions: layer_functions_lib.LayerFunctions,
    with_head: bool = False,
) -> list[np.ndarray]:
    chains = [_layers(path, with_head) for path in paths]
    weights = {
        layer.component.shared_id: layer.component
        for chain in chains
        for layer in chain
    }
    variables = {
        key: tf.Variable(
            layer_factory.pack(part.spec, part.load().weights), trainable=False
        )
        for key, part in weights.items()
    }
    heads = [
        layer_factory.unbuilt_layer(path.components[-1].spec, _POLICY)
        for path in paths
    ]
    parts: list[list[np.ndarray]] = [[] for _ in paths]
    num_pixels = max(path.image_size for path in paths) ** 2
    batch_size = min(_BATCH_SIZE_MAX, max(1, _NUM_PIXELS_MAX // num_pixels))
    num_steps = -(-len(indices) // batch_size)
    # All batches are of one size: each size is compiled.
    padded = np.resize(indices, num_steps * batch_size)
    for picked in padded.reshape(num_steps, batch_size):
        images = tf.constant(split.batch(picked)[0])
        outputs: dict[tuple[object, ...], tf.Tensor] = {}
        for path, chain, head, part in zip(
            paths, chains, heads, parts, strict=True
        ):
            stack: tuple[object, ...] = (path.image,)
            if stack not in outputs:
                outputs[stack] = preprocessing.evaluation_images(
                    images, *path.image
                )
            for layer in chain:
                below, stack = stack, (*stack, layer.key)
                if stack not in outputs:
                    handle = variables[layer.component.shared_id].handle
                    outputs[stack] = layer_functions.output(
                        layer.signature, handle, outputs[below]
                    )
            top = outputs[stack]
            if not with_head:
                top = path_model.read_by_head(head, top)
            part.append(np.asarray(top, np.float32))
    return [np.concatenate(part)[: len(indices)] for part in parts]


def _refuse_other_head(path: FrozenPath) -> None:
    """Refuses a head that cannot be solved.

    Raises:
      UsageError: the head is no linear layer.
    """
    head = path.components[-1].spec
    if [name for name, _ in head.weights] != ["kernel", "bias"]:
        raise errors.UsageError(
            f"head {head.layer!a} is not one linear layer, so none can be "
            "solved; set search.probe_child to False and "
            "search.rank_parents to 'sampled'"
        )


def _layers(path: FrozenPath, with_head: bool) -> list[_Layer]:
    """Returns the layers of a path, the head among them or not."""
    layers = [
        layer_factory.unbuilt_layer(p.spec, _POLICY) for p in path.components
    ]
    num = len(layers) if with_head else len(layers) - 1
    return [
        _Layer(
            layer_signature.LayerSignature.of(
                part.spec,
                _POLICY,
                class_token_only,
                matmul_precision.FLOAT32.of(part.spec),
            ),
            part,
        )
        for part, class_token_only in zip(
            path.components[:num],
            path_model.class_token_flags(layers)[:num],
            strict=True,
        )
    ]
