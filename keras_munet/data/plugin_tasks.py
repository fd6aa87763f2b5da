"""Tasks of other distributions: one loader per family of names.

Invariant: a family that is built in is never looked for among plug-ins, and
what a plug-in loads is checked like any other data.
"""

from __future__ import annotations

import functools

from keras_munet import errors
from keras_munet.core import plugins
from keras_munet.core import registry
from keras_munet.data import types
from keras_munet.data.builtin import digits
from keras_munet.data.builtin import glyphs
from keras_munet.data.own import store as own_store
from keras_munet.data.tfds import catalogue


@functools.cache
def loaders() -> registry.Registry:
    """Returns family -> `load(task_name) -> TaskData`.

    The family of a task is its name, or what stands before the first slash.
    """
    names = [
        digits.TASK,
        *glyphs.ALPHABETS,
        own_store.FAMILY,
        *catalogue.tasks(),
        *catalogue.OTHERS,
    ]
    return registry.Registry(
        "task family", "keras_munet.tasks", {family(name) for name in names}
    )


def family(task_name: str) -> str:
    """Returns what the first part of a bare task name is."""
    return task_name.partition("/")[0]


def has(task_name: str) -> bool:
    """Returns whether only a plug-in has the family of a task.

    Raises:
      UsageError: two plug-ins share a name, or one has a built-in one.
    """
    registry_ = loaders()
    name = family(task_name)
    return name not in registry_.names() and name in registry_.plugins()


def load_plugin_task(task_name: str) -> types.TaskData:
    """Returns the data of a task that a plug-in `has`.

    Raises:
      UsageError: the plug-in cannot be loaded.
      DataError: what it returns is not the task's data.
    """
    load_task = loaders().get(family(task_name))
    with plugins.name_errors("task family", family(task_name)):
        data = load_task(task_name)
    if not isinstance(data, types.TaskData) or data.name != task_name:
        label = getattr(data, "name", type(data).__name__)
        raise errors.DataError(
            f"the plug-in for task {task_name!r} returned {label!a:.40}; it "
            "must return a TaskData of that name; fix the plug-in"
        )
    return types.checked(data)
