"""Computes layers of one signature from given weights."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_munet.core import canonical_json
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import weight_factors


@dataclasses.dataclass(frozen=True)
class LayerSignature:
    """Layers that compute the same for equal weights.

    Attributes:
      layer: the registered layer class.
      config: the layer's constructor arguments, JSON.
      policy: the dtype policy that it is made under.
      class_token_only: whether token 0 alone is computed.
      products: see `matmul_precision.MatmulPrecision.of`.
      factor_depth: see `child_job.JobComponent`; of what is trained as factors.
      spec: of one such layer.
    """

    layer: str
    config: str
    policy: str
    class_token_only: bool
    products: tf.DType | None
    factor_depth: int
    spec: specs.ComponentSpec = dataclasses.field(compare=False)

    @classmethod
    def of(
        cls,
        spec: specs.ComponentSpec,
        policy: str,
        class_token_only: bool,
        products: tf.DType | None,
        factor_depth: int = 0,
    ) -> LayerSignature:
        """Returns the kind of a component's layer, wherever it stands."""
        return cls(
            spec.layer,
            canonical_json.dumps(spec.config),
            policy,
            class_token_only,
            products,
            factor_depth,
            spec,
        )

    def compute(self, x: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
        """Returns the layer's output.

        Args:
          x: the input, in any dtype that the layer takes.
          trained: `[n] float32`, the weights end to end or their factors.
        """
        layer = layer_factory.unbuilt_layer(self.spec, self.policy)
        if self.factor_depth:
            layout = weight_factors.FactorLayout(self.spec, self.factor_depth)
            trained = layout.product(trained)
        return layer.compute_packed(
            path_model.as_layer_input(layer, x),
            trained,
            self.products,
            **path_model.call_options(self.class_token_only),
        )

    @property
    def num_values(self) -> int:
        """Returns the number of values of the layer's variable."""
        if self.factor_depth:
            return weight_factors.FactorLayout(
                self.spec, self.factor_depth
            ).num_values
        return self.spec.num_params
