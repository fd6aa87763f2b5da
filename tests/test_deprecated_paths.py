"""Modules are found at the paths that they had in 0.1, with a warning."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

from keras_munet import _deprecated_paths


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stderr


@pytest.mark.parametrize("old", _deprecated_paths.MOVED)
def test_every_new_path_exists_and_no_old_one_does(old):
    new = f"keras_munet.{_deprecated_paths.MOVED[old]}"
    assert importlib.util.find_spec(new) is not None
    assert _deprecated_paths.new_path(f"keras_munet.{old}") == new
    assert _deprecated_paths.new_path(new) is None


def test_an_old_path_is_the_same_module_and_warns_once():
    said = _run(
        "from keras_munet.search import autotune\n"
        "from keras_munet.search import autotune, hparam_ranges\n"
        "import keras_munet.search.autotune\n"
        "assert autotune is hparam_ranges\n"
        "assert autotune.__spec__.name == 'keras_munet.search.hparam_ranges'\n"
    )
    assert said.count("DeprecationWarning") == 1
    assert (
        "<string>:1: DeprecationWarning: keras_munet.search.autotune is now "
        "keras_munet.search.hparam_ranges; the old path is removed in 0.3"
    ) in said


def test_a_module_below_an_old_package_is_not_loaded_twice():
    said = _run(
        "import sys\n"
        "from keras_munet.vit import shapes\n"
        "import keras_munet.models.vit.shapes as new\n"
        "assert shapes is new\n"
        "import keras_munet.vit.base\n"
        "import keras_munet.models.vit.base as base\n"
        "assert sys.modules['keras_munet.vit.base'] is base\n"
        "from keras_munet.vit import family\n"
        "from keras_munet.models.vit import architecture\n"
        "assert family is architecture\n"
        "from keras_munet.report.comparison import plot\n"
        "from keras_munet.compare import plot as new_plot\n"
        "assert plot is new_plot\n"
    )
    assert "keras_munet.vit is now keras_munet.models.vit;" in said
    assert "keras_munet.vit.base is now keras_munet.models.vit.base;" in said


def test_old_paths_work_as_attributes_of_the_package():
    said = _run(
        "import keras_munet\n"
        "assert keras_munet.vit.family.__name__ == "
        "'keras_munet.models.vit.architecture'\n"
        "assert keras_munet.models.vit.shapes.__name__ == "
        "'keras_munet.models.vit.shapes'\n"
        "from keras_munet.progress import Progress\n"
        "assert Progress is keras_munet.Progress\n"
        "assert keras_munet.system.System is keras_munet.System\n"
    )
    assert "keras_munet.models.vit.shapes;" not in said


@pytest.mark.parametrize("path", _deprecated_paths.RENAMED)
def test_every_old_name_is_the_new_one_with_a_warning(path):
    module = importlib.import_module(f"keras_munet.{path}")
    for old, new in _deprecated_paths.RENAMED[path].items():
        assert old not in vars(module)
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new};"):
            assert getattr(module, old) is vars(module)[new]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_an_old_name_can_be_imported_and_the_warning_gives_the_line():
    said = _run(
        "import keras_munet\n"
        "from keras_munet.vit import family\n"
        "from keras_munet.search.scoring import Facts, ScoreInputs\n"
        "assert Facts is ScoreInputs\n"
    )
    assert "<string>:3: DeprecationWarning: keras_munet.search.scoring" in said


def test_what_never_existed_is_not_found_and_new_paths_warn_of_nothing():
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("keras_munet.models.vit.nothing")
    said = _run(
        "import importlib.util\n"
        "assert importlib.util.find_spec('keras_munet.nothing') is None\n"
        "import keras_munet.models.vit.architecture, keras_munet.compare\n"
    )
    assert "DeprecationWarning" not in said
