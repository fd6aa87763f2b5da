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
from keras_munet.core import printable
from keras_munet.data import folders
from keras_munet.data import image_storage
from keras_munet.data import input_share
from keras_munet.data import plugin_tasks
from keras_munet.data import tasks
from keras_munet.data.own import sources as own_sources
from keras_munet.data.own import store as own_store
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources as sources
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
    lines = [(n, "embedded", "comes with the install") for n in embedded()]
    for folder in folders.folders(_DATA_DIR.value):
        lines += [(n, "own", f"in {folder}") for n in own_store.listed(folder)]
    for task in catalogue.tasks().values():
        source = sources.SOURCES[task.source]
        note = f"{task.num_classes} classes, {task.source}:{source.version}"
        if source.manual_files:
            note += ", needs files by hand"
        lines.append((task.name, task.benchmark, note))
    lines += [(n, "other", "a data set of TFDS") for n in catalogue.OTHERS]
    lines += [
        (f"{family}[/...]", "plug-in", f"of {plugin.distribution}")
        for family, plugin in plugin_tasks.loaders().plugins().items()
    ]
    width = max(len(name) for name, _, _ in lines)
    for name, benchmark, note in lines:
        print(f"{name:<{width}}  {benchmark:<10}  {note}")


def embedded() -> list[str]:
    """Returns the tasks whose data need no files."""
    return tasks.embedded_names()


def _show(name: str) -> None:
    own = name.startswith(own_store.FAMILY + "/")
    if own or name in embedded() or plugin_tasks.has(name):
        _show_loaded(tasks.load(name, data_dir=_DATA_DIR.value))
        return
    launching.quiet_tensorflow()
    described = tasks.describe(
        name, data_dir=_DATA_DIR.value, image_size=_IMAGE_SIZE.value
    )
    task = catalogue.find(name)
    print(f"task:       {name}")
    if task:
        print(f"benchmark:  {task.benchmark}")
    for data_set, prepared in zip(
        described.sources, described.prepared, strict=True
    ):
        state = "prepared" if prepared else "not prepared"
        print(f"data set:   {data_set} of TFDS, {state}")
    for split, instruction in described.instructions.items():
        count = described.num_examples.get(split)
        number = "unknown until prepared" if count is None else f"{count:,}"
        print(f"{split + ':':<11} {instruction}, {number} examples")
    if described.form:
        height, width, channels = described.form.shape
        way = (
            "squares of the whole image" if described.form.resized else "as is"
        )
        print(f"classes:    {len(described.form.class_names):,}")
        print(f"label:      {described.form.label}")
        print(f"stored as:  {height} x {width} x {channels}, {way}")
        _show_input(described.form.shape)
        if described.num_array_bytes:
            state = "" if described.arrays_prepared else "not "
            print(
                f"in files:   {described.num_array_bytes / 2**30:.1f} GiB, "
                f"{state}prepared"
            )
    else:
        print(f"unusable:   {described.problem}")
    if task:
        source = sources.SOURCES[task.source]
        print(f"licence:    {source.licence}")
        if source.manual_files:
            print(f"by hand:    {source.manual_files}")


def _show_loaded(data: tasks.TaskData) -> None:
    shape = " x ".join(map(str, data.train.images.shape[1:]))
    print(f"task:       {data.name}")
    for split in ("train", "validation", "test"):
        number = len(getattr(data, split).labels)
        print(f"{split + ':':<11} {number:,} examples")
    class_names = ", ".join(map(printable.printable, data.class_names))
    print(f"classes:    {data.num_classes:,}: {class_names}")
    print(f"stored as:  {shape}")
    _show_input(data.train.images.shape[1:])
    for notice in data.notices:
        print(f"notice:     {printable.printable(notice)}")


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
    for name in names:
        # A misspelt one is reported before hours of work on the others.
        if not own_sources.is_own(name):
            tasks.check_name(name, data_dir=_DATA_DIR.value)
    failed = []
    for name in names:
        try:
            if own_sources.is_own(name):
                _prepare_own(name)
            else:
                _prepare_named(name)
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


def _prepare_named(name: str) -> None:
    if name in embedded() or plugin_tasks.has(name):
        print(f"{name}: comes with the install")
        return
    if name.startswith(own_store.FAMILY + "/"):
        tasks.load(name, data_dir=_DATA_DIR.value)
        _compare_size(name)
        print(f"{name}: is prepared")
        return
    launching.quiet_tensorflow()
    prepared = tasks.prepare(
        name,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        download=_DOWNLOAD.value,
        progress=sys.stderr.isatty(),
        image_size=_IMAGE_SIZE.value,
    )
    text = f"prepared {', '.join(prepared)}" if prepared else "is prepared"
    print(f"{name}: {text}")


def _prepare_own(source: str) -> None:
    import tqdm

    from keras_munet.data.own import prepare
    from keras_munet.data.own import tasks as own_tasks

    launching.quiet_tensorflow()
    folder = folders.folders(_DATA_DIR.value)[0]
    name = _NAME.value or own_tasks.name_of(source)
    if own_store.exists(name, folder) and not _REPLACE.value:
        _compare(name, folder, source)
        return
    data, skipped = prepare.prepare_task(
        source,
        folder,
        name=name,
        side=_SIDE.value,
        image_size=_IMAGE_SIZE.value,
        replace=_REPLACE.value,
        progress=lambda images: tqdm.tqdm(images, desc=name, disable=None),
    )
    for notice in data.notices:
        print(f"notice: {notice}")
    for where, reason in skipped:
        print(f"skipped {where}: {reason}")
    numbers = [
        f"{len(getattr(data, split).labels):,} {split}"
        for split in ("train", "validation", "test")
    ]
    height, width, channels = data.train.images.shape[1:]
    print(
        f"{name}: {data.num_classes} classes, {', '.join(numbers)}, stored as "
        f"{height} x {width} x {channels} in {folder}; {len(skipped)} skipped"
    )


def _compare_size(name: str) -> None:
    """Refuses an image size that own images were not prepared for.

    Raises:
      DataError: another size is given.
    """
    if not flags.FLAGS["image_size"].present:
        return
    prepared = own_store.image_size(name, folders.folders(_DATA_DIR.value))
    if prepared not in (None, _IMAGE_SIZE.value):
        raise errors.DataError(
            f"{name} is prepared for --image_size={prepared}, "
            f"{_IMAGE_SIZE.value} is given; run prepare folder:PATH "
            f"--name={name} --image_size={_IMAGE_SIZE.value} --replace"
        )


def _compare(name: str, folder: str, source: str) -> None:
    """Says whether prepared own images are those requested.

    Raises:
      DataError: they are not, or were changed.
    """
    problem = own_store.request_difference(
        name, folder, source, side=_SIDE.value, image_size=_IMAGE_SIZE.value
    )
    if problem:
        raise errors.DataError(
            f"{name} is prepared in {folder} already, from another request: "
            f"{problem}; add --replace to prepare it anew, or give the new "
            "task another --name"
        )
    own_store.verify(name, folder)
    if problem is None:
        print(
            f"{name}: is prepared in {folder} by an earlier version, which "
            "recorded no request, so the source was not read; --replace "
            "prepares it anew"
        )
    else:
        print(f"{name}: is prepared in {folder}, unchanged")


if __name__ == "__main__":
    launching.run_command_on_names(main, _COMMANDS)
