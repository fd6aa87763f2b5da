"""Finds by entry point what other distributions add to the library.

Invariant: a plug-in is imported when its name is used and not before. A
name means one object: within a group no two plug-ins may share it, nor may a
plug-in have the name of something built in.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import os
import sys
import traceback
import types
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

from keras_munet import errors

# Of a message; its end says the most.
_NUM_CHARS_MAX = 300
# Group of entry points -> what one of its plug-ins is called.
GROUPS = {
    "keras_munet.mutations": "mutation",
    "keras_munet.parent_policies": "parent policy",
    "keras_munet.scorers": "scorer",
    "keras_munet.qualities": "quality",
    "keras_munet.roots": "root source",
    "keras_munet.tasks": "task family",
    "keras_munet.adapters": "adapter",
    "keras_munet.layers": "component layer",
    "keras_munet.callbacks": "callback",
    "keras_munet.export_formats": "export format",
}


def import_extra(
    module: str, extra: str, needs: str, otherwise: str = ""
) -> types.ModuleType:
    """Returns a module of an optional dependency.

    Args:
      module: to import; its first part is the package.
      extra: of this distribution, which installs the package.
      needs: who needs it, with the verb, e.g. `format onnx needs`.
      otherwise: what else a user may do, e.g. `leave out the format`.

    Raises:
      UsageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise errors.UsageError(
            f"the package {module.partition('.')[0]} is absent, which {needs}; "
            f"pip install 'keras_munet[{extra}]'"
            f"{f', or {otherwise}' if otherwise else ''}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Plugin:
    """An entry point of an installed distribution.

    Attributes:
      group: a key of `GROUPS`.
      name: what settings and records call it.
      target: `module:attribute`, where it is.
      distribution: name and version of what brought it.
    """

    group: str
    name: str
    target: str
    distribution: str

    def __str__(self) -> str:
        return (
            f"{GROUPS[self.group]} {self.name!r} of plug-in "
            f"{self.distribution} ({self.target})"
        )

    def load(self) -> Any:
        """Imports the plug-in and returns what its entry point names.

        Raises:
          UsageError: it cannot be imported.
        """
        entry = importlib.metadata.EntryPoint(
            self.name, self.target, self.group
        )
        # A foreign module may fail in any way.
        try:
            return entry.load()
        except Exception as error:
            raise errors.UsageError(
                f"{self} cannot be loaded: {type(error).__name__}: "
                f"{' '.join(str(error).split())}; repair or uninstall "
                f"{self.distribution}"
            ) from error


@contextlib.contextmanager
def name_errors(noun: str, name: str) -> Iterator[None]:
    """Names a plug-in in the error that it raises within.

    Args:
      noun: what it is called, see `GROUPS`.
      name: what settings call it.

    Raises:
      UsageError: it failed in a way of its own. This library's errors pass.
    """
    try:
        yield
    except errors.MunetError:
        raise
    # A foreign function may fail in any way.
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise errors.UsageError(
            f"{noun} {name!r} failed: {type(error).__name__}: "
            f"{' '.join(str(error).split())[-_NUM_CHARS_MAX:]} "
            f"({frame.filename}, line {frame.lineno}); fix the plug-in"
        ) from error


def installed_plugins(group: str) -> list[Plugin]:
    """Returns the plug-ins of a group, sorted by name; imports none."""
    plugins = [
        Plugin(
            group,
            entry.name,
            entry.value,
            f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?",
        )
        for entry in _entry_points(_places()).select(group=group)
    ]
    return sorted(plugins, key=lambda p: (p.name, p.distribution))


def _places() -> tuple[tuple[str, int], ...]:
    """Returns where distributions are installed, and when that last changed."""
    places = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            places.append((folder, os.stat(folder or ".").st_mtime_ns))
    return tuple(places)


@functools.lru_cache(maxsize=1)
def _entry_points(
    places: tuple[tuple[str, int], ...],
) -> Any:
    """Returns what all distributions declare; reading it takes 20 ms."""
    del places
    return importlib.metadata.entry_points()


def plugins_by_name(group: str, built_in: Collection[str]) -> dict[str, Plugin]:
    """Returns name -> plug-in of a group.

    Args:
      group: a key of `GROUPS`.
      built_in: names that no plug-in may have.

    Raises:
      UsageError: a name is taken twice.
    """
    plugins = installed_plugins(group)
    counts = collections.Counter(plugin.name for plugin in plugins)
    for plugin in plugins:
        if plugin.name in built_in:
            raise errors.UsageError(
                f"{plugin} has the name of a built-in one; rename it, or "
                f"uninstall {plugin.distribution}"
            )
        if counts[plugin.name] > 1:
            same = [p for p in plugins if p.name == plugin.name]
            raise errors.UsageError(
                f"{same[0]} has the name of {same[1]}; uninstall one of them"
            )
    return {plugin.name: plugin for plugin in plugins}
