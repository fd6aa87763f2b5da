"""Tasks of TensorFlow Datasets (TFDS) by name, published ones first.

Invariant: reading the module, and listing its tasks, imports no TFDS, which
takes a second.
"""

from __future__ import annotations

from keras_munet.data import task_source
from keras_munet.data import types
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources


class _TfdsTasks(task_source.TaskSource):
    """Published tasks, and other data sets as `DATASET[/CONFIG]`."""

    families = frozenset(
        map(
            task_source.name_family,
            (*catalogue.tasks(), *catalogue.OTHERS),
        )
    )

    def matches(self, name: str) -> bool:
        """Returns True: a name that no other source has may be a data set."""
        del name
        return True

    def has_task(self, name: str, data_dir: str) -> bool:
        """Returns whether a name is published or a data set of TFDS."""
        if catalogue.find(name):
            return True
        from keras_munet.data.tfds import builders

        return builders.exists(name, data_dir)

    def list_tasks(self, data_dir: str) -> list[task_source.ListedTask]:
        """Returns the published tasks, then other data sets."""
        del data_dir
        tasks = []
        for task in catalogue.tasks().values():
            source = catalogue_sources.SOURCES[task.source]
            note = f"{task.num_classes} classes, {task.source}:{source.version}"
            if source.manual_files:
                note += ", needs files by hand"
            tasks.append(
                task_source.ListedTask(task.name, task.benchmark, note)
            )
        other = ("other", "a data set of TFDS")
        tasks += [task_source.ListedTask(n, *other) for n in catalogue.OTHERS]
        return tasks

    def similar_names(self, data_dir: str) -> list[str]:
        """Returns the published tasks and all data sets of TFDS."""
        del data_dir
        from keras_munet.data.tfds import builders

        return [*catalogue.tasks(), *builders.data_set_names()]

    def load_data(
        self, name: str, options: task_source.DataOptions
    ) -> types.TaskData:
        """Returns the data of a task, preparing what `data_dir` lacks."""
        from keras_munet.data.tfds import tasks

        return types.checked(
            tasks.load_task(
                name,
                data_dir=options.data_dir,
                manual_dir=options.manual_dir,
                download=options.download,
                image_size=options.image_size,
            )
        )

    def prepare(self, name: str, options: task_source.DataOptions) -> list[str]:
        """Prepares data sets and array files that are not ready."""
        from keras_munet.data.tfds import tasks

        prepared = tasks.prepare_task(
            name,
            data_dir=options.data_dir,
            manual_dir=options.manual_dir,
            download=options.download,
            progress=options.progress,
            image_size=options.image_size,
        )
        state = f"prepared {', '.join(prepared)}" if prepared else "is prepared"
        return [f"{name}: {state}"]

    def describe(
        self, name: str, options: task_source.DataOptions
    ) -> task_source.Description:
        """Returns what is recorded of a task, without reading its data."""
        from keras_munet.data.tfds import tasks

        described = tasks.describe(name, options.data_dir, options.image_size)
        task = catalogue.find(name)
        rows = [("task", name)]
        if task:
            rows.append(("benchmark", task.benchmark))
        for data_set, prepared in zip(
            described.sources, described.prepared, strict=True
        ):
            state = "prepared" if prepared else "not prepared"
            rows.append(("data set", f"{data_set} of TFDS, {state}"))
        for split, instruction in described.instructions.items():
            count = described.num_examples.get(split)
            number = "unknown until prepared" if count is None else f"{count:,}"
            rows.append((split, f"{instruction}, {number} examples"))
        form = described.form
        if form is None:
            rows.append(("unusable", described.problem))
        else:
            height, width, channels = form.shape
            way = "squares of the whole image" if form.resized else "as is"
            rows += [
                ("classes", f"{len(form.class_names):,}"),
                ("label", form.label),
                ("stored as", f"{height} x {width} x {channels}, {way}"),
            ]
            if described.num_array_bytes:
                state = "" if described.arrays_prepared else "not "
                size = described.num_array_bytes / 2**30
                rows.append(("in files", f"{size:.1f} GiB, {state}prepared"))
        if task:
            source = catalogue_sources.SOURCES[task.source]
            rows.append(("licence", source.licence))
            if source.manual_files:
                rows.append(("by hand", str(source.manual_files)))
        return task_source.Description(
            rows, None if form is None else tuple(form.shape)
        )


SOURCE = _TfdsTasks()
