"""A tiny hybrid of ResNet and ViT, its file's arrays, and plain NumPy for it.

The reference follows the published description alone: it reads arrays by the
names of a file, in float64, and shares no code with the layers.
"""

from __future__ import annotations

import numpy as np

from keras_munet.models.vit import hybrid
from keras_munet.roots import augreg_names
from keras_munet.roots import root as root_lib

IMAGE_SIZE = 32
NUM_CLASSES = 5


def family(**changes) -> hybrid.HybridFamily:
    """Two stages of two and one units: a token stands for 8 x 8 pixels."""
    sizes = {
        "width": 16,
        "num_heads": 2,
        "mlp_dim": 24,
        "patch_size": 1,
        "num_layers_max": 2,
        "units": (2, 1),
        "stem_width": 32,
    }
    return hybrid.HybridFamily(**{**sizes, **changes})


def root(seed: int = 0, noise: float = 0.2, **changes) -> root_lib.Root:
    """A root in which no two weights are alike."""
    made = family(**changes)
    hparams = {
        "num_layers": made.num_layers_max,
        "ds_image_size": IMAGE_SIZE,
    }
    rng = np.random.default_rng(seed)
    components = tuple(
        made.initial(spec, rng) for spec in made.layout(hparams, NUM_CLASSES)
    )
    for component in components:
        for value in component.weights.values():
            value += noise * rng.normal(size=value.shape)
    return root_lib.Root(made, components, hparams, "tiny hybrid")


def arrays(made: root_lib.Root) -> dict[str, np.ndarray]:
    """The weights under the names of a published file."""
    layout = tuple(component.spec for component in made.components)
    names = augreg_names.file_names(
        layout, {"/MultiHeadDotProductAttention_0/"}
    )
    return {
        names[component.spec.name, weight]: value
        for component in made.components
        for weight, value in component.weights.items()
    }


def _padded(x, side: int, strides: int, value: float):
    """Pads as 'SAME' does: what is odd goes behind."""
    pads = []
    for size in x.shape[1:3]:
        total = max((-(-size // strides) - 1) * strides + side - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _windows(x, side: int, strides: int):
    """Returns `[batch, rows, columns, inputs, side, side]`."""
    view = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    return view[:, ::strides, ::strides]


def _convolved(x, kernel, strides: int = 1):
    kernel = kernel.astype(np.float64)
    flat = kernel.reshape(-1, kernel.shape[-1])
    kernel = (kernel - flat.mean(0)) / (flat.std(0) + 1e-5)
    side = kernel.shape[0]
    seen = _windows(_padded(x, side, strides, 0.0), side, strides)
    return np.einsum("brcihw,hwio->brco", seen, kernel)


def _group_normed(x, named, name: str):
    batch, *sides, width = x.shape
    parts = x.reshape(batch, *sides, 32, width // 32)
    mean = parts.mean((1, 2, 4), keepdims=True)
    variance = parts.var((1, 2, 4), keepdims=True)
    normal = ((parts - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    return normal * named[f"{name}/scale"] + named[f"{name}/bias"]


def _unit(x, named, place: str, strides: int):
    def part(y, number, strides=1):
        y = _convolved(y, named[f"{place}/conv{number}/kernel"], strides)
        return _group_normed(y, named, f"{place}/gn{number}")

    y = np.maximum(part(x, 1), 0.0)
    y = np.maximum(part(y, 2, strides), 0.0)
    y = part(y, 3)
    if f"{place}/conv_proj/kernel" in named:
        x = part(x, "_proj", strides)
    return np.maximum(x + y, 0.0)


def features(named, images) -> np.ndarray:
    """Returns what a ResNet of any depth gives for images in [-1, 1]."""
    x = _convolved(images.astype(np.float64), named["conv_root/kernel"], 2)
    x = np.maximum(_group_normed(x, named, "gn_root"), 0.0)
    x = _windows(_padded(x, 3, 2, -np.inf), 3, 2).max((-1, -2))
    places = {n.rsplit("/", 2)[0] for n in named if n.startswith("block")}
    for place in sorted(places):
        first = place.endswith("unit1") and not place.startswith("block1")
        x = _unit(x, named, place, 2 if first else 1)
    return x


def _layer_normed(x, named, name: str):
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normal * named[f"{name}/scale"] + named[f"{name}/bias"]


def _attended(x, named, name: str):
    query, key, value = (
        np.einsum("btw,whd->bhtd", x, named[f"{name}/{part}/kernel"])
        + named[f"{name}/{part}/bias"][:, np.newaxis]
        for part in ("query", "key", "value")
    )
    scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    read = np.einsum(
        "bhtd,hdw->btw", shares @ value, named[f"{name}/out/kernel"]
    )
    return read + named[f"{name}/out/bias"]


def _dense(x, named, name: str):
    return x @ named[f"{name}/kernel"] + named[f"{name}/bias"]


def logits(named, images, num_layers: int) -> np.ndarray:
    """Returns `[batch, classes]` of images in [-1, 1], by the formulas."""
    x = features(named, images)
    patch = named["embedding/kernel"].shape[0]
    seen = _windows(x, patch, patch)
    x = np.einsum("brcihw,hwio->brco", seen, named["embedding/kernel"])
    x = (x + named["embedding/bias"]).reshape(len(x), -1, x.shape[-1])
    token = np.broadcast_to(named["cls"], (len(x), 1, x.shape[-1]))
    x = np.concatenate([token, x], 1)
    x = x + named["Transformer/posembed_input/pos_embedding"]
    for i in range(num_layers):
        name = f"Transformer/encoderblock_{i}"
        normal = _layer_normed(x, named, f"{name}/LayerNorm_0")
        x = x + _attended(
            normal, named, f"{name}/MultiHeadDotProductAttention_0"
        )
        normal = _layer_normed(x, named, f"{name}/LayerNorm_1")
        hidden = _dense(normal, named, f"{name}/MlpBlock_0/Dense_0")
        cubic = np.sqrt(2.0 / np.pi) * (hidden + 0.044715 * hidden**3)
        hidden = 0.5 * hidden * (1.0 + np.tanh(cubic))
        x = x + _dense(hidden, named, f"{name}/MlpBlock_0/Dense_1")
    x = _layer_normed(x, named, "Transformer/encoder_norm")[:, 0]
    return _dense(x, named, "head")
