"""A root from a TensorFlow Hub SavedModel, and back into one.

Invariant: `from_hub(save(root))` gives every weight back to the bit. A model
of another family is refused with what was found.
"""

from __future__ import annotations

import os
from typing import Any

from keras_munet import errors
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.roots import augreg_names
from keras_munet.roots import root as root_lib
from keras_munet.roots import saved_model_variables
from keras_munet.roots import source as source_lib
from keras_munet.roots import vit_loader

# What TensorFlow reads in place; anything else with a scheme is fetched.
_REMOTE_FOLDERS = ("gs://", "ram://", "file://")


def from_hub(handle: str | os.PathLike[str], **options: Any) -> root_lib.Root:
    """Returns the root that a hub model holds.

    Args:
      handle: a local SavedModel folder, a `gs://` folder, or what
        tensorflow-hub resolves: `https://tfhub.dev/...`,
        `https://kaggle.com/models/...`, or a short `publisher/model/version`.
        Fetched models are kept where tensorflow-hub keeps them
        (`TFHUB_CACHE_DIR`).
      **options: as `vit_loader.load_vit` takes them: `variant`, `num_layers`,
        `num_layers_max`, `image_size`, `num_classes`.

    Raises:
      CheckpointError: the model cannot be had, is damaged, or is of another
        family.
      UsageError: an option that the checkpoint cannot have, or
        tensorflow-hub is needed and not installed.
    """
    name = os.fspath(handle)
    opened = saved_model_variables.Checkpoint(_resolve(name))
    source = f"hub {os.path.basename(name.rstrip('/')) or name}"
    if not os.path.isdir(name):
        source = f"hub {name}"
    return vit_loader.load_vit(opened, source, **options)


def save(root: root_lib.Root, folder: str | os.PathLike[str]) -> str:
    """Writes a ViT root in the layout of the published hub models.

    The SavedModel can be called: `[batch, size, size, 3] float32` in [-1, 1]
    to `[batch, classes] float32`; its `serving_default` gives `output_0`.

    Args:
      root: a whole ViT.
      folder: to write; TensorFlow makes it.

    Returns:
      The folder.

    Raises:
      UsageError: the root is no ViT of the published kind.
      StoreError: the folder cannot be written.
    """
    import tensorflow as tf

    from keras_munet.models.vit import layers as _layers  # noqa: F401  registers

    layout = tuple(component.spec for component in root.components)
    published = isinstance(root.family, vit_architecture.VitFamily) and not (
        root.family.exact_gelu
        or root.family.norm_epsilon != vit_architecture.NORM_EPSILON
    )
    if not published:
        raise errors.UsageError(
            f"a root of family {root.family.to_json()} has no hub layout; "
            "save a ViT with the published GELU and norm"
        )
    names = augreg_names.file_names(
        layout, {"/MultiHeadDotProductAttention_0/"}
    )
    by_name = {
        names[c.spec.name, weight]: tf.Variable(value, name=weight)
        for c in root.components
        for weight, value in c.weights.items()
    }
    chain = [
        (
            registry.LAYERS.get(spec.layer)(**spec.config),
            [by_name[names[spec.name, weight]] for weight, _ in spec.weights],
        )
        for spec in layout
    ]

    @tf.function(autograph=False)
    def call(images):
        x = images
        for layer, variables in chain:
            x = layer.compute(x, [v.read_value() for v in variables])
        return x

    class Reusable(tf.train.Checkpoint):
        """A model by tensorflow.org/hub/reusable_saved_models."""

        def __init__(self):
            super().__init__()
            self.variables = [
                by_name[n] for n in augreg_names.flax_order(by_name)
            ]
            self.trainable_variables = list(self.variables)
            self.regularization_losses = []
            self.__call__ = call

    size = root.hparams["ds_image_size"]
    images = tf.TensorSpec([None, size, size, 3], tf.float32, name="inputs")
    signatures = {"serving_default": call.get_concrete_function(images)}
    try:
        tf.saved_model.save(
            Reusable(), os.fspath(folder), signatures=signatures
        )
    except (OSError, tf.errors.OpError) as e:
        lines = str(e).splitlines() or [type(e).__name__]
        raise errors.StoreError(
            f"cannot write the SavedModel {os.fspath(folder)} "
            f"({lines[0][:160]}); free space or choose another folder"
        ) from e
    return os.fspath(folder)


def _resolve(name: str) -> str:
    """Returns the folder of `name`, fetched if it has to be."""
    looks_local = os.path.isabs(name) or name.startswith((".", "~"))
    if os.path.exists(name) or looks_local or name.startswith(_REMOTE_FOLDERS):
        return name
    try:
        import tensorflow_hub
    except ImportError as e:
        raise errors.UsageError(
            f"{name} is no local folder, and fetching a hub model needs "
            "tensorflow-hub; run pip install keras_munet[hub]"
        ) from e
    handle = name if "://" in name else f"https://tfhub.dev/{name}"
    # What a download can raise depends on the host and on the resolver.
    try:
        return os.fspath(tensorflow_hub.resolve(handle))
    except Exception as e:
        lines = str(e).splitlines() or [type(e).__name__]
        raise errors.CheckpointError(
            f"{handle} cannot be fetched ({lines[0][:160]}); check the "
            "handle and the network, or give a local SavedModel folder"
        ) from e


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_hub(settings.path, variant=settings.variant or None, **sizes)


SOURCE = source_lib.RootSource(
    build=_build,
    path_help="a hub handle or a SavedModel folder",
    traced_variant=lambda settings: settings.variant,
)
