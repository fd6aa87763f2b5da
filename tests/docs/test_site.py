"""The documentation builds, is complete, and asks the network for nothing."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a browser fetches by itself, unlike a link that somebody clicks.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//"
    r"|@import|url\(\s*[\"']?(?:https?:)?//"
)


@pytest.fixture(scope="module")
def api():
    """The module that says what must be documented."""
    pytest.importorskip("griffe", reason="needs keras_munet[docs]")
    spec = importlib.util.spec_from_file_location(
        "docs_api", _ROOT / "docs/hooks/api.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_documented(api):
    assert api.problems(api.load(_ROOT)) == []


def test_every_module_has_a_page(api):
    listed = [m for ms in api.packages(api.load(_ROOT)).values() for m in ms]
    assert len(listed) == len(set(listed))
    for path in (_ROOT / "keras_munet").rglob("*.py"):
        if path.name.startswith("_") and path.name != "__init__.py":
            continue
        module = path.relative_to(_ROOT).with_suffix("")
        name = ".".join(module.parts).removesuffix(".__init__")
        assert name in listed


@pytest.mark.parametrize(
    "code, problem",
    [
        ("def f() -> int: ...", "has no docstring"),
        ('class A:\n    """A."""\n    def f(self) -> int: ...', "no docstring"),
        ('def f():\n    """Returns 1."""', "what it returns"),
        ('def f(x) -> int:\n    """Returns 1."""', "no type for x"),
        (
            'def f(x: int, y: int) -> int:\n    """Returns 1.\n\n'
            '    Args:\n      x: one.\n    """',
            "what y is",
        ),
        (
            'def f(x: int) -> int:\n    """Returns 1.\n\n'
            '    Args:\n      x: one.\n      z: two.\n    """',
            "tells of z",
        ),
        (
            'def f() -> int:\n    """Returns 1."""\n    raise ValueError("x")',
            "raises ValueError",
        ),
        (
            'import dataclasses\n@dataclasses.dataclass\nclass A:\n    """A."""'
            "\n    x: int",
            "its attribute x",
        ),
    ],
)
def test_what_is_undocumented_is_named(api, code, problem, tmp_path):
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "__init__.py").write_text(f'"""A."""\n{code}\n')
    (found,) = api.problems(api.load(tmp_path, "sample"))
    assert problem in found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built documentation."""
    pytest.importorskip("material", reason="needs keras_munet[docs]")
    pytest.importorskip("mkdocstrings", reason="needs keras_munet[docs]")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
        cwd=_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_it_builds_without_a_warning_and_has_the_public_names(site):
    front = (site / "api" / "index.html").read_text()
    for name in ("System.evolve", "Settings.from_dict", "UsageError"):
        assert name in front
    assert 'class="fig"' in (site / "concepts" / "index.html").read_text()


@pytest.mark.slow
def test_its_pages_fetch_nothing_from_the_network(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    for page in pages:
        found = _FETCHED.search(page.read_text())
        assert found is None, f"{page.relative_to(site)}: {found[0]}"


def test_no_page_stands_twice_in_the_navigation():
    config = (_ROOT / "mkdocs.yml").read_text()
    pages = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", config, re.M)
    assert len(pages) > 20
    assert len(pages) == len(set(pages))
