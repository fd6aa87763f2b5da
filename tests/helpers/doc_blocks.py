"""The blocks of code in the project's pages, in order.

Invariant: a block of Python or Bash is run by the tests, or its page says in a
comment above it why not: `<!-- not run: REASON -->`. A block below
`<!-- file: NAME -->` is written to that file before.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What is run, and what is only shown.
RUN = ("bash", "python")
SHOWN = ("", "bibtex", "json", "text", "toml", "yaml")
_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>\w*)[^\n`]*$")
_MARKER = re.compile(r"^<!-- (?P<kind>not run|file): (?P<value>.+?) -->$")
_INSTALLS = re.compile(r"pip install|quickstart\.sh|tests/run\.sh")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
      page: path below the repository, with `/`.
      line: of its first line of code, from 1.
      language: the word behind the fence; empty without one.
      code: what stands between the fences.
      reason: why it is not run; empty if it is.
      file: the file that it is written to; empty for none.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str = ""
    file: str = ""

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.language in RUN and not self.reason

    @property
    def installs(self) -> bool:
        """Whether it would change the environment that the tests run in."""
        return self.language == "bash" and bool(_INSTALLS.search(self.code))


def pages() -> list[str]:
    """Returns the pages that hold code, sorted."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    found += sorted(ROOT.glob("*/README.md"))
    return [page.relative_to(ROOT).as_posix() for page in found]


def of(page: str) -> list[Block]:
    """Returns the blocks of a page, in order.

    Raises:
      ValueError: a fence is not closed, or a marker stands above no block.
    """
    found: list[Block] = []
    fence = language = ""
    first, code = 0, []
    marks: dict[str, str] = {}
    text = (ROOT / page).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            if line.rstrip() == fence:
                body = "".join(f"{part}\n" for part in code)
                reason = marks.get("not run", "")
                file = marks.get("file", "")
                found.append(Block(page, first, language, body, reason, file))
                fence, marks = "", {}
            else:
                code.append(line)
            continue
        opened, marked = _FENCE.match(line), _MARKER.match(line)
        if opened:
            fence, language = opened["ticks"], opened["language"]
            first, code = number + 1, []
        elif marked:
            marks[marked["kind"]] = marked["value"]
        elif line.strip() and marks:
            raise ValueError(f"{page}:{number}: a marker without a block")
    if fence or marks:
        raise ValueError(f"{page}: ends inside a block or after a marker")
    return found
