"""The frame of a page and small pieces of HTML: cells and tables.

Invariant: `esc` is the only way from a text of a system into the page; what
the other functions take is markup already.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from collections.abc import Sequence

from keras_munet.report import formatting
from keras_munet.report import style

# The attribute of cells and headers that hold words in a table of numbers.
TEXT = ' class="text"'
# Even an unescaped script or address would do nothing under this policy.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'{scripts}"
)


def esc(value: object) -> str:
    """Returns `value` as text that can stand anywhere in a page."""
    return html.escape(formatting.plain(value))


def document(
    title: str,
    parts: Iterable[str],
    more_css: str = "",
    scripts: Sequence[str] = (),
) -> str:
    """Returns a whole page that needs nothing else.

    Args:
      title: its title, markup.
      parts: its parts in order, markup.
      more_css: rules that only this kind of page needs.
      scripts: what the policy says of scripts; without any, none runs.
    """
    policy = _POLICY.format(
        scripts=f"; script-src {' '.join(scripts)}" if scripts else ""
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, '
        'initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{style.CSS}{more_css}</style>\n"
        "</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, lead: str, body: str) -> str:
    """Returns a part of the page with a heading and a word on what it is."""
    return (
        f"<section>\n<h2>{title}</h2>\n"
        f'<p class="quiet">{lead}</p>\n{body}\n</section>'
    )


def table(
    label: str,
    head: Iterable[str],
    rows: Sequence[Sequence[str]],
    foot: Sequence[str] = (),
    attrs: str = "",
) -> str:
    """Returns a table that scrolls sideways on its own where it must."""
    lines = [
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">',
        f"<table{attrs}>\n<thead><tr>{''.join(head)}</tr></thead>\n<tbody>",
        *(f"<tr>{''.join(row)}</tr>" for row in rows),
        "</tbody>",
    ]
    if foot:
        lines.append(f"<tfoot><tr>{''.join(foot)}</tr></tfoot>")
    return "\n".join([*lines, "</table>\n</div>"])


def name(text: str) -> str:
    """Returns a task's or place's name, which may break after `/` and `_`."""
    return esc(text).replace("/", "/<wbr>").replace("_", "_<wbr>")


def th(inner: str) -> str:
    """Returns the cell that names a row."""
    return f'<th scope="row"><div>{inner}</div></th>'


def td(inner: str, attrs: str = "") -> str:
    """Returns a cell; `attrs` are more attributes."""
    return f"<td{attrs}>{inner}</td>"


def column(inner: str, attrs: str = "") -> str:
    """Returns the cell that names a column; `attrs` are more attributes."""
    return f'<th scope="col"{attrs}><div>{inner}</div></th>'
