"""Names the command of a launcher as this installation has it."""

from __future__ import annotations

import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def command(name: str) -> str:
    """Returns what to type to run a launcher.

    A wheel has the launchers inside and one command for all of them; in a
    checkout they lie beside the package.

    Args:
      name: of the launcher, e.g. `evolve`.

    Example:
      >>> command("evolve").startswith(("python launch/", "keras-munet "))
      True
    """
    is_wheel = (_PACKAGE / "launch").is_dir()
    return f"keras-munet {name}" if is_wheel else f"python launch/{name}.py"
