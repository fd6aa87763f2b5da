"""Names and sentences of the package are those of the field."""

from __future__ import annotations

import ast
import collections
import pathlib
import re
from collections.abc import Iterator

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_FILES = sorted(
    path.relative_to(_ROOT)
    for folder in ("keras_munet", "launch")
    for path in (_ROOT / folder).rglob("*.py")
)
_DOCS = sorted(
    path.relative_to(_ROOT)
    for path in [*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")]
)

# A name says of what: `component`, `missing_tasks`, `layer_signature`.
_BARE_NAMES = re.compile(
    "_*(asked|done|drawn|found|given|gone|held|kept|kind|known|lost|made|others"
    "|place|said|seen|shown|taken|told|wanted|who|whoever)_*"
)
# Arguments that the documentation gives.
_DOCUMENTED = {("keras_munet/overparam/fit.py", "place")}
_FIRST_WORDS = re.compile(
    r"(That|What|Whatever|Where|Whether|Which|Who|Whoever|Whose|Why|How)\b"
)
_DIALECT = re.compile(
    r"\b(nobody|somebody|anybody|whoever|whatever|mend(s|ed|ing)?"
    r"|(is|are|was|were) (asked|told))\b",
    re.IGNORECASE,
)
# Records of what was decided and released are not rewritten.
_DOCS_OF_THEIR_TIME = {"CHANGELOG.md", "docs/decisions.md"}
_MODULES_MAX = 3
# Basenames that several packages share, and why.
_SHARED_BASENAMES = {
    "architecture": "each kind of model has the same files",
    "bucket": "shapes of a program, and Google's storage",
    "commands": "commands of gcloud, and of the launchers",
    "engine": "what all engines share, and the program's",
    "files": "a system on a disk, and in a bucket",
    "initializers": "each kind of model has the same files",
    "layers": "each kind of model has the same files",
    "layout": "of a system, and of a folder of images",
    "losses": "of the method, and of compact networks",
    "page": "each report has one",
    "plugins": "entry points, and the search's contracts for them",
    "reading": "each source of data has one",
    "settings": "of the method, and of experiments with compact networks",
    "sources": "each kind of data has its own",
    "tasks": "each source of data has the same files",
    "validation": "of requests to a system, and to compact networks",
}


def _text(path: pathlib.Path) -> str:
    return (_ROOT / path).read_text(encoding="utf-8")


def _tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(_text(path))


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields every name that a file gives, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store):
                yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def _first_lines(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields what is documented, and the first line of its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text:
                name = getattr(node, "name", "the module")
                yield name, text.partition("\n")[0]


def test_a_name_says_of_what():
    bare = [
        f"{path}:{line}: {name}"
        for path in _FILES
        for name, line in _names(_tree(path))
        if _BARE_NAMES.fullmatch(name) and (str(path), name) not in _DOCUMENTED
    ]
    assert not bare


def test_a_docstring_begins_with_an_active_sentence():
    wrong = [
        f"{path}: {name}: {line}"
        for path in _FILES
        for name, line in _first_lines(_tree(path))
        if _FIRST_WORDS.match(line)
    ]
    assert not wrong


def test_sentences_are_plain_english():
    wrong = [
        f"{path}:{number}: {line}"
        for path in [*_FILES, *_DOCS]
        if str(path) not in _DOCS_OF_THEIR_TIME
        for number, line in enumerate(_text(path).splitlines(), 1)
        if _DIALECT.search(line)
    ]
    assert not wrong


def test_a_one_word_function_stands_for_one_thing():
    modules = collections.defaultdict(list)
    for path in _FILES:
        for node in _tree(path).body:
            name = getattr(node, "name", "main")
            if isinstance(node, ast.FunctionDef) and "_" not in name:
                modules[name].append(str(path))
    del modules["main"]
    assert not {
        name: paths
        for name, paths in modules.items()
        if len(paths) > _MODULES_MAX
    }


def test_two_modules_share_a_basename_only_for_a_reason():
    counts = collections.Counter(
        path.stem for path in _FILES if path.parts[0] == "keras_munet"
    )
    shared = {name for name, count in counts.items() if count > 1}
    assert shared - {"__init__", "base", "types"} == set(_SHARED_BASENAMES)


def test_a_module_is_not_called_like_a_library_that_it_imports():
    for path in _FILES:
        libraries = set()
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Import):
                libraries |= {a.name.partition(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                libraries.add(node.module.partition(".")[0])
        assert path.stem not in libraries, path


@pytest.mark.parametrize(
    ("code", "bare"),
    [
        ("found = 1", ["found"]),
        ("def f(_kind): pass", ["_kind"]),
        ("self._held = {}", ["_held"]),
        ("for place, x in y: pass", ["place"]),
        ("missing_tasks = layer_kind = 1", []),
    ],
)
def test_bare_names_are_seen_wherever_a_name_is_given(code, bare):
    names = [name for name, _ in _names(ast.parse(code))]
    assert [n for n in names if _BARE_NAMES.fullmatch(n)] == bare


@pytest.mark.parametrize(
    "line", ["Nobody waits.", "it is told once", "mend the plug-in"]
)
def test_dialect_is_seen_at_any_place_of_a_line(line):
    assert _DIALECT.search(f"# {line}")
    assert not _DIALECT.search("# an amendment; the caller asks for a retry")
