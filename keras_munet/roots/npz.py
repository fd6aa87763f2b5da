"""A root from an `.npz` checkpoint in AugReg's or big_vision's names.

Invariant: what is read is checked as `roots.archive` and `roots.strict` say;
nothing is unpickled.
"""

from __future__ import annotations

import os
from typing import Any

from keras_munet.core import settings as settings_lib
from keras_munet.data import npz_reader
from keras_munet.roots import augreg_catalogue
from keras_munet.roots import root as root_lib
from keras_munet.roots import source as source_lib
from keras_munet.roots import vit_loader


def from_npz(path: str | os.PathLike[str], **options: Any) -> root_lib.Root:
    """Returns the root that an `.npz` checkpoint holds.

    Args:
      path: a file, local or `gs://`, or an AugReg query such as
        `augreg:name=Ti/16,ds=i21k,aug=none,wd=0.03,sd=0.0`; see
        `augreg_catalogue.resolve`.
      **options: as `vit_loader.load_vit` takes them: `variant`, `num_layers`,
        `num_layers_max`, `image_size`, `num_classes`.

    Raises:
      CheckpointError: the file cannot be read or is another model's.
      UsageError: more layers or classes than the checkpoint has, an image
        size that is no multiple of the patch, or a query that fits no file.
    """
    name = os.fspath(path)
    if name.startswith(augreg_catalogue.QUERY_PREFIX):
        name = augreg_catalogue.resolve(name)
    with npz_reader.Archive(name) as opened:
        source = f"npz {os.path.basename(name)}"
        return vit_loader.load_vit(opened, source, **options)


def _build(settings: settings_lib.RootSettings, **sizes: Any) -> root_lib.Root:
    return from_npz(settings.path, variant=settings.variant or None, **sizes)


SOURCE = source_lib.RootSource(
    build=_build,
    path_help="an .npz file or an AugReg query",
    traced_variant=lambda settings: settings.variant,
)
