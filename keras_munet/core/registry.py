"""Named classes that a record can ask for: a table, never `globals()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import TypeVar

from keras_munet import errors

_T = TypeVar("_T")


class Registry:
    """Maps a public name to a class or function of one kind."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[_T], _T]:
        """Returns a decorator that registers its target under `name`."""

        def add(target: _T) -> _T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is already registered")
            self._entries[name] = target
            return target

        return add

    def names(self) -> list[str]:
        """Returns the registered names, sorted."""
        return sorted(self._entries)

    def get(self, name: str) -> Any:
        """Returns what is registered as `name`.

        Raises:
          UsageError: nothing is; the message lists what there is.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise errors.UsageError(
                f"unknown {self.kind} {name!r}; there are: "
                f"{', '.join(self.names()) or 'none'}"
            ) from None


LAYERS = Registry("component layer")
