"""Holds the one table of packages; writes what follows from it.

    python tools/packages.py            prints what differs, exit code 1
    python tools/packages.py --write    writes the files

From the table follow the BUILD files of Bazel, the import contracts in
`.importlinter`, and the map in `docs/map.md`. A new import between packages
is one word in the table; `tests/test_walls.py` compares it with the sources.

Invariant: a package imports others of its row and no more; rows form floors,
so there is no circle.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
_NAME = "keras_munet"
_PACKAGE = ROOT / _NAME


class Row(NamedTuple):
    """A package, or a module right below keras_munet.

    Attributes:
      imports: the others that it imports, in words.
      decides: what is decided there, for the map.
      begin: the files that a reader opens first.
      has_tensorflow: whether it may import TensorFlow and Keras.
    """

    imports: str
    decides: str
    begin: str = ""
    has_tensorflow: bool = True


TABLE = {
    "errors": Row("", "the kinds of failure", has_tensorflow=False),
    "core": Row(
        "errors",
        "records, settings, seeds, names, registries",
        "specs.py settings.py registry.py",
        has_tensorflow=False,
    ),
    "config": Row("core", "the default experiment", has_tensorflow=False),
    "search": Row(
        "core errors",
        "which child comes next",
        "evolution.py child_factory.py",
        has_tensorflow=False,
    ),
    "store": Row(
        "core errors",
        "the folder: objects, records, locks, leases, repair; `gcs/`",
        "system_dir.py layout.py",
        has_tensorflow=False,
    ),
    "jobs": Row(
        "errors",
        "processes: restarts, agents, `tpu_pod/`",
        "supervisor.py",
        has_tensorflow=False,
    ),
    "data": Row(
        "core errors",
        "tasks, their splits, what feeds a step; `own/`, `tfds/`, `builtin/`",
        "tasks.py task_source.py",
    ),
    "models": Row(
        "core errors",
        "layers, and which of them a path needs: `vit/`, `keras_blocks/`; any "
        "set of paths as one Keras graph",
        "path_model.py",
    ),
    "train": Row(
        "core data errors models",
        "the steps of a generation, snapshots, memory; `layerwise/` on CPUs; "
        "`devices/`, `distributed/`",
        "trainer.py",
    ),
    "callbacks": Row(
        "core data errors search store",
        "what a person or program sees of a job",
        "callback.py progress.py",
    ),
    "export": Row(
        "core data errors models version",
        "one SavedModel and what serves it",
        "saved_model.py formats.py",
    ),
    "roots": Row(
        "core data errors models",
        "first components: files, hubs, any Keras model; `pretraining/` makes "
        "the packaged one",
        "build.py root.py",
    ),
    "plugins": Row(
        "callbacks core data export models roots search",
        "what a plug-in may import",
    ),
    "overparam": Row(
        "core data errors store",
        "compact networks trained as products; `experiments/` has the "
        "published ones",
        "model_transform.py alternating_model.py",
    ),
    "system": Row(
        "callbacks config core data errors export models roots search store "
        "train",
        "the facade: create, open, evolve, model, predict, export; the only "
        "package that sees both search and training",
        "system.py task_runner.py task_iteration.py",
    ),
    "aot": Row(
        "core data errors models roots search train",
        "what a TPU would be given, compiled without one",
        "dry_run.py",
    ),
    "report": Row(
        "core data errors models search store system",
        "pages and tables of one system",
        "summary.py page.py",
        has_tensorflow=False,
    ),
    "compare": Row(
        "callbacks core errors models report store system train",
        "one experiment by several methods: runs, statistics, pages",
        "runs.py",
        has_tensorflow=False,
    ),
}
# Below a package, and allowed more than the rest of it.
_EXCEPTIONS = {
    # Trains the packaged root.
    "roots.pretraining": "train",
    # Answers of published paths, which needs their models.
    "report.measure_predictions": "tensorflow keras",
}
_TENSORFLOW = ("tensorflow", "keras", "tf_keras", "tensorflow_datasets")
# What Python itself runs for every import of ours, before anything else.
_BASE = ("__init__", "_deprecated_paths", "_keras_registration", "version")
_LOAD = 'load("@rules_python//python:defs.bzl", {})\n'
_HEAD = "# Written by tools/packages.py; change that and not this.\n"
_MAP = re.compile("(<!-- packages -->\n).*?(\n<!-- end -->)", re.DOTALL)
# Quick ones of every package that have no TensorFlow, and one that has it.
TESTS = (
    *("core/test_lineage", "core/test_names", "core/test_seeds"),
    *("data/tfds/test_catalogue", "data/test_folders", "report/test_log"),
    *("search/test_baselines", "search/test_evolution", "store/test_merge"),
    *("models/vit/test_architecture", "models/vit/test_variants"),
    "models/test_path_model",
)


def files() -> dict[pathlib.Path, str]:
    """Returns path of each written file -> what it must hold."""
    map_path = ROOT / "docs" / "map.md"
    written = {
        ROOT / "tests" / "BUILD": _tests(),
        ROOT / ".importlinter": _contracts(),
        map_path: _MAP.sub(
            lambda match: match[1] + _map() + match[2],
            map_path.read_text(encoding="utf-8"),
        ),
    }
    libraries = [
        _rule("py_library", name="base", srcs=[f"{name}.py" for name in _BASE])
    ]
    for name in sorted({"__main__", *TABLE}):
        if (_PACKAGE / name).is_dir():
            written[_PACKAGE / name / "BUILD"] = _package(name)
        else:
            libraries.append(
                _rule(
                    "py_library",
                    name=name,
                    srcs=[f"{name}.py"],
                    deps=_deps(name),
                )
            )
    everything = sorted(_label(name) for name in {"__main__", *TABLE})
    libraries.append(_rule("py_library", name=_NAME, deps=everything))
    written[_PACKAGE / "BUILD"] = _text(["py_library"], libraries)
    return written


def floors() -> list[list[str]]:
    """Returns the packages of each floor, the lowest first.

    A package stands one above the highest that it imports.

    Raises:
      RecursionError: packages import each other in a circle.
    """

    @functools.cache
    def floor(name: str) -> int:
        others = all_imports(name) & set(TABLE)
        return max((floor(other) + 1 for other in others), default=0)

    by_floor: list[list[str]] = [[] for _ in range(max(map(floor, TABLE)) + 1)]
    for name in TABLE:
        by_floor[floor(name)].append(name)
    return by_floor


def all_imports(name: str) -> set[str]:
    """Returns what a package may import, with its exceptions."""
    extra = {
        word
        for part, words in _EXCEPTIONS.items()
        if part.startswith(f"{name}.")
        for word in words.split()
        if word in TABLE
    }
    return {*TABLE[name].imports.split(), *extra}


def imported(name: str) -> set[str]:
    """Returns the rows, and parts of the base, that a row's files import."""
    path = _PACKAGE / name
    paths = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return _imported_homes(paths) - {name}


