"""Every public name has an example, and every example holds."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import numpy as np
import pytest

import keras_munet
from keras_munet import plugins
from keras_munet.system import first_system


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A system of one task, as the example of `evolve` makes it."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert _failures(first_system.evolve, None) == 0
    return keras_munet.System.open(folder / "runs" / "first")


def _failures(target, system):
    """Runs the examples of a class or function; returns how many failed."""
    module = importlib.import_module(target.__module__)
    names = {
        **vars(module),
        **{"keras_munet": keras_munet, "np": np, "system": system},
    }
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner()
    for test in finder.find(target, target.__name__, module, globs=names):
        runner.run(test)
    assert runner.tries > 0, f"{target.__name__} has no example"
    return runner.failures


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (module, name)
        for module in (keras_munet, plugins)
        for name in module.__all__
        if name not in ("__version__", "evolve")
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_examples_of_a_public_name_hold(
    module, name, system, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert _failures(getattr(module, name), system) == 0


@pytest.mark.parametrize("module", [keras_munet, plugins])
def test_a_public_name_is_one_that_type_checkers_see(module):
    assert sorted(module.__all__) == module.__all__ == dir(module)
    names = {name for name in module.__all__ if name != "__version__"}
    assert names == set(module._HOMES)


def test_records_for_plugins_load_no_tensorflow():
    code = (
        "import sys; from keras_munet import plugins; "
        "plugins.Proposal, plugins.TaskSource, plugins.Quality, plugins.Root; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
