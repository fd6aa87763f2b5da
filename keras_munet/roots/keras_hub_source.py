"""A root from a ViT backbone of keras_hub.

Invariant: strict both ways, as any other source: every variable of the
backbone has a place in the ViT, and the other way round. Its GELU is exact
and its norm's epsilon is kept, so features are equal to float tolerance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.roots import augreg_names
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib
from keras_munet.roots import vit_loader

_EMBEDDING = "vit_patching_and_embedding/"
_ENCODER = "vit_encoder/"
_OUTER = {
    f"{_EMBEDDING}class_token": augreg_names.CLASS_TOKEN,
    f"{_EMBEDDING}patch_embedding/kernel": augreg_names.EMBEDDING_KERNEL,
    f"{_EMBEDDING}patch_embedding/bias": "embedding/bias",
    f"{_EMBEDDING}position_embedding/embeddings": augreg_names.POSITIONS[0],
    f"{_ENCODER}ln/gamma": "Transformer/encoder_norm/scale",
    f"{_ENCODER}ln/beta": "Transformer/encoder_norm/bias",
}
# A block's module there -> here; its attention's weights have equal names.
_MODULES = {
    "ln_1": "LayerNorm_0",
    "mha": "MultiHeadDotProductAttention_0",
    "ln_2": "LayerNorm_1",
    "mlp": "MlpBlock_0",
}
_PARTS = {
    "gamma": "scale",
    "beta": "bias",
    "attention_output": "out",
    "dense_1": "Dense_0",
    "dense_2": "Dense_1",
}


def from_keras_hub(source: Any, **options: Any) -> root_lib.Root:
    """Returns the root that a ViT backbone of keras_hub holds.

    Args:
      source: a preset such as `vit_base_patch16_224_imagenet`, which
        keras_hub fetches and keeps, or a `keras_hub.models.ViTBackbone`.
      **options: `num_layers`, `num_layers_max`, `image_size` and
        `num_classes` as `vit_loader.load_vit` takes them.

    Raises:
      UsageError: keras_hub is not installed.
      CheckpointError: the preset cannot be had, or is no such ViT.
    """
    backbone = _fetched(source) if isinstance(source, str) else source
    name = source if isinstance(source, str) else backbone.name
    _check_kind(backbone)
    return vit_loader.load_vit(
        _Variables(backbone),
        f"keras_hub {name}",
        exact_gelu=True,
        norm_epsilon=float(backbone.layer_norm_epsilon),
        **options,
    )


class _Variables:
    """A backbone's variables under AugReg's names."""

    def __init__(self, backbone: Any):
        self.path = f"keras_hub backbone {backbone.name!r}"
        self._variables = {}
        for variable in backbone.weights:
            # The part of the path from the layer on.
            path = variable.path
            start = max(path.find(_EMBEDDING), path.find(_ENCODER), 0)
            self._variables[_name(path[start:])] = variable
        self.shapes = {}
        self.dtypes = {}
        for name, variable in self._variables.items():
            shape = tuple(variable.shape)
            if name == augreg_names.POSITIONS[0]:
                shape = (1, *shape)
            self.shapes[name] = shape
            self.dtypes[name] = np.dtype(variable.dtype)

    def read(self, name: str) -> np.ndarray:
        """Returns one array."""
        value = np.array(self._variables[name].numpy())
        return value.reshape(self.shapes[name])


def _name(path: str) -> str:
    """Returns AugReg's name of a variable, or its path where none is."""
    if path in _OUTER:
        return _OUTER[path]
    head, _, rest = path.removeprefix(_ENCODER).partition("/")
    number = head.removeprefix("transformer_block_")
    module, _, weight = rest.partition("/")
    if number == head or not number.isdigit() or module not in _MODULES:
        return path
    parts = [_PARTS.get(part, part) for part in weight.split("/")]
    return (
        f"Transformer/encoderblock_{int(number) - 1}/{_MODULES[module]}/"
        f"{'/'.join(parts)}"
    )


def _fetched(preset: str) -> Any:
    try:
        import keras_hub
    except ImportError as e:
        raise errors.UsageError(
            f"preset {preset!r} needs keras-hub, which is not installed; run "
            "pip install keras_munet[keras-hub]"
        ) from e
    # What a download can raise depends on the host.
    try:
        return keras_hub.models.Backbone.from_preset(preset)
    except Exception as e:
        lines = str(e).splitlines() or [type(e).__name__]
        raise errors.CheckpointError(
            f"keras_hub preset {preset!r} cannot be had ({lines[0][:160]}); "
            "check its name and the network"
        ) from e


def _check_kind(backbone: Any) -> None:
    name = type(backbone).__name__
    if name != "ViTBackbone":
        raise errors.CheckpointError(
            f"{name} is another model family; supported is ViTBackbone, and "
            "any functional model through roots.from_keras"
        )
    expected = {
        "use_class_token": True,
        "use_mha_bias": True,
        "use_mlp_bias": True,
        "use_patch_bias": True,
        "data_format": "channels_last",
    }
    for key, value in expected.items():
        if getattr(backbone, key) != value:
            raise errors.CheckpointError(
                f"the ViTBackbone has {key}={getattr(backbone, key)!r}; this "
                f"ViT needs {value!r}"
            )
    sides = {*tuple(backbone.patch_size)}, {*tuple(backbone.image_shape[:2])}
    if any(len(side) != 1 for side in sides):
        raise errors.CheckpointError(
            f"the ViTBackbone has patches of {tuple(backbone.patch_size)} and "
            f"images of {tuple(backbone.image_shape)}; both must be square"
        )


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_keras_hub(settings.path, **sizes)


SOURCE = source_lib.RootSource(
    build=_build, path_help="a preset of a keras_hub ViTBackbone"
)
