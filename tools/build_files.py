"""Writes the BUILD files of Bazel from what the sources really import.

    python tools/build_files.py            prints what differs, exit code 1
    python tools/build_files.py --write    writes the files

Invariant: one py_library per package, or per module right below keras_munet;
its deps are the imports that its files have, no more and no less, so that a
circle between packages is one that Bazel refuses.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).resolve().parents[1]
_NAME = "keras_munet"
_PACKAGE = ROOT / _NAME
# What Python itself runs for every import of ours, before anything else.
_BASE = ("__init__", "_deprecated_paths", "_keras_registration", "version")
_LOAD = 'load("@rules_python//python:defs.bzl", {})\n'
_HEAD = "# Written by tools/build_files.py; change that and not this.\n"
# Quick ones of every package that have no TensorFlow, and one that has it.
TESTS = (
    *("core/test_lineage", "core/test_names", "core/test_seeds"),
    *("data/tfds/test_catalogue", "data/test_folders", "report/test_log"),
    *("search/test_baselines", "search/test_evolution", "store/test_merge"),
    *("models/vit/test_architecture", "models/vit/test_variants"),
    "models/test_path_model",
)


def files() -> dict[pathlib.Path, str]:
    """Returns path of each BUILD file -> what it must hold."""
    found = {ROOT / "tests" / "BUILD": _tests()}
    modules, packages = homes()
    for name in packages:
        found[_PACKAGE / name / "BUILD"] = _package(name)
    everything = sorted([_label(name) for name in {*modules, *packages}])
    libraries = [
        _rule(
            "py_library",
            name="base",
            srcs=[f"{name}.py" for name in _BASE],
        )
    ]
    for name in modules:
        path = _PACKAGE / f"{name}.py"
        libraries.append(
            _rule(
                "py_library",
                name=name,
                srcs=[f"{name}.py"],
                deps=_deps([path], name),
            )
        )
    libraries.append(_rule("py_library", name=_NAME, deps=everything))
    found[_PACKAGE / "BUILD"] = _text(["py_library"], libraries)
    return found


def homes() -> tuple[list[str], list[str]]:
    """Returns the modules and the packages right below keras_munet."""
    modules = [p.stem for p in _PACKAGE.glob("*.py") if p.stem not in _BASE]
    packages = [p.parent.name for p in _PACKAGE.glob("*/__init__.py")]
    return sorted(modules), sorted(packages)


def imported(paths: Iterable[pathlib.Path]) -> set[str]:
    """Returns the homes below keras_munet that files import."""
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            else:
                continue
            parts = [name.split(".") for name in names]
            found |= {p[1] for p in parts if p[0] == _NAME and len(p) > 1}
    return found


def _deps(paths: Iterable[pathlib.Path], own: str) -> list[str]:
    found = imported(paths) - {own}
    return sorted({_label("base")} | {_label(name) for name in found})


def _label(name: str) -> str:
    if (_PACKAGE / name / "__init__.py").exists():
        return f"//{_NAME}/{name}"
    known = (_PACKAGE / f"{name}.py").exists() and name not in _BASE
    return f"//{_NAME}:{name}" if known else f"//{_NAME}:base"


def _package(name: str) -> str:
    paths = sorted((_PACKAGE / name).rglob("*.py"))
    options = {}
    data = [
        p
        for p in (_PACKAGE / name).rglob("*")
        if p.is_file() and p.suffix not in (".py", ".pyc", "")
    ]
    if data:
        options["data"] = (
            'glob(["**/*"], exclude = ["**/*.py", "**/*.pyc", "BUILD"])'
        )
    rule = _rule(
        "py_library",
        name=name,
        srcs='glob(["**/*.py"])',
        deps=_deps(paths, name),
        **options,
    )
    return _text(["py_library"], [rule])


def _tests() -> str:
    rules = [
        _rule(
            "py_library",
            name="helpers",
            testonly=True,
            srcs='glob(["*.py", "helpers/*.py"], exclude = ["test_*.py"])',
            data='glob(["goldens/**"])',
            deps=[f"//{_NAME}"],
        )
    ]
    for name in TESTS:
        rules.append(
            _rule(
                "py_test",
                name=name.replace("/", "_"),
                size="medium",
                srcs=["bazel_runner.py", f"{name}.py"],
                args=[f"tests/{name}.py"],
                # Else Bazel makes a package of the folder of tests.
                legacy_create_init=0,
                main="bazel_runner.py",
                deps=[":helpers"],
            )
        )
    return _text(["py_library", "py_test"], rules)


def _text(loaded: list[str], rules: list[str]) -> str:
    names = ", ".join(f'"{name}"' for name in loaded)
    public = 'package(default_visibility = ["//visibility:public"])\n'
    return "\n".join([_HEAD + _LOAD.format(names), public, *rules])


def _rule(kind: str, **options: object) -> str:
    lines = [f"{kind}("]
    for key, value in options.items():
        if isinstance(value, list):
            value = _list(value)
        elif isinstance(value, str) and not value.startswith("glob("):
            value = f'"{value}"'
        lines.append(f"    {key} = {value},")
    return "\n".join([*lines, ")\n"])


def _list(values: list[str]) -> str:
    if len(values) < 2:
        return "[" + "".join(f'"{value}"' for value in values) + "]"
    return "[\n" + "".join(f'        "{v}",\n' for v in values) + "    ]"


def main() -> int:
    """Checks or writes every file; returns the exit code."""
    wanted = files()
    differs = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    stale = {
        p
        for p in _PACKAGE.rglob("BUILD")
        if p not in wanted and re.match(re.escape(_HEAD), p.read_text())
    }
    if "--write" in sys.argv[1:]:
        for path in differs:
            path.write_text(wanted[path], encoding="utf-8")
        for path in stale:
            path.unlink()
        return 0
    for path in [*differs, *stale]:
        print(f"{path.relative_to(ROOT)}: run tools/build_files.py --write")
    return 1 if differs or stale else 0


if __name__ == "__main__":
    sys.exit(main())
