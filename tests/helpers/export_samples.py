"""Systems with published tasks that nothing had to be trained for."""

from __future__ import annotations

import pathlib

import keras_munet
from keras_munet.core import classification_metrics
from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import tasks
from keras_munet.roots import root as root_lib
from keras_munet.store import system_dir
from keras_munet.store import task_state

# What a task has of its own, if nothing else is said.
OWN = ("encoder_norm", "head")
_EMBEDDED = tasks.embedded_names()


def system(
    workdir: str | pathlib.Path,
    num_classes: dict[str, int],
    *,
    own: dict[str, tuple[str, ...]] | None = None,
    variant: str = "mu",
    num_layers: int = 2,
    image_size: int = 16,
) -> keras_munet.System:
    """Returns a new system of tasks on one root.

    Args:
      workdir: where it lives; absent or empty.
      num_classes: by task.
      own: by task, the places of the components that no other task has.
      variant: the root's ViT.
      num_layers: of the root.
      image_size: of the root, pixels.
    """
    root = root_lib.random(
        variant, num_layers=num_layers, image_size=image_size
    )
    settings = settings_lib.Settings.from_dict({})
    keras_munet.System.create(workdir, settings, root)
    for task, count in num_classes.items():
        publish(workdir, root, task, count, (own or {}).get(task, OWN))
    return keras_munet.System.open(workdir)


def stand_in(
    num_tasks: int,
    *,
    variant: str = "mu",
    num_layers: int = 1,
    image_size: int = 16,
) -> tuple[dict[str, task_state.TaskState], dict[str, specs.Component]]:
    """Returns published tasks without a system, and components by their ids.

    Tasks have 4 to 6 classes, a norm and a head of their own.

    Args:
      num_tasks: how many.
      variant: the root's ViT.
      num_layers: of the root.
      image_size: of the root, pixels.
    """
    root = root_lib.random(
        variant, num_layers=num_layers, image_size=image_size
    )
    components: dict[str, specs.Component] = {}
    hparams = {**settings_lib.Settings.from_dict({}).hparams, **root.hparams}
    states = {}
    for number in range(num_tasks):
        task, num_classes = f"task/{number}", 4 + number % 3
        refs = []
        for spec in root.family.layout(hparams, num_classes):
            own = spec.name in OWN
            ref_id = f"{task if own else 'root'} {spec.name}"
            if ref_id not in components:
                rng = seeds.generator(0, ref_id)
                components[ref_id] = specs.Component(
                    spec,
                    {
                        name: rng.normal(0, 0.1, shape).astype("f4")
                        for name, shape in spec.weights
                    },
                )
            refs.append(
                specs.ComponentRef(
                    spec.name, ref_id, spec.spec_id, spec.num_params
                )
            )
        path = specs.PathRecord(
            task=task,
            parent=None,
            created_in=(number, 0, 0),
            hparams=hparams,
            components=tuple(refs),
            metrics={"test_quality": 0.25},
        )
        states[task] = task_state.TaskState(
            task=task,
            private=False,
            num_classes=num_classes,
            class_names=_class_names(task, num_classes),
            num_iterations_done=1,
            published=path,
        )
    return states, components


def publish(
    workdir: str | pathlib.Path,
    root: root_lib.Root,
    task: str,
    num_classes: int,
    own: tuple[str, ...] = OWN,
) -> None:
    """Publishes a task whose own components have random values."""
    directory = system_dir.SystemDir.open(workdir)
    origin = directory.root
    layout = root.family.layout(origin.hparams, num_classes)
    components = []
    for spec, shared in zip(layout, origin.components, strict=True):
        if spec.name not in own:
            components.append(shared)
            continue
        rng = seeds.generator(0, task, spec.name)
        fresh = root.family.initial(spec, rng)
        # A new head is zero; give it values that can differ.
        weights = {
            name: value + rng.normal(0, 0.1, value.shape).astype("f4")
            for name, value in fresh.weights.items()
        }
        made = specs.Component(spec, weights)
        components.append(directory.objects.put(made))
    path = specs.PathRecord(
        task=task,
        parent=origin.id,
        created_in=(len(directory.tasks()), 0, 0),
        hparams=origin.hparams,
        components=tuple(components),
        metrics={"quality": 0.5, "score": 0.5, "test_quality": 0.25},
    )
    directory.publish(
        task_state.TaskState(
            task=task,
            private=False,
            num_classes=num_classes,
            class_names=_class_names(task, num_classes),
            num_iterations_done=1,
            published=path,
            test_metrics=classification_metrics.ClassificationMetrics(
                num_classes=num_classes,
                confusion=((0, 0, 1), (1, 0, 3)),
                log_loss=1.5,
                temperature=2.5,
            ),
        )
    )


def _class_names(task: str, num_classes: int) -> tuple[str, ...]:
    """Returns those of a task's data where the package has them."""
    names = tasks.load(task).class_names if task in _EMBEDDED else ()
    if len(names) == num_classes:
        return names
    return tuple(f"class {i}" for i in range(num_classes))
