"""Bazel takes the BUILD files; `test_walls.py` compares them with imports."""

from __future__ import annotations

import pathlib
import runpy
import shutil
import subprocess

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TOOL = runpy.run_path(str(_ROOT / "tools" / "packages.py"))


def test_the_tests_under_bazel_exist_and_one_has_tensorflow():
    for name in _TOOL["TESTS"]:
        assert (_ROOT / "tests" / f"{name}.py").exists()
    assert "models/test_path_model" in _TOOL["TESTS"]


@pytest.mark.slow
def test_everything_builds_and_passes_under_bazel():
    if shutil.which("bazel") is None:
        pytest.skip("there is no bazel; tests/bazel.sh --install gets it")
    done = subprocess.run(
        ["bash", str(_ROOT / "tests" / "bazel.sh")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{len(_TOOL['TESTS'])} tests pass" in done.stdout + done.stderr
