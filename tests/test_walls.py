"""The import walls of the architecture, read from the source."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

_PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_munet"
_TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_datasets"}
# Each package may import those before it, and itself.
_ALLOWED = {
    "errors": set(),
    "version": set(),
    "core": {"errors"},
    "config": {"core"},
    "registration": set(),
    "progress": {"errors", "core", "store"},
    "terminal": {"progress"},
    "tensorboard": {"errors", "core", "data", "search"},
    "__main__": {"version"},
    # Jobs as processes, here and elsewhere: nothing of what they compute.
    "restarts": {"errors"},
    "agents": {"errors", "restarts"},
    "pods": {"errors", "restarts"},
    "search": {"errors", "core"},
    "store": {"errors", "core"},
    "vit": {"errors", "core"},
    "functional": {"errors", "core", "vit"},
    "roots": {"errors", "core", "vit", "functional"},
    "graph": {"errors", "core", "vit", "functional"},
    "data": {"errors", "core"},
    "train": {"errors", "core", "vit", "graph", "data"},
    # Of roots, the reader of .npz files that come from anybody.
    "export": {"errors", "version", "core", "vit", "graph", "data", "roots"},
    "pretraining": {
        *("errors", "core", "vit", "roots", "graph", "data", "train"),
    },
    # A system of its own: it trains networks, not paths, and keeps its state
    # with the store's files.
    "overparam": {"errors", "core", "store", "data", "train"},
    # A system as the search sees it: both need it, neither trains.
    "living": {"search", "store"},
    "report": {"errors", "core", "data", "living", "store", "search"},
    # What a path costs is the ViT's to say.
    "preflight": {"errors", "core", "data", "roots", "search", "vit"},
    "task_data": {"core", "data", "preflight", "store"},
    # What a path or an export answers to a user's own pictures.
    "inference": {"errors", "core", "data", "vit", "export", "preflight"},
    "opened": {
        *("errors", "core", "search", "store", "roots", "data", "train"),
        *("crew", "living", "preflight", "task_data"),
    },
    # What a TPU would be given, lowered and compiled.
    "aot": {"errors", "core", "train", "rehearsal"},
    # What searches and trains before there is a system.
    "rehearsal": {
        *("errors", "core", "vit", "data", "roots", "search", "train"),
    },
    # These are the system: the only place that sees search and training.
    "crew": {"errors", "core", "search", "store", "vit", "data", "train"},
    "twins": {"search", "train"},
    "iteration": {
        *("errors", "core", "search", "store", "data", "train", "progress"),
        *("crew", "twins"),
    },
    "system": {
        *("errors", "core", "search", "store", "roots", "graph", "data"),
        *("train", "export", "progress", "iteration", "living", "preflight"),
        *("opened", "task_data", "inference"),
    },
    # What published paths answer, for a report.
    "predictions": {"core", "vit", "data", "preflight", "report", "system"},
    # Many systems side by side; what a path costs is the ViT's to say.
    "comparison": {
        *("errors", "core", "store", "train", "vit", "report"),
        *("preflight", "progress", "system"),
    },
    "__init__": {
        *("core", "errors", "inference", "progress", "registration"),
        *("system", "version"),
    },
}
_FILES = sorted(_PACKAGE.rglob("*.py"))


def _home(path: pathlib.Path) -> str:
    return path.relative_to(_PACKAGE).parts[0].removesuffix(".py")


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


def test_every_package_stands_in_the_table():
    assert {_home(path) for path in _FILES} == set(_ALLOWED)


@pytest.mark.parametrize(
    "path", _FILES, ids=lambda p: str(p.relative_to(_PACKAGE))
)
def test_a_file_imports_only_what_lies_before_it(path):
    home = _home(path)
    seen = {
        name.split(".")[1]
        for name in _imports(path)
        if name.startswith("keras_munet.")
    }
    assert seen - {home} <= _ALLOWED[home]


@pytest.mark.parametrize("package", ["core", "search", "store", "report"])
def test_records_search_store_and_report_import_no_tensorflow(package):
    for path in (_PACKAGE / package).rglob("*.py"):
        tops = {name.split(".")[0] for name in _imports(path)}
        assert not tops & _TENSORFLOW, path


def test_only_training_touches_tf_distribute():
    own = _PACKAGE / "overparam" / "training.py"
    for path in _FILES:
        if _home(path) != "train" and path != own:
            assert "tf.distribute" not in path.read_text(), path


@pytest.mark.parametrize(
    "module",
    [
        "keras_munet",
        "keras_munet.search.evolution",
        "keras_munet.store.system_dir",
        "keras_munet.report",
        "keras_munet.report.comparison",
        "keras_munet.vit.family",
        "keras_munet.functional.family",
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
