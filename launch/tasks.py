"""Names the tasks that there are, tells about one, and prepares its data.

    python launch/tasks.py list [--data_dir=DIR]
    python launch/tasks.py show NAME [--data_dir=DIR]
    python launch/tasks.py prepare NAME... --data_dir=DIR [--manual_dir=DIR]
        [--download] [--image_size=PIXELS]
    python launch/tasks.py prepare folder:PATH --data_dir=DIR [--name=own/NAME]
        [--side=PIXELS] [--replace]

`list` prints one task a line, its name first. `prepare` makes a task ready to
be read; what is ready is left as it is, so an interrupted command is run
again. Own images that were prepared from another request are left as they are,
and the command fails; --replace prepares them anew. Source files are taken from
--manual_dir, as <dataset>[/<config>]/<file>; nothing is fetched without
--download. --image_size is the largest input of the models to be trained; what
does not fit in memory at that size is written to array files. Own images are
`folder:PATH`, with a folder for each class, or `table:PATH`, a CSV or Parquet
file.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

import launching
from absl import flags

from keras_munet import errors
from keras_munet.data import image_storage
from keras_munet.data import input_share
from keras_munet.data import tasks
from keras_munet.data.own import sources as own_sources
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import flops
from keras_munet.models.vit import variants

_COMMANDS = ("list", "show", "prepare")

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    "",
    "Prepared data; commas between folders, of which the first is written "
    "to. Default: that of TensorFlow Datasets.",
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", "", "Source files as <dataset>[/<config>]/<file>."
)
_DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Fetch what is in no folder from its publisher."
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    image_storage.IMAGE_SIZE,
    "The largest ds_image_size of the experiment, pixels.",
    lower_bound=1,
    upper_bound=image_storage.SIDE_MAX,
)
_NAME = flags.DEFINE_string(
    "name", "", "Name of own images, e.g. own/cats; default from the path."
)
_SIDE = flags.DEFINE_integer(
    "side",
    0,
    "Own images are stored as squares of so many pixels; "
    "default from the images.",
    lower_bound=0,
    upper_bound=4096,
)
_REPLACE = flags.DEFINE_bool(
    "replace", False, "Prepare own images anew in the place of earlier ones."
)


def main(command: str, names: Sequence[str]) -> None:
    """Does what the command says."""
    if command == "list":
        if names:
            raise errors.UsageError(
                f"list takes no names, {names[0]!r} is given; run show "
                f"{names[0]}"
            )
        _list()
        return
    if not names:
        raise errors.UsageError(
            f"{command} needs the name of a task; list prints them"
        )
    if command == "show":
        for name in names:
            _show(name)
    else:
        _prepare(names)


def _list() -> None:
    lines = tasks.list_tasks(_DATA_DIR.value)
    width = max(len(line.name) for line in lines)
    for name, group, note in lines:
        print(f"{name:<{width}}  {group:<10}  {note}")


def _show(name: str) -> None:
    launching.quiet_tensorflow()
    rows, stored_shape = tasks.describe(name, _options())
    for label, value in rows:
        print(f"{label + ':':<11} {value}")
    if stored_shape:
        _show_input(stored_shape)


def _options() -> tasks.DataOptions:
    return tasks.DataOptions(
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        download=_DOWNLOAD.value,
        image_size=_IMAGE_SIZE.value,
        checks_size=flags.FLAGS["image_size"].present > 0,
        name=_NAME.value,
        side=_SIDE.value,
        replace=_REPLACE.value,
        progress=sys.stderr.isatty(),
    )


def _show_input(stored: Sequence[int]) -> None:
    """Prints what input costs beside children of the smallest model."""
    variant = variants.variant("mu")
    family = vit_architecture.VitFamily.of(variant, variant.num_layers)
    size = max(
        _IMAGE_SIZE.value // variant.patch_size * variant.patch_size,
        variant.patch_size,
    )
    hparams = {"num_layers": variant.num_layers, "ds_image_size": size}
    generation = input_share.Generation(
        image_size=size,
        batch_size=32,
        num_children=2,
        multiply_adds=sum(
            flops.forward_costs(family.layout(hparams, 2)).values()
        ),
    )
    text = input_share.share_text(stored, generation)
    print(f"input:      {text}, 2 children of {variant.name}")


def _prepare(names: Sequence[str]) -> None:
    for name in names:
        if not own_sources.is_own(name) and pathlib.Path(name).exists():
            form = "folder" if pathlib.Path(name).is_dir() else "table"
            raise errors.UsageError(
                f"{name!r} is a {form} of this machine; give {form}:{name}"
            )
    num_own = sum(own_sources.is_own(name) for name in names)
    if _NAME.value and (num_own, len(names)) != (1, 1):
        raise errors.UsageError(
            f"--name={_NAME.value} names one folder: or table:, "
            f"{' '.join(names)} is given; prepare that by itself"
        )
    if _SIDE.value and num_own != len(names):
        raise errors.UsageError(
            f"--side={_SIDE.value} is for folder: and table:, "
            f"{' '.join(names)} is given; prepare those by themselves"
        )
    if _REPLACE.value and num_own != len(names):
        raise errors.UsageError(
            f"--replace is for folder: and table:, {' '.join(names)} is "
            "given; prepare those by themselves"
        )
    launching.quiet_tensorflow()
    for name in names:
        # A misspelt one is reported before hours of work on the others.
        tasks.check_name(name, data_dir=_DATA_DIR.value)
    failed = []
    for name in names:
        try:
            for line in tasks.prepare(name, _options()):
                print(line)
        except errors.DataError as e:
            # The others may be had; this one is reported again at the end.
            if len(names) == 1:
                raise
            print(f"{name}: {e}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise errors.DataError(
            f"{len(failed)} of {len(names)} tasks are not prepared: "
            f"{', '.join(failed)}; run the same command again when the "
            "reasons above are gone"
        )


if __name__ == "__main__":
    launching.run_command_on_names(main, _COMMANDS)
