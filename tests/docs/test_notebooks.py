"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import json
import pathlib

import pytest

_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
_NOTEBOOKS = sorted(_FOLDER.glob("*.ipynb"))


def _name(path: pathlib.Path) -> str:
    return path.name


def test_there_are_three():
    assert len(_NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=_name)
def test_a_notebook_is_kept_without_outputs(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize(
    "path",
    [
        _NOTEBOOKS[0],
        *(pytest.param(p, marks=pytest.mark.slow) for p in _NOTEBOOKS[1:]),
    ],
    ids=_name,
)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs keras_munet[docs]")
    nbformat = pytest.importorskip("nbformat", reason="needs keras_munet[docs]")
    monkeypatch.setenv("MUNET_NOTEBOOKS", str(tmp_path))
    # What the user has set up for notebooks is no part of it.
    for kind in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(kind, str(tmp_path / "own"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=300,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    printed = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    print("".join(printed))
    assert printed
