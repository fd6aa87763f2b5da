"""Describes the shapes that one program is compiled for.

Invariant: a bucket follows from layouts and sizes alone, never from which
layers a child trains, how fast, or on what: these are data of the program. So
one program serves every child, generation and task whose sizes the bucket
covers: smaller heads and adapters are padded with zeros, and an adapter that a
child does not have is passed by.

A chain has layers `below` the encoder blocks, a stack of equal blocks, each
with an adapter in front, and layers `above`. A path whose blocks are not equal
has no stack: all of its layers are `above`, and its depth is part of the
bucket.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow as tf

from keras_munet.core import adapters
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models.vit import base
from keras_munet.models.vit import layers as vit_layers
from keras_munet.train import child_job
from keras_munet.train import weight_factors

ADAPTER = "adapter"
BLOCK = "block"
# The columns of a TPU's registers: a narrower head is no faster.
CLASSES = 128
# Sizes that a smaller layer is padded to, which computes the same.
_PADDED_SIZES = ("hidden_dim", "num_classes")
_PADDED_LAYERS = ("Head", "PooledHead", "ResidualAdapter", "PointwiseAdapter")

Arrays = tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True)
class ChainLayer:
    """A layer of the chain, at its largest.

    Attributes:
      spec: what the layer is.
      factor_depth: see `child_job.JobComponent`; None where none that was
        seen is trained, so that any depth does: a kernel is exactly the first
        product of the factors that stand for it.
      is_adapter: whether children may lack it.
    """

    spec: specs.ComponentSpec
    factor_depth: int | None = None
    is_adapter: bool = False

    @property
    def key(self) -> str:
        """Returns the name of its arrays."""
        return self.spec.name

    @property
    def arrays(self) -> Arrays:
        """Returns (name, shape) of what a program holds, factors among it."""
        if not self.factor_depth:
            return self.spec.weights
        layout = weight_factors.FactorLayout(self.spec, self.factor_depth)
        return tuple(
            (f"{name}:{number}" if len(shapes) > 1 else name, shape)
            for (name, _), shapes in zip(
                self.spec.weights, layout.shapes, strict=True
            )
            for number, shape in enumerate(shapes)
        )

    @property
    def layer(self) -> base.VitLayer:
        """Returns the layer, which is never built."""
        return layer_factory.unbuilt_layer(self.spec, "float32")

    def contracted(self, arrays: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Returns the layer's weights from what a program holds of it."""
        values = [arrays[name] for name, _ in self.arrays]
        if not self.factor_depth:
            return values
        layout = weight_factors.FactorLayout(self.spec, self.factor_depth)
        return layout.kernels(values)

    def joined(self, other: ChainLayer) -> ChainLayer | None:
        """Returns the least layer that both can be padded to, if any."""
        depths = {self.factor_depth, other.factor_depth} - {None}
        spec = _joined_spec(self.spec, other.spec)
        if spec is None or len(depths) > 1:
            return None
        depth = depths.pop() if depths else None
        return dataclasses.replace(self, spec=spec, factor_depth=depth)


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Holds the shapes that a program is compiled for.

    Attributes:
      below: the layers below the stack.
      adapter: in front of each block; None without.
      block: of the stack; None where the chain has none.
      depth: most blocks.
      above: the layers above the stack, the head last.
      image_size: side of the input, pixels.
      side: most rows and columns of a stored image.
      batch_size: examples of a step that one replica computes.
      pool: examples that a call holds.
      steps: most training steps of a call.
      batches: most validation batches of a call.
      children: how many one replica trains together.
      group: how many replicas share each child's batches.
      has_adamw: whether a child may be trained by AdamW.
      has_logits: whether a call returns the logits of validation examples.
      has_colors: whether saturation and hue may vary.
      has_mixup: whether training images may be mixed in pairs.
      is_multi_label: whether an image has any number of labels; scores are
        then computed of logits alone.
    """

    below: tuple[ChainLayer, ...]
    adapter: ChainLayer | None
    block: ChainLayer | None
    depth: int
    above: tuple[ChainLayer, ...]
    image_size: int
    side: int = 1
    batch_size: int = 1
    pool: int = 1
    steps: int = 1
    batches: int = 1
    children: int = 1
    group: int = 1
    has_adamw: bool = False
    has_logits: bool = False
    has_colors: bool = False
    has_mixup: bool = False
    is_multi_label: bool = False

    @property
    def num_classes(self) -> int:
        """Returns the width of the head."""
        return int(self.above[-1].spec.config["num_classes"])

    @property
    def stack(self) -> tuple[ChainLayer, ...]:
        """Returns the layers of one position of the stack, lowest first."""
        return tuple(p for p in (self.adapter, self.block) if p is not None)

    @property
    def chain_layers(self) -> tuple[ChainLayer, ...]:
        """Returns every layer, lowest first, those of the stack once."""
        return (*self.below, *self.stack, *self.above)

    def lead(self, chain_layer: ChainLayer) -> tuple[int, ...]:
        """Returns the axes of a layer's arrays before their own."""
        if chain_layer in self.stack:
            return (self.depth, self.children)
        return (self.children,)

    def joined(self, other: Bucket) -> Bucket | None:
        """Returns the least bucket that covers both; None if none can."""
        exact = (
            *("image_size", "batch_size", "children", "group"),
            "is_multi_label",
        )
        if any(getattr(self, k) != getattr(other, k) for k in exact):
            return None
        mine, theirs = self, other
        if mine.block is None or theirs.block is None:
            # A path without any block fits where it equals the rest.
            if mine.block is None:
                mine, theirs = theirs, mine
            if mine.block is not None:
                num = len(mine.below)
                theirs = dataclasses.replace(
                    theirs, below=theirs.above[:num], above=theirs.above[num:]
                )
        below = _joined_places(mine.below, theirs.below)
        above = _joined_places(mine.above, theirs.above)
        block, adapter = mine.block, mine.adapter
        if block is not None and theirs.block is not None:
            block = block.joined(theirs.block)
            if block is None:
                return None
        if adapter is not None and theirs.adapter is not None:
            adapter = adapter.joined(theirs.adapter)
            if adapter is None:
                return None
        if below is None or above is None:
            return None
        sizes = (
            *("depth", "side", "pool", "steps", "batches"),
            *("has_adamw", "has_logits", "has_colors", "has_mixup"),
        )
        return dataclasses.replace(
            mine,
            below=below,
            adapter=adapter or theirs.adapter,
            block=block,
            above=above,
            **{k: max(getattr(mine, k), getattr(theirs, k)) for k in sizes},
        )

    def covers(self, other: Bucket) -> bool:
        """Returns whether what `other` holds can be padded to this one."""
        return self.joined(other) == self


