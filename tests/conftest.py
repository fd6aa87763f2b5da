"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import os
import pathlib

import hypothesis
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The TensorFlow for TPUs waits for one that is not there; tests use none.
os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
# Servers of the tests are on this machine, whatever proxy leads out of it.
_OUTSIDE = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
os.environ["no_proxy"] = f"{_OUTSIDE},localhost,127.0.0.1".strip(",")
# Processes that the tests start import helpers, too.
_PATH = [str(pathlib.Path(__file__).resolve().parent / "helpers")]
_PATH += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
os.environ["PYTHONPATH"] = os.pathsep.join(_PATH)
# The same examples in every run, however slow the machine is.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

_TESTS = pathlib.Path(__file__).resolve().parent
# Their tests take the longest. Last, one of them would run alone.
_FIRST = ("train", "system", "export", "launch", "overparam", "docs")


def pytest_collection_finish() -> None:
    """Takes what the imports made out of every later collection."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the packages first whose tests take the longest."""

    def rank(item: pytest.Item) -> int:
        parents = item.path.parents
        package = next((p.name for p in parents if p.parent == _TESTS), "")
        return _FIRST.index(package) if package in _FIRST else len(_FIRST)

    items.sort(key=rank)


def _shared_dir() -> pathlib.Path:
    named = os.environ.get("KERAS_MUNET_SHARED")
    if named:
        return pathlib.Path(named)
    return pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder of real data, weights and goldens beside the project."""
    folder = _shared_dir()
    if not (folder / "design").is_dir():
        pytest.skip(f"{folder} is absent; set KERAS_MUNET_SHARED to have it")
    return folder


@pytest.fixture
def bucket(monkeypatch):
    """A bucket service in this process, which the real client talks to."""
    pytest.importorskip("google.cloud.storage", reason="needs keras_munet[gcs]")
    import gcs_server

    with gcs_server.serving() as (url, served):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield served
