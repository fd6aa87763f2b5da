"""What the documentation has beyond its pages: the API reference, and figures.

Invariant: the site is made of files of the checkout alone, and is not built
while a public name is undocumented (`api.py`).
"""

from __future__ import annotations

import pathlib
import posixpath
import re
import sys

from mkdocs import exceptions
from mkdocs.config import defaults
from mkdocs.structure import files as files_lib
from mkdocs.structure import pages as pages_lib

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import api

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Pages that lie outside docs/, and what they are called in the site.
_ELSEWHERE = {"CHANGELOG.md": "changelog.md", "launch/README.md": "launch.md"}
_FIGURE = re.compile(r"^!\[.+\]\((?P<file>figures/\S+\.svg)\)$")
_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
# The modules of the public names: a page of their own, before the others.
_FRONT = (
    "keras_munet.system.system",
    "keras_munet.core.settings",
    "keras_munet.callbacks.progress",
    "keras_munet.errors",
)


def on_config(config: defaults.MkDocsConfig) -> defaults.MkDocsConfig:
    """Checks the docstrings and puts the API reference in the navigation.

    Raises:
      PluginError: a public name is undocumented.
    """
    package = api.load(_ROOT)
    missing = api.problems(package)
    if missing:
        raise exceptions.PluginError(
            f"{len(missing)} public names are not documented:\n"
            + "\n".join(missing)
        )
    pages: list = ["api/index.md"]
    pages += [{name: _page_of(name)} for name in sorted(api.packages(package))]
    config.nav = [*(config.nav or []), {"API": pages}]
    config.watch.append(str(_ROOT / api.PACKAGE))
    return config


def on_files(
    files: files_lib.Files, config: defaults.MkDocsConfig
) -> files_lib.Files:
    """Adds the pages of the API, those outside docs/, and the notebooks."""
    package = api.load(_ROOT)
    made = {"api/index.md": _front()}
    for name, modules in api.packages(package).items():
        made[_page_of(name)] = _reference(name, modules)
    for source, name in _ELSEWHERE.items():
        if (_ROOT / source).is_file():
            made[name] = (_ROOT / source).read_text(encoding="utf-8")
    for name, content in made.items():
        files.append(files_lib.File.generated(config, name, content=content))
    for notebook in sorted(_ROOT.glob("notebooks/*.ipynb")):
        name = f"notebooks/{notebook.name}"
        files.append(
            files_lib.File.generated(config, name, abs_src_path=str(notebook))
        )
    return files


def on_page_markdown(
    markdown: str,
    page: pages_lib.Page,
    config: defaults.MkDocsConfig,
    files: files_lib.Files,
) -> str:
    """Draws figures in the page's colours and mends links out of docs/."""
    lines = []
    for line in markdown.splitlines():
        figure = _FIGURE.match(line)
        if figure:
            line = _drawn(_ROOT / "docs" / figure["file"])
        lines.append(line)
    here = {v: k for k, v in _ELSEWHERE.items()}.get(
        page.file.src_uri, f"docs/{page.file.src_uri}"
    )

    def mended(link: re.Match[str]) -> str:
        if "://" in link["target"]:
            return link[0]
        target = posixpath.normpath(
            posixpath.join(posixpath.dirname(here), link["target"])
        )
        if target in _ELSEWHERE:
            name = _ELSEWHERE[target]
        elif target == "README.md":
            name = "index.md"
        elif target.startswith("notebooks/") or here in _ELSEWHERE:
            name = target.removeprefix("docs/")
        else:
            return link[0]
        base = posixpath.dirname(page.file.src_uri)
        return f"]({posixpath.relpath(name, base)}{link['anchor'] or ''})"

    return _LINK.sub(mended, "\n".join(lines))


def _page_of(package: str) -> str:
    short = package.removeprefix(f"{api.PACKAGE}.")
    return f"api/{short}.md"


def _front() -> str:
    listed = "\n\n".join(f"::: {name}" for name in _FRONT)
    return (
        "# What most programs need\n\n"
        "These are the names of `keras_munet` itself, imported on first use. "
        "Roots have\nfunctions of their own, "
        "[keras_munet.roots](roots.md); every module is in the\npages beside "
        "this one.\n\n"
        "Images are `[batch, height, width, channels]`; a dtype stands behind "
        "a shape.\nSizes of images are in pixels, times in seconds, memory in "
        'bytes, unless a name\nsays otherwise. "The method" and its sections '
        "are those of the\n[concepts](../concepts.md).\n\n"
        f"{listed}\n"
    )


def _reference(package: str, modules: list[str]) -> str:
    listed = "\n\n".join(f"::: {m}" for m in modules if m not in _FRONT)
    return f"# {package}\n\n{listed}\n"


def _drawn(path: pathlib.Path) -> str:
    """Returns an SVG as a part of the page, whose style sheet colours it."""
    text = path.read_text(encoding="utf-8")
    # Its own colours are for a reader of the file alone.
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    drawn = "".join(part.strip() for part in text.splitlines())
    return f'<div class="figure">{drawn}</div>'
