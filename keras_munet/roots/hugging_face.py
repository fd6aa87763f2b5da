"""A root from a local folder of a ViT as Hugging Face or timm keeps it.

Invariant: strict both ways, as any other source: every array of the file has
a place in the ViT, and the other way round. GELU is exact, the norm's epsilon
is that of the config, and pixels are scaled as the folder says, so features
are equal to float tolerance. Nothing in the folder is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import guarded_file
from keras_munet.core import guarded_json
from keras_munet.core import settings as settings_lib
from keras_munet.data import safetensors_reader
from keras_munet.roots import augreg_names
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib
from keras_munet.roots import vit_loader

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_PIXELS_FILE = "preprocessor_config.json"
_NUM_JSON_BYTES_MAX = 4 * 2**20
_TIMM_EPSILON = 1e-6
# Width -> heads, of every ViT of timm that does not say.
_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
_BLOCK = "Transformer/encoderblock_"
_ATTENTION = "MultiHeadDotProductAttention_0"
_OUTER = {
    # Hugging Face.
    "embeddings.cls_token": augreg_names.CLASS_TOKEN,
    "embeddings.position_embeddings": augreg_names.POSITIONS[0],
    "embeddings.patch_embeddings.projection.weight": (
        augreg_names.EMBEDDING_KERNEL
    ),
    "embeddings.patch_embeddings.projection.bias": "embedding/bias",
    "layernorm.weight": "Transformer/encoder_norm/scale",
    "layernorm.bias": "Transformer/encoder_norm/bias",
    "classifier.weight": augreg_names.HEAD_KERNEL,
    "classifier.bias": "head/bias",
    # timm.
    "cls_token": augreg_names.CLASS_TOKEN,
    "pos_embed": augreg_names.POSITIONS[0],
    "patch_embed.proj.weight": augreg_names.EMBEDDING_KERNEL,
    "patch_embed.proj.bias": "embedding/bias",
    "norm.weight": "Transformer/encoder_norm/scale",
    "norm.bias": "Transformer/encoder_norm/bias",
    "head.weight": augreg_names.HEAD_KERNEL,
    "head.bias": "head/bias",
    "pre_logits.fc.weight": augreg_names.PRE_LOGITS_KERNEL,
    "pre_logits.fc.bias": "pre_logits/bias",
}
_BLOCKS = re.compile(
    r"(?:encoder\.layer|blocks)\.(0|[1-9]\d{0,3})\.(.+)\.(weight|bias)"
)
_MODULES = {
    # Hugging Face.
    "layernorm_before": "LayerNorm_0",
    "attention.attention.query": f"{_ATTENTION}/query",
    "attention.attention.key": f"{_ATTENTION}/key",
    "attention.attention.value": f"{_ATTENTION}/value",
    "attention.output.dense": f"{_ATTENTION}/out",
    "layernorm_after": "LayerNorm_1",
    "intermediate.dense": "MlpBlock_0/Dense_0",
    "output.dense": "MlpBlock_0/Dense_1",
    # timm.
    "norm1": "LayerNorm_0",
    "attn.qkv": f"{_ATTENTION}/qkv",
    "attn.proj": f"{_ATTENTION}/out",
    "norm2": "LayerNorm_1",
    "mlp.fc1": "MlpBlock_0/Dense_0",
    "mlp.fc2": "MlpBlock_0/Dense_1",
}
_TOGETHER = ("query", "key", "value")


def from_folder(
    folder: str | os.PathLike[str], **options: Any
) -> root_lib.Root:
    """Returns the root that a folder of a ViT holds.

    Args:
      folder: with `config.json` and `model.safetensors`, of a `ViTModel` or
        `ViTForImageClassification` of transformers, or of a
        `vision_transformer` of timm; and `preprocessor_config.json`, where
        pixels are not scaled to [-1, 1].
      **options: `num_layers`, `num_layers_max`, `image_size` and
        `num_classes` as `vit_loader.load_vit` takes them.

    Raises:
      CheckpointError: a file is missing or damaged, or is of another model.
      UsageError: more layers or classes than the checkpoint has, or an image
        size that is no multiple of the patch.
    """
    name = os.fspath(folder)
    config = _json(name, CONFIG_FILE)
    weights = safetensors_reader.Archive(os.path.join(name, WEIGHTS_FILE))
    is_timm = "architecture" in config
    heads, epsilon = _sizes(name, config, weights, is_timm=is_timm)
    pixels: Mapping[str, Any] = {}
    if is_timm:
        pixels = _mapping(name, config, "pretrained_cfg")
    elif os.path.exists(os.path.join(name, _PIXELS_FILE)):
        pixels = _json(name, _PIXELS_FILE)
    keys = ("mean", "std") if is_timm else ("image_mean", "image_std")
    mean, std = (_channels(name, pixels, key) for key in keys)
    return vit_loader.load_vit(
        _Arrays(weights, heads, mean, std),
        f"hf {os.path.basename(os.path.normpath(name))}",
        exact_gelu=True,
        norm_epsilon=epsilon,
        **options,
    )


def _json(folder: str, file: str) -> dict[str, Any]:
    path = os.path.join(folder, file)
    try:
        data = guarded_file.read_file(path, _NUM_JSON_BYTES_MAX, follow=True)
        value = guarded_json.loads(data)
    except OSError as error:
        raise errors.CheckpointError(
            f"{path} cannot be read: {error.strerror}; give a folder with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except (ValueError, errors.StoreError) as error:
        raise errors.CheckpointError(
            f"{path} is no JSON object; get the folder again"
        ) from error
    if not isinstance(value, dict):
        raise errors.CheckpointError(
            f"{path} is no JSON object; get the folder again"
        )
    return value


def _mapping(
    folder: str, config: Mapping[str, Any], key: str
) -> Mapping[str, Any]:
    value = config.get(key, {})
    if not isinstance(value, dict):
        raise _other(folder, f"{key} {value!r:.60}")
    return value


def _sizes(
    folder: str,
    config: Mapping[str, Any],
    weights: safetensors_reader.Archive,
    *,
    is_timm: bool,
) -> tuple[int, float]:
    """Returns the heads of an attention and the norms' epsilon.

    Raises:
      CheckpointError: the model is no such ViT.
    """
    if is_timm:
        architecture = str(config["architecture"])
        width = (0, *weights.shapes.get("cls_token", ()))[-1]
        arguments = _mapping(folder, config, "model_args")
        heads = arguments.get("num_heads", _HEADS.get(width))
        is_count = type(heads) is int and heads > 0
        if not architecture.startswith("vit_") or not is_count:
            raise _other(folder, f"architecture {architecture!r:.60}")
        pool = config.get("global_pool", "token")
        if pool not in ("token", ""):
            raise _other(folder, f"global_pool {pool!r:.60}, not 'token'")
        return heads, _TIMM_EPSILON
    expected = {"model_type": "vit", "hidden_act": "gelu", "qkv_bias": True}
    for key, value in expected.items():
        # The defaults of transformers are these.
        actual = config.get(key, None if key == "model_type" else value)
        if actual != value:
            raise _other(folder, f"{key} {actual!r:.60}, not {value!r}")
    heads = config.get("num_attention_heads", 12)
    epsilon = config.get("layer_norm_eps", 1e-12)
    if (
        type(heads) is not int
        or type(epsilon) not in (int, float)
        or not (heads > 0 and 0 < epsilon < 1)
    ):
        raise _other(folder, "sizes that are no numbers above 0")
    return heads, float(epsilon)


def _other(folder: str, what: str) -> errors.CheckpointError:
    return errors.CheckpointError(
        f"{os.path.join(folder, CONFIG_FILE)} has {what}; supported is a ViT "
        "of transformers (model_type vit, exact GELU) or of timm (vit_*)"
    )


def _channels(folder: str, pixels: Mapping[str, Any], key: str) -> np.ndarray:
    """Returns what a pixel in [0, 1] is shifted or scaled by, `[3]`."""
    values = pixels.get(key, [0.5] * 3)
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    is_scale = key.endswith("std")
    if (
        array.shape != (3,)
        or not np.isfinite(array).all()
        or (is_scale and not (array > 0).all())
    ):
        raise errors.CheckpointError(
            f"{folder} has {key} {values!r:.60}; it must be three numbers"
            f"{' above 0' if is_scale else ''}"
        )
    return array


class _Arrays:
    """A file's arrays under AugReg's names and in AugReg's shapes."""

    def __init__(
        self,
        weights: safetensors_reader.Archive,
        num_heads: int,
        mean: np.ndarray,
        std: np.ndarray,
    ):
        self.path = weights.path
        self._weights = weights
        self._heads = num_heads
        self._mean, self._std = mean, std
        # AugReg's name -> the file's name, and which third of it.
        self._sources: dict[str, tuple[str, int | None]] = {}
        for name in weights.shapes:
            for ours, third in _names(name):
                self._sources[ours] = name, third
        self.shapes = {
            name: self._shape(name, *source)
            for name, source in self._sources.items()
        }
        self.dtypes = {
            name: weights.dtypes[source]
            for name, (source, _) in self._sources.items()
        }

    def read(self, name: str) -> np.ndarray:
        """Returns one array."""
        source, third = self._sources[name]
        value = self._weights.read(source)
        if third is not None:
            value = np.split(value, 3)[third]
        if name == augreg_names.EMBEDDING_KERNEL:
            # From pixels in [-1, 1], not as the model's own processor has it.
            scaled = value * (0.5 / self._std)[:, None, None]
            return scaled.transpose(2, 3, 1, 0).astype(np.float32)
        if name == "embedding/bias":
            kernel_name, _ = self._sources[augreg_names.EMBEDDING_KERNEL]
            kernel = self._weights.read(kernel_name).astype(np.float64)
            shift = (0.5 - self._mean) / self._std
            value = value + np.einsum("ocij,c->o", kernel, shift)
            return value.astype(np.float32)
        if value.ndim == 2 and name.endswith("/kernel"):
            value = value.T
        return np.ascontiguousarray(value.reshape(self.shapes[name]))

    def _shape(
        self, name: str, source: str, third: int | None
    ) -> tuple[int, ...]:
        shape = self._weights.shapes[source]
        if third is not None and shape and not shape[0] % 3:
            shape = (shape[0] // 3, *shape[1:])
        if name == augreg_names.EMBEDDING_KERNEL and len(shape) == 4:
            return shape[2], shape[3], shape[1], shape[0]
        if len(shape) == 2 and name.endswith("/kernel"):
            shape = shape[::-1]
        parts = name.split("/")
        if _ATTENTION not in parts or not shape or shape[-1] % self._heads:
            return shape
        # Kernels keep their heads apart.
        if parts[-2] != "out":
            return (*shape[:-1], self._heads, shape[-1] // self._heads)
        if parts[-1] == "kernel" and shape[0] % self._heads == 0:
            return (self._heads, shape[0] // self._heads, *shape[1:])
        return shape


def _names(name: str) -> list[tuple[str, int | None]]:
    """Returns AugReg's names of an array, or its own where none is."""
    bare = name.removeprefix("vit.")
    if bare in _OUTER:
        return [(_OUTER[bare], None)]
    if bare.startswith("pooler."):
        # Of a ViTModel; it names no class.
        return []
    match = _BLOCKS.fullmatch(bare)
    if not match or match[2] not in _MODULES:
        return [(name, None)]
    module = _MODULES[match[2]]
    is_norm = module.startswith("LayerNorm")
    part = match[3]
    if part == "weight":
        part = "scale" if is_norm else "kernel"
    stem = f"{_BLOCK}{int(match[1])}/"
    if module.endswith("/qkv"):
        base = module.removesuffix("/qkv")
        return [
            (f"{stem}{base}/{which}/{part}", third)
            for third, which in enumerate(_TOGETHER)
        ]
    return [(f"{stem}{module}/{part}", None)]


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_folder(settings.path, **sizes)


SOURCE = source_lib.RootSource(
    build=_build,
    path_help=f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}",
)
