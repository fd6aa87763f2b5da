"""An adapter's record: a factor and an offset for each feature.

Nothing here imports TensorFlow, so that a search reads records quickly; what
computes is the layer of the same name in `adapter_layer`.
"""

from __future__ import annotations

import numpy as np

from keras_munet.core import specs


class _ScaleShift:
    """As `keras_munet.core.adapters.Adapter` says."""

    def spec(self, built_in: specs.ComponentSpec) -> specs.ComponentSpec:
        """Returns the record in the place of the built-in adapter's."""
        width = built_in.config["width"]
        return specs.ComponentSpec(
            built_in.name,
            "ScaleShift",
            {"width": width},
            (("scale", (width,)), ("shift", (width,))),
        )

    def initial(
        self, spec: specs.ComponentSpec, rng: np.random.Generator
    ) -> specs.Component:
        """Returns values that change nothing."""
        del rng
        (_, shape), _ = spec.weights
        values = {
            "scale": np.ones(shape, np.float32),
            "shift": np.zeros(shape, np.float32),
        }
        return specs.Component(spec, values)


SCALE_SHIFT = _ScaleShift()
