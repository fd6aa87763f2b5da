"""Makes text of others safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Returns text whose unprintable characters are escaped, in one line.

    Example:
      >>> printable("cat" + chr(27) + "[2J")
      'cat\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable()
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )
