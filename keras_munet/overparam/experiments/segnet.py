"""SegNet in several widths, with a head for each task.

Invariant: encoder and decoder mirror each other; the decoder puts its values
where the encoder's pooling found them (Badrinarayanan et al. 2017). Widths
double from stage to stage up to eight times the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_munet import errors
from keras_munet.overparam.experiments import networks
from keras_munet.overparam.experiments import unpooling as unpooling_lib

_GROWTH_MAX = 8
UNPOOLINGS = ("indices", "nearest")


def segnet(
    tasks: Mapping[str, int],
    image_size: tuple[int, int],
    *,
    width: int = 16,
    num_stages: int = 4,
    convs_per_stage: int = 2,
    unpooling: str = "indices",
    name: str = "segnet",
) -> keras.Model:
    """Returns a SegNet for several tasks.

    With 64 channels at first, 5 stages and 2 or 3 convolutions in each it has
    the size of the published one.

    Args:
      tasks: task -> channels of its output.
      image_size: height and width, pixels; multiples of 2^num_stages.
      width: channels of the first stage.
      num_stages: poolings, and unpoolings.
      convs_per_stage: convolutions before each pooling and after each
        unpooling.
      unpooling: `indices`, to where the greatest values stood, or `nearest`.
      name: of the model.

    Raises:
      UsageError: a size cannot be.
    """
    networks.check_counts(
        width=width, num_stages=num_stages, convs_per_stage=convs_per_stage
    )
    if unpooling not in UNPOOLINGS:
        raise errors.UsageError(
            f"unpooling is {unpooling!r}; choose one of {', '.join(UNPOOLINGS)}"
        )
    image = networks.image_input(image_size, 2**num_stages)
    widths = [width * min(2**i, _GROWTH_MAX) for i in range(num_stages)]
    x = image
    pooled = []
    for i, filters in enumerate(widths):
        for j in range(convs_per_stage):
            x = networks.conv_block(x, filters, f"encoder{i}_conv{j}")
        pooled.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"encoder{i}_pool")(x)
    for i in reversed(range(num_stages)):
        x = _unpool(x, pooled[i], unpooling, f"decoder{i}_unpool")
        for j in range(convs_per_stage):
            # The last one of a stage has the width of the next.
            is_last = j == convs_per_stage - 1
            filters = widths[max(i - 1, 0)] if is_last else widths[i]
            x = networks.conv_block(x, filters, f"decoder{i}_conv{j}")
    return networks.with_heads(image, x, tasks, width, name)


def _unpool(x: Any, before: Any, unpooling: str, name: str) -> Any:
    if unpooling == "indices":
        return unpooling_lib.MaxUnpooling2D(name=name)([x, before])
    return keras.layers.UpSampling2D(2, name=name)(x)
