"""An adapter's record: a factor and an offset for each feature.

Nothing here imports TensorFlow, so that a search reads records quickly; what
computes is the layer of the same name in `adapter_layer`.
"""

from __future__ import annotations

import numpy as np

from keras_munet import plugins


class _ScaleShift:
    """As `keras_munet.core.adapters.Adapter` says."""

    def spec(self, built_in: plugins.ComponentSpec) -> plugins.ComponentSpec:
        """Returns the record in the place of the built-in adapter's."""
        width = built_in.config["width"]
        return plugins.ComponentSpec(
            built_in.name,
            "ScaleShift",
            {"width": width},
            (("scale", (width,)), ("shift", (width,))),
        )

    def initial(
        self, spec: plugins.ComponentSpec, rng: np.random.Generator
    ) -> plugins.Component:
        """Returns values that change nothing."""
        del rng
        (_, shape), _ = spec.weights
        values = {
            "scale": np.ones(shape, np.float32),
            "shift": np.zeros(shape, np.float32),
        }
        return plugins.Component(spec, values)


SCALE_SHIFT = _ScaleShift()
