"""What layers of one kind compute, for weights that are given."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_munet.core import canonical_json
from keras_munet.core import specs
from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import weight_factors


@dataclasses.dataclass(frozen=True)
class Kind:
    """Layers that compute the same for equal weights.

    Attributes:
      layer: the registered layer class.
      config: the layer's constructor arguments, JSON.
      policy: the dtype policy that it is made under.
      narrow: whether token 0 alone is computed.
      products: see `matmul_precision.Products.of`.
      factor_depth: see `child_job.JobComponent`; of what is trained as factors.
      spec: of one such layer.
    """

    layer: str
    config: str
    policy: str
    narrow: bool
    products: tf.DType | None
    factor_depth: int
    spec: specs.ComponentSpec = dataclasses.field(compare=False)

    @classmethod
    def of(
        cls,
        spec: specs.ComponentSpec,
        policy: str,
        narrow: bool,
        products: tf.DType | None,
        factor_depth: int = 0,
    ) -> Kind:
        """Returns the kind of a component's layer, wherever it stands."""
        return cls(
            spec.layer,
            canonical_json.dumps(spec.config),
            policy,
            narrow,
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
        layer = layer_factory.unbuilt(self.spec, self.policy)
        if self.factor_depth:
            layout = weight_factors.Layout(self.spec, self.factor_depth)
            trained = layout.product(trained)
        return layer.compute_packed(
            path_model.accepted(layer, x),
            trained,
            self.products,
            **path_model.narrowing(self.narrow),
        )

    @property
    def num_values(self) -> int:
        """How many values the layer's variable has."""
        if self.factor_depth:
            return weight_factors.Layout(
                self.spec, self.factor_depth
            ).num_values
        return self.spec.num_params
