"""Own images as tasks: prepared ones by name, others by their path."""

from __future__ import annotations

import warnings

from keras_munet import errors
from keras_munet.core import fingerprint
from keras_munet.data import folders
from keras_munet.data import task_source
from keras_munet.data import types
from keras_munet.data.own import sources
from keras_munet.data.own import store


class _PreparedImages(task_source.TaskSource):
    """Prepared own images, `own/NAME`."""

    families = frozenset({store.FAMILY})

    def list_tasks(self, data_dir: str) -> list[task_source.ListedTask]:
        """Returns the tasks of every folder of prepared data."""
        return [
            task_source.ListedTask(name, store.FAMILY, f"in {folder}")
            for folder in folders.folders(data_dir)
            for name in store.listed(folder)
        ]

    def load_data(
        self, name: str, options: task_source.DataOptions
    ) -> types.TaskData:
        """Returns the data of a task."""
        return store.load_task(name, folders.folders(options.data_dir))

    def prepare(self, name: str, options: task_source.DataOptions) -> list[str]:
        """Checks what was prepared from a path before."""
        data_dirs = folders.folders(options.data_dir)
        store.load_task(name, data_dirs)
        prepared_size = store.image_size(name, data_dirs)
        if options.checks_size and prepared_size not in (
            None,
            options.image_size,
        ):
            raise errors.DataError(
                f"{name} is prepared for --image_size={prepared_size}, "
                f"{options.image_size} is given; run prepare folder:PATH "
                f"--name={name} --image_size={options.image_size} --replace"
            )
        return [f"{name}: is prepared"]

    def prepared_fingerprint(
        self, name: str, data_dir: str
    ) -> tuple[tuple[str, ...], fingerprint.DataFingerprint] | None:
        """Returns class names and fingerprint as they were recorded."""
        return store.prepared_fingerprint(name, folders.folders(data_dir))


class _ImagesByPath(task_source.TaskSource):
    """Images that were not prepared, `folder:PATH` or `table:PATH`."""

    def matches(self, name: str) -> bool:
        """Returns whether a name is a path to images."""
        return sources.is_own(name)

    def load_data(
        self, name: str, options: task_source.DataOptions
    ) -> types.TaskData:
        """Returns the images of a path; each skipped file is a warning."""
        del options
        # Needs Pillow, which nothing else does.
        from keras_munet.data.own import tasks

        data, skipped = tasks.build_data(name)
        if skipped:
            reasons = "; ".join(f"{s.where}: {s.reason}" for s in skipped)
            warnings.warn(
                f"{name!r}: {len(skipped)} skipped: {reasons}", stacklevel=4
            )
        return data

    def prepare(self, name: str, options: task_source.DataOptions) -> list[str]:
        """Writes the images of a path as the task `own/NAME`."""
        import tqdm

        from keras_munet.data.own import prepare
        from keras_munet.data.own import tasks

        folder = folders.folders(options.data_dir)[0]
        task = options.name or tasks.name_of(name)
        if store.exists(task, folder) and not options.replace:
            return [_compare_request(task, folder, name, options)]
        data, skipped = prepare.prepare_task(
            name,
            folder,
            name=task,
            side=options.side,
            image_size=options.image_size,
            replace=options.replace,
            progress=lambda images: tqdm.tqdm(
                images, desc=task, disable=None if options.progress else True
            ),
        )
        numbers = [
            f"{len(getattr(data, split).labels):,} {split}"
            for split in types.SPLIT_NAMES
        ]
        height, width, channels = data.train.images.shape[1:]
        return [
            *(f"notice: {notice}" for notice in data.notices),
            *(f"skipped {where}: {reason}" for where, reason in skipped),
            f"{task}: {data.num_classes} classes, {', '.join(numbers)}, "
            f"stored as {height} x {width} x {channels} in {folder}; "
            f"{len(skipped)} skipped",
        ]


def _compare_request(
    task: str, folder: str, source: str, options: task_source.DataOptions
) -> str:
    """Says whether prepared own images are those that options describe.

    Raises:
      DataError: they are not, or were changed.
    """
    problem = store.request_difference(
        task, folder, source, side=options.side, image_size=options.image_size
    )
    if problem:
        raise errors.DataError(
            f"{task} is prepared in {folder} already, from another request: "
            f"{problem}; add --replace to prepare it anew, or give the new "
            "task another --name"
        )
    store.verify(task, folder)
    if problem is None:
        return (
            f"{task}: is prepared in {folder} by an earlier version, which "
            "recorded no request, so the source was not read; --replace "
            "prepares it anew"
        )
    return f"{task}: is prepared in {folder}, unchanged"


PREPARED = _PreparedImages()
BY_PATH = _ImagesByPath()
