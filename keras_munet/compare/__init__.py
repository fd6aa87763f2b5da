"""Writes a comparison of methods as JSON, Markdown and one HTML page.

Invariant: the three files say the same, and need no TensorFlow to be made.
"""

from __future__ import annotations

import json
import os

from keras_munet.compare import markdown
from keras_munet.compare import page
from keras_munet.core import system_paths
from keras_munet.report import comparison_records
from keras_munet.store import files as files_lib

JSON_FILE = system_paths.COMPARISON_FILE
TEXT_FILE = "comparison.md"
HTML_FILE = "comparison.html"


def text(comparison: comparison_records.Comparison) -> str:
    """Returns the comparison as Markdown, with a newline at its end."""
    return markdown.render_markdown(comparison)


def write(
    comparison: comparison_records.Comparison, out: str | os.PathLike[str]
) -> list[str]:
    """Writes the comparison into a folder, each file in one step.

    Args:
      comparison: what to write.
      out: the folder; it is made if it does not exist.

    Returns:
      The paths of the files, the page first.

    Raises:
      StoreError: a file cannot be written.
    """
    files = files_lib.open_storage(out)
    contents = {
        HTML_FILE: page.render_page(comparison),
        TEXT_FILE: text(comparison),
        JSON_FILE: json.dumps(comparison.to_json(), indent=1) + "\n",
    }
    for name, content in contents.items():
        files.write_atomic(name, content.encode())
    return [os.path.join(os.fspath(out), name) for name in contents]


__all__ = ["HTML_FILE", "JSON_FILE", "TEXT_FILE", "text", "write"]
