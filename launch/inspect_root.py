"""Prints what a root is made of and what the search may do with it.

    python launch/inspect_root.py --root=packaged
    python launch/inspect_root.py --root=random:B/16 --num_layers=3
    python launch/inspect_root.py --root=random:R26+S/32 --image_size=224
    python launch/inspect_root.py --root=npz:FILE --image_size=224
    python launch/inspect_root.py --root=hub:FOLDER_OR_HANDLE
    python launch/inspect_root.py --root=hf:FOLDER
    python launch/inspect_root.py --root=keras_hub:PRESET
    python launch/inspect_root.py --root=keras_applications:MobileNetV3Small
    python launch/inspect_root.py --root=keras:FILE.keras --blocks='block[0-9]+'

A file that does not fit is shown with every difference.
"""

from __future__ import annotations

import sys

import launching
from absl import flags

from keras_munet.core import settings

_ROOT = flags.DEFINE_string(
    "root",
    None,
    "SOURCE[:PATH], as config keys root.source and root.path.",
    required=True,
)
_NUM_LAYERS = flags.DEFINE_integer(
    "num_layers", settings.ALL_LAYERS, "Blocks to keep; -1 keeps all."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Side, pixels.")
_BLOCKS = flags.DEFINE_string("blocks", "", "As config key root.blocks.")
_FEATURES = flags.DEFINE_string("features", "", "As root.features.")
_PIXEL_MIN = flags.DEFINE_float("pixel_min", -1.0, "As root.pixel_min.")
_PIXEL_MAX = flags.DEFINE_float("pixel_max", 1.0, "As root.pixel_max.")


def main() -> None:
    """Prints the table."""
    launching.quiet_tensorflow()
    from keras_munet.roots import build
    from keras_munet.roots import inspection
    from keras_munet.roots import vit_loader

    source, _, path = _ROOT.value.partition(":")
    root_settings = settings.RootSettings(
        source=source,
        # From the file where there is one.
        variant=(path or "Ti/16") if source == "random" else "",
        num_layers=_NUM_LAYERS.value,
        image_size=_IMAGE_SIZE.value,
        path="" if source == "random" else path,
        blocks=_BLOCKS.value,
        features=_FEATURES.value,
        pixel_min=_PIXEL_MIN.value,
        pixel_max=_PIXEL_MAX.value,
    )
    try:
        root = build.build(root_settings)
    except vit_loader.MismatchError as error:
        for difference in error.differences:
            print(difference)
        raise
    sys.stdout.write(inspection.root_text(root))


if __name__ == "__main__":
    launching.run(main)
