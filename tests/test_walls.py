"""The import walls of the architecture, read from the source."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

_PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_munet"
_TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_datasets"}
# Each part may import those before it, and itself; the longest name that fits a
# file is its part.
_ALLOWED = {
    "errors": set(),
    "version": set(),
    "core": {"errors"},
    "config": {"core"},
    "_deprecated_paths": set(),
    "_keras_registration": set(),
    "__main__": {"version"},
    # Jobs as processes, here and elsewhere: nothing of what they compute.
    "jobs": set(),
    "jobs.supervisor": {"errors"},
    "jobs.agents": {"errors", "jobs.supervisor"},
    "jobs.tpu_pod": {"errors", "jobs.supervisor"},
    "search": {"errors", "core"},
    "store": {"errors", "core"},
    "models.vit": {"errors", "core"},
    "models.keras_blocks": {"errors", "core", "models.vit"},
    "models": {"errors", "core", "models.vit", "models.keras_blocks"},
    "data": {"errors", "core"},
    "callbacks": {"errors", "core", "search", "store", "data"},
    "roots": {
        *("errors", "core", "models.vit", "models.keras_blocks", "data"),
    },
    "roots.pretraining": {
        *("errors", "core", "models.vit", "roots", "models", "data"),
        "train",
    },
    "train": {"errors", "core", "models.vit", "models", "data"},
    "export": {"errors", "version", "core", "models.vit", "models", "data"},
    # A system of its own: it trains networks, not paths, and keeps its state
    # with the store's files.
    "overparam": {"errors", "core", "store", "data", "train"},
    # A system as the search sees it: both need it, neither trains.
    "system.population_view": {"search", "store"},
    # What a path costs is the ViT's to say.
    "system.validation": {
        *("errors", "core", "data", "roots", "search", "models.vit"),
    },
    "system.task_data": {"core", "data", "system.validation", "store"},
    # What a path or an export answers to a user's own pictures.
    "system.picture_inputs": {"errors", "core", "data"},
    "system.inference": {
        *("errors", "core", "data", "models.vit", "export"),
        *("system.picture_inputs", "system.validation"),
    },
    # These are the system: the only place that sees search and training.
    "system.executor": {
        *("errors", "core", "search", "store", "models.vit", "data", "train"),
    },
    "system.duplicates": {"search", "train"},
    "system.task_iteration": {
        *("errors", "core", "search", "store", "data", "train"),
        *("callbacks", "system.executor", "system.duplicates"),
    },
    "system.task_runner": {
        *("errors", "core", "search", "store", "data", "callbacks"),
        *("system.executor", "system.population_view", "system.task_data"),
        *("system.task_iteration", "system.validation"),
    },
    "system.records": {"core", "search", "store"},
    "system.first_system": {
        *("errors", "core", "config", "callbacks", "system.system"),
    },
    "system.system": {
        *("errors", "core", "search", "store", "roots", "models", "data"),
        *("export", "callbacks"),
        *("system.executor", "system.inference", "system.population_view"),
        *("system.records", "system.task_data", "system.task_iteration"),
        *("system.task_runner", "system.validation"),
    },
    "system": {"system.system"},
    "report": {
        *("errors", "core", "data", "system.population_view", "store"),
        "search",
    },
    # What published paths answer, for a report.
    "report.measure_predictions": {
        *("core", "models.vit", "data", "system.validation", "report"),
        "system.system",
    },
    # What a TPU would be given, lowered and compiled.
    "aot": {"errors", "core", "train", "aot.tracing"},
    # What searches and trains before there is a system.
    "aot.tracing": {
        *("errors", "core", "models.vit", "data", "roots", "search", "train"),
    },
    # Many systems side by side: the pages, which read what the runs wrote.
    "compare": {"errors", "core", "store", "report"},
    # What a path costs is the ViT's to say.
    "compare.methods": {"errors", "core", "system.validation"},
    "compare.results": {
        *("errors", "core", "store", "train", "models.vit", "report"),
        "system.system",
    },
    "compare.runs": {
        *("errors", "core", "store", "report", "callbacks"),
        *("system.system", "system.validation"),
        *("compare", "compare.methods", "compare.results"),
    },
    # What a plug-in may import, by name.
    "plugins": {
        *("callbacks", "core", "data", "export", "models.vit", "roots"),
        "search",
    },
    "__init__": {
        *("core", "errors", "system.inference", "callbacks"),
        *("system.first_system", "system.records"),
        *("_deprecated_paths", "_keras_registration"),
        *("system.system", "version"),
    },
}
# Packages stand on floors; each imports lower floors alone.
_FLOORS = (
    {"errors", "version", "_deprecated_paths", "_keras_registration"},
    {"core", "__main__"},
    {"config", "search", "store", "data", "models", "jobs"},
    {"train", "export", "callbacks"},
    {"roots"},
    {"system", "overparam"},
    {"report", "aot", "__init__", "plugins"},
    {"compare"},
)
# Of packages that import none otherwise.
_PARTS_WITH_TENSORFLOW = {"report.measure_predictions"}
_FILES = sorted(_PACKAGE.rglob("*.py"))


def _part(name: str) -> str:
    """The part that a module, named below keras_munet, belongs to."""
    words = name.split(".")
    for num in range(len(words), 0, -1):
        if ".".join(words[:num]) in _ALLOWED:
            return ".".join(words[:num])
    return words[0]


def _home(path: pathlib.Path) -> str:
    name = ".".join(path.relative_to(_PACKAGE).with_suffix("").parts)
    return _part(name.removesuffix(".__init__"))


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


def _imported_parts(path: pathlib.Path) -> set[str]:
    return {
        _part(name.removeprefix("keras_munet."))
        for name in _imports(path)
        if name.startswith("keras_munet.")
    }


def test_every_part_stands_in_the_table():
    assert {_home(path) for path in _FILES} == set(_ALLOWED)


@pytest.mark.parametrize(
    "path", _FILES, ids=lambda p: str(p.relative_to(_PACKAGE))
)
def test_a_file_imports_only_what_lies_before_it(path):
    home = _home(path)
    assert _imported_parts(path) - {home} <= _ALLOWED[home]


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


def test_the_table_allows_imports_of_lower_floors_alone():
    floors = {name: i for i, floor in enumerate(_FLOORS) for name in floor}
    assert set(floors) == {part.partition(".")[0] for part in _ALLOWED}
    for part, allowed in _ALLOWED.items():
        package = part.partition(".")[0]
        for other in {name.partition(".")[0] for name in allowed} - {package}:
            assert floors[other] < floors[package], (part, other)


@pytest.mark.parametrize(
    "package", ["core", "search", "store", "jobs", "report", "compare"]
)
def test_what_needs_no_tensorflow_does_not_import_it(package):
    for path in (_PACKAGE / package).rglob("*.py"):
        if _home(path) in _PARTS_WITH_TENSORFLOW:
            continue
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