def bucket_of(
    components: Sequence[child_job.JobComponent], image_size: int
) -> Bucket:
    """Returns the bucket of one path's layers; its other sizes are 1.

    Args:
      components: of the path, input first.
      image_size: side of its input, pixels.
    """
    chain_layers = [
        ChainLayer(
            part.spec,
            part.factor_depth if part.trainable else None,
            is_adapter(part.spec),
        )
        for part in components
    ]
    chain_layers[-1] = _with_even_head(chain_layers[-1])
    blocks = [
        i
        for i, chain_layer in enumerate(chain_layers)
        if is_block(chain_layer.spec)
    ]
    if blocks:
        first, last = blocks[0], blocks[-1] + 1
        if first and chain_layers[first - 1].is_adapter:
            first -= 1
        stack = chain_layers[first:last]
        adapter, is_uniform = _united(
            ADAPTER,
            [chain_layer for chain_layer in stack if chain_layer.is_adapter],
        )
        block, are_equal = _united(
            BLOCK,
            [
                chain_layer
                for chain_layer in stack
                if not chain_layer.is_adapter
            ],
        )
        if is_uniform and are_equal:
            return Bucket(
                below=tuple(chain_layers[:first]),
                adapter=adapter,
                block=block,
                depth=len(blocks),
                above=tuple(chain_layers[last:]),
                image_size=image_size,
            )
    return Bucket((), None, None, 0, tuple(chain_layers), image_size)


