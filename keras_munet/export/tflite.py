"""A task's path as one file for LiteRT (TensorFlow Lite).

Invariant: the file takes `[batch, size, size, 3] uint8` pixels, already of
the model's size, and answers with the logits and scores of the path.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.models import layer_factory
from keras_munet.models import path_model


def converted(
    path: specs.PathRecord,
    get: Callable[[specs.ComponentRef], specs.Component],
    weights: str,
) -> bytes:
    """Returns the file's bytes.

    Args:
      path: the path.
      get: returns a component by its reference.
      weights: `float32`; for `bfloat16` kernels are stored as float16, which
        the format has, and for `int8` quantised by the converter.
    """
    components = [get(ref) for ref in path.components]
    chain = [
        layer_factory.make_layer(c.spec, c.spec.name, dtype="float32")
        for c in components
    ]
    size = path.hparams["ds_image_size"]

    def predict(images):
        tensor = preprocessing.evaluation_images(images, size)
        for component, layer, narrow in zip(
            components, chain, path_model.narrowed(chain), strict=True
        ):
            values = [
                tf.constant(component.weights[name])
                for name, _ in component.spec.weights
            ]
            options = path_model.narrowing(narrow)
            tensor = layer.compute(tensor, values, **options)
        return {"logits": tensor, "scores": tf.nn.softmax(tensor)}

    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    function = tf.function(predict, autograph=False, input_signature=[spec])
    module = tf.Module()
    module.predict = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "bfloat16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
