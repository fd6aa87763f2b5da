"""Makes text of others safe to print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from typing import TextIO


def printable(text: str) -> str:
    r"""Returns text whose unprintable characters are escaped, in one line.

    Example:
      >>> printable("cat" + chr(27) + "[2J")
      'cat\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


class PrintableStream:
    """A text stream that escapes what could move a terminal's cursor.

    Lines and tabs stay. Everything else is as the stream has it.

    Args:
      stream: where the text goes.
    """

    def __init__(self, stream: TextIO):
        self.unescaped = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)

    def write(self, text: str) -> int:
        """Writes text with its unprintable characters escaped."""
        if not text.isprintable():
            text = "".join(c if c in "\n\t" else _escaped(c) for c in text)
        return self.unescaped.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts one after the other."""
        for line in lines:
            self.write(line)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return char.encode("unicode_escape", "backslashreplace").decode()
