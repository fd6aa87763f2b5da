"""The import walls of the architecture, read from the source."""

from __future__ import annotations

import ast
import graphlib
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / "keras_munet"
_TOOL = runpy.run_path(str(_ROOT / "tools" / "packages.py"))
_FILES = sorted(_PACKAGE.rglob("*.py"))


def _imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_follows_from_the_table_is_written():
    differs = [
        str(path.relative_to(_ROOT))
        for path, text in _TOOL["files"]().items()
        if not path.exists() or path.read_text() != text
    ]
    assert differs == [], "run python tools/packages.py --write"


def test_every_package_stands_in_the_table():
    names = {path.relative_to(_PACKAGE).parts[0] for path in _FILES}
    base = {"__main__", *_TOOL["_BASE"]}
    assert {name.removesuffix(".py") for name in names} - base == set(
        _TOOL["TABLE"]
    )


@pytest.mark.parametrize("name", sorted(_TOOL["TABLE"]))
def test_the_table_allows_what_a_package_imports_and_no_more(name):
    base = set(_TOOL["_BASE"])
    imports = _TOOL["imported"](name)
    assert imports - base == _TOOL["all_imports"](name) - base


def test_packages_stand_on_floors():
    floors = _TOOL["floors"]()
    assert {name for floor in floors for name in floor} == set(_TOOL["TABLE"])


def test_the_import_contracts_hold():
    pytest.importorskip("importlinter", reason="import-linter is absent")
    lint = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from importlinter.cli import lint_imports_command as lint; lint()",
            *(str(_ROOT / ".importlinter"), "--no-cache"),
        ],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert lint.returncode == 0, lint.stdout[-3000:] + lint.stderr[-3000:]
    assert f"{len(_TOOL['TABLE'])} kept, 0 broken" in lint.stdout


def test_a_private_name_stays_in_its_package():
    for path in _FILES:
        package = ".".join(path.relative_to(_PACKAGE.parent).parent.parts)
        for name in _imports(path):
            head, dot, _ = name.partition("._")
            if head.startswith("keras_munet") and dot and name[-2:] != "__":
                assert head == package, (path, name)


def test_no_files_import_each_other_in_a_circle():
    modules = {
        ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts): path
        for path in _FILES
        if path.stem != "__init__"
    }
    # `import a.b.c` and `from a.b.c import name` both name module a.b.c.
    imported = {
        module: {
            name
            for full in _imports(path)
            for name in (full, full.rpartition(".")[0])
            if name in modules
        }
        for module, path in modules.items()
    }
    try:
        list(graphlib.TopologicalSorter(imported).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_only_training_touches_tf_distribute():
    for path in _FILES:
        if _PACKAGE / "train" not in path.parents:
            assert "tf.distribute" not in path.read_text(), path


@pytest.mark.parametrize(
    "module",
    [
        "keras_munet",
        "keras_munet.search.evolution",
        "keras_munet.store.system_dir",
        "keras_munet.report",
        "keras_munet.compare",
        "keras_munet.models.vit.architecture",
        "keras_munet.models.keras_blocks.architecture",
        "keras_munet.roots.build",
        "keras_munet.overparam.schedule",
        "keras_munet.overparam.factorization",
    ],
)
def test_importing_loads_no_tensorflow(module):
    code = (
        f"import sys, {module}\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
