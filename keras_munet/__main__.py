"""One command for every launcher: `keras-munet COMMAND ...`.

    keras-munet                        lists the commands
    keras-munet evolve --config=FILE --workdir=DIR
    keras-munet configs                the folder of the published experiments

Invariant: a command is a file of the folder `launch`, run as `python
launch/COMMAND.py` runs it; nothing of it is written twice. `python -m
keras_munet` is the same.
"""

from __future__ import annotations

import ast
import difflib
import os
import pathlib
import runpy
import sys

from keras_munet import version

_CONFIGS = "configs"
_MARK = 'if __name__ == "__main__":'


def main() -> None:
    """Runs the command that was given and exits with its code."""
    folder = installed("launch")
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in ("", "help", "-h", "--help"):
        print(_usage(folder))
    elif command == "--version":
        print(f"keras_munet {version.__version__}")
    elif command == _CONFIGS:
        print(installed(_CONFIGS))
    elif command in commands(folder):
        path = str(folder / f"{command}.py")
        # As Python does for a script: what launchers share lies beside them.
        sys.path.insert(0, str(folder))
        sys.argv = [path, *sys.argv[2:]]
        runpy.run_path(path, run_name="__main__")
    else:
        choices = [*commands(folder), _CONFIGS]
        close = difflib.get_close_matches(command, choices, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        print(
            f"error: {command!a} is no command; {hint}give one of "
            f"{', '.join(choices)}",
            file=sys.stderr,
        )
        sys.exit(2)


def installed(name: str) -> pathlib.Path:
    """Returns a folder of the project: inside the package or beside it.

    A wheel has it inside; a checkout beside, where it is edited.
    """
    package = pathlib.Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def commands(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Returns command -> the first line of its docstring, sorted."""
    summaries = {}
    for path in sorted(pathlib.Path(folder).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if _MARK in text:
            docstring = ast.get_docstring(ast.parse(text)) or ""
            summaries[path.stem] = docstring.partition("\n")[0]
    return summaries


def _usage(folder: pathlib.Path) -> str:
    summaries = {
        **commands(folder),
        _CONFIGS: "Prints the folder of the published experiments.",
    }
    width = max(map(len, summaries))
    lines = [
        f"  {name:<{width}}  {summary}" for name, summary in summaries.items()
    ]
    return "\n".join(
        [
            "usage: keras-munet COMMAND [--flag=value ...]",
            "",
            *lines,
            "",
            "keras-munet COMMAND --help lists a command's flags.",
        ]
    )


if __name__ == "__main__":
    main()