def _imported_homes(paths: Iterable[pathlib.Path]) -> set[str]:
    homes: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            else:
                continue
            parts = [name.split(".") for name in names]
            homes |= {p[1] for p in parts if p[0] == _NAME and len(p) > 1}
    return homes


def _contracts() -> str:
    """Returns the configuration of import-linter."""
    lines = [
        _HEAD,
        "[importlinter]",
        f"root_package = {_NAME}",
        "include_external_packages = True",
    ]
    for name, row in TABLE.items():
        forbidden = [
            f"{_NAME}.{other}"
            for other in TABLE
            if other != name and other not in row.imports.split()
        ]
        if not row.has_tensorflow:
            forbidden += _TENSORFLOW
        lines += [
            "",
            f"[importlinter:contract:{name}]",
            f"name = {name} imports {row.imports or 'nothing'}",
            "type = forbidden",
            "allow_indirect_imports = True",
            "unmatched_ignore_imports_alerting = none",
            f"source_modules = {_NAME}.{name}",
            "forbidden_modules =",
            *(f"    {module}" for module in forbidden),
            "ignore_imports =",
            *(
                f"    {importer} -> {target}"
                for part, words in _EXCEPTIONS.items()
                if part.startswith(f"{name}.")
                for importer in _with_inner(f"{_NAME}.{part}")
                for word in words.split()
                for target in (
                    _with_inner(f"{_NAME}.{word}") if word in TABLE else [word]
                )
            ),
        ]
    return "\n".join([*lines, ""])


def _with_inner(module: str) -> list[str]:
    return [module, f"{module}.**"]


def _map() -> str:
    """Returns the floors, the highest first, and a table of packages."""
    lines = ["```text"]
    for number, names in reversed(list(enumerate(floors()))):
        lines.append(f"floor {number}   {'   '.join(sorted(names))}")
    lines += ["```", "", "| where | what it decides | begin with | imports |"]
    lines.append("|---|---|---|---|")
    for name in reversed(TABLE):
        row = TABLE[name]
        where = name + ("/" if (_PACKAGE / name).is_dir() else ".py")
        begin = ", ".join(f"`{file}`" for file in row.begin.split())
        imports = " ".join(sorted(all_imports(name)))
        lines.append(f"| `{where}` | {row.decides} | {begin} | {imports} |")
    return "\n".join(lines)


def _deps(name: str) -> list[str]:
    others = all_imports(name) if name in TABLE else imported(name)
    return sorted({_label("base"), *map(_label, others)})


def _label(name: str) -> str:
    if (_PACKAGE / name / "__init__.py").exists():
        return f"//{_NAME}/{name}"
    known = (_PACKAGE / f"{name}.py").exists() and name not in _BASE
    return f"//{_NAME}:{name}" if known else f"//{_NAME}:base"


def _package(name: str) -> str:
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
        deps=_deps(name),
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
        print(f"{path.relative_to(ROOT)}: run tools/packages.py --write")
    return 1 if differs or stale else 0


if __name__ == "__main__":
    sys.exit(main())