def cut_to(
    deepest: Sequence[child_job.JobComponent],
    components: Sequence[child_job.JobComponent],
) -> list[child_job.JobComponent]:
    """Returns the layers of the deepest path that a path has or may have.

    Args:
      deepest: the layers of the deepest path, with every adapter.
      components: of the path, input first, its head last.
    """
    names = {part.spec.name for part in components}
    kept_inputs: list[child_job.JobComponent] = []
    waiting: list[child_job.JobComponent] = []
    for part in deepest[:-1]:
        if is_adapter(part.spec):
            waiting.append(part)
        elif part.spec.name in names:
            kept_inputs += [*waiting, part]
            waiting = []
        else:
            waiting = []
    return [*kept_inputs, components[-1]]


def is_block(spec: specs.ComponentSpec) -> bool:
    """Returns whether a path may have more or fewer layers of this kind."""
    return isinstance(
        layer_factory.unbuilt_layer(spec), vit_layers.EncoderBlock
    )


def may_grow(spec: specs.ComponentSpec) -> bool:
    """Returns whether paths of one root have a layer in several sizes or not.

    So it is with blocks, adapters and heads; that of another layer may depend
    on the image size alone.
    """
    return is_block(spec) or is_adapter(spec) or spec.layer in _PADDED_LAYERS


def is_adapter(spec: specs.ComponentSpec) -> bool:
    """Returns whether a component is an adapter in front of a layer."""
    return spec.name.startswith(adapters.PREFIX)


def rounded_up(number: int) -> int:
    """Returns the least power of two that is not less than `number`."""
    return 1 << max(number - 1, 0).bit_length()


def _with_even_head(head: ChainLayer) -> ChainLayer:
    num_classes = int(head.spec.config["num_classes"])
    spec = _resized(
        head.spec, {"num_classes": -(-num_classes // CLASSES) * CLASSES}
    )
    return dataclasses.replace(head, spec=spec)


def _united(
    name: str, chain_layers: Sequence[ChainLayer]
) -> tuple[ChainLayer | None, bool]:
    """Returns the one layer that all can be padded to, and whether there is.

    Args:
      name: of that layer.
      chain_layers: none of which makes no layer.
    """
    united: ChainLayer | None = None
    for chain_layer in chain_layers:
        spec = dataclasses.replace(chain_layer.spec, name=name)
        renamed = dataclasses.replace(chain_layer, spec=spec)
        united = renamed if united is None else united.joined(renamed)
        if united is None:
            return None, False
    return united, True


def _joined_places(
    first: Sequence[ChainLayer], second: Sequence[ChainLayer]
) -> tuple[ChainLayer, ...] | None:
    """Returns layers of which either may lack adapters that the other has."""
    merged = list(first)
    position = len(merged)
    met = 0
    for chain_layer in reversed(second):
        names = [p.key for p in merged]
        if chain_layer.key in names:
            position = names.index(chain_layer.key)
            joined = merged[position].joined(chain_layer)
            if joined is None:
                return None
            merged[position] = joined
            met += 1
        elif chain_layer.is_adapter:
            merged.insert(position, chain_layer)
        else:
            return None
    fixed = sum(not chain_layer.is_adapter for chain_layer in first)
    if fixed != sum(not chain_layer.is_adapter for chain_layer in second):
        return None
    return tuple(merged)


def _joined_spec(
    first: specs.ComponentSpec, second: specs.ComponentSpec
) -> specs.ComponentSpec | None:
    if first == second:
        return first
    if (first.name, first.layer) != (second.name, second.layer):
        return None
    if first.layer not in _PADDED_LAYERS:
        return None
    sizes = {
        key: max(first.config[key], second.config[key])
        for key in _PADDED_SIZES
        if key in first.config
    }
    joined = _resized(first, sizes)
    return joined if joined == _resized(second, sizes) else None


def _resized(
    spec: specs.ComponentSpec, sizes: dict[str, int]
) -> specs.ComponentSpec:
    """Returns the record of the same layer with other sizes."""
    config = {**spec.config, **sizes}
    resized = dataclasses.replace(spec, config=config)
    weights = layer_factory.unbuilt_layer(resized).spec_weights
    return dataclasses.replace(resized, weights=weights)
