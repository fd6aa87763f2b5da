"""Named objects that a record or setting can ask for; never `globals()`.

Invariant: what is built in is found without looking at what is installed;
only another name makes a registry with a group of entry points look there.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from keras_munet import errors
from keras_munet.core import plugins

_T = TypeVar("_T")


class Registry:
    """Maps a public name to a class, function or object of one kind."""

    def __init__(
        self,
        noun: str,
        group: str = "",
        reserved: Iterable[str] = (),
        builtin: Mapping[str, str] | None = None,
    ):
        """Makes an empty table.

        Args:
          noun: what an entry is called in messages.
          group: entry points that other distributions add entries by, a key
            of `plugins.GROUPS`; empty for none.
          reserved: built-in names that are found elsewhere.
          builtin: name -> `module:attribute`, imported when it is first
            needed, as an entry point is.
        """
        self.noun = noun
        self.group = group
        self._reserved = tuple(reserved)
        self._builtin = dict(builtin or {})
        self._entries: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[_T], _T]:
        """Returns a decorator that registers its target under `name`."""

        def add(target: _T) -> _T:
            if name in self._entries:
                raise ValueError(f"{self.noun} {name!r} is already registered")
            self._entries[name] = target
            return target

        return add

    def names(self) -> list[str]:
        """Returns the names of what is built in, sorted."""
        return sorted({*self._entries, *self._reserved, *self._builtin})

    def plugins(self) -> dict[str, plugins.Plugin]:
        """Returns name -> what other distributions add; loads nothing.

        Raises:
          UsageError: a name is taken twice.
        """
        if not self.group:
            return {}
        return plugins.plugins_by_name(self.group, self.names())

    def get(self, name: str, key: str = "") -> Any:
        """Returns what is registered as `name`, loading a plug-in for it.

        Args:
          name: of the entry.
          key: the config key that has the name, for messages.

        Raises:
          UsageError: nothing is, and the message lists what there is; or its
            plug-in cannot be loaded.
        """
        for table in (self._entries, self._loaded):
            if name in table:
                return table[name]
        if name in self._builtin:
            target = self._builtin[name]
            entry = importlib.metadata.EntryPoint(name, target, self.group)
            self._loaded[name] = entry.load()
            return self._loaded[name]
        plugin_table = self.plugins()
        if name not in plugin_table:
            label = f"config key {key} is {name!r}" if key else repr(name)
            choices = ", ".join([*self.names(), *plugin_table]) or "none"
            raise errors.UsageError(
                f"{label}, which is no known {self.noun}; there are: {choices}"
                if key
                else f"unknown {self.noun} {name!r}; there are: {choices}"
            )
        self._loaded[name] = plugin_table[name].load()
        return self._loaded[name]


LAYERS = Registry("component layer", "keras_munet.layers")
