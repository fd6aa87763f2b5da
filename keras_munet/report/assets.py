"""The page's own scripts and style, as they are installed with the package.

Invariant: the script of a page is these files one after another in one scope,
in the order of `_SCRIPTS`; nothing of a system is part of it.
"""

from __future__ import annotations

import functools
import importlib.resources

_SCRIPTS = (
    "basics.js",
    "table.js",
    "charts.js",
    "model.js",
    "details.js",
    "confusion.js",
    "branches.js",
    "tree.js",
    "progress.js",
    "sharing.js",
    "parameters.js",
    "timing.js",
    "samples.js",
    "page.js",
)


@functools.cache
def script() -> str:
    """Returns the page's script."""
    body = "\n".join(map(_read, _SCRIPTS))
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


@functools.cache
def css() -> str:
    """Returns the rules that the page adds to `style.CSS`."""
    return _read("page.css")


def _read(name: str) -> str:
    folder = importlib.resources.files("keras_munet.report") / "assets"
    return (folder / name).read_text(encoding="utf-8")
