"""Runs the blocks of one page in order, in the current folder.

    python doc_driver.py PAGE

Python blocks share their names; each Bash block is a shell of its own. It
ends with the first block that fails.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import doc_blocks


def main(page: str) -> None:
    """Runs a page."""
    blocks = doc_blocks.of(page)
    for block in blocks:
        if block.is_run and block.installs:
            sys.exit(f"{page}:{block.line} installs; mark it as not run")
        if block.file:
            pathlib.Path(block.file).write_text(block.code)
    # As in an interpreter: a module that is there, whose names stay.
    names: dict = {"__name__": "__main__"}
    for block in blocks:
        if not block.is_run:
            continue
        print(f"--- {page}:{block.line}", flush=True)
        start = time.monotonic()
        if block.language == "python":
            # A traceback then names the line of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, page, "exec"), names)
        else:
            shell = ["bash", "-euo", "pipefail", "-c", block.code]
            subprocess.run(shell, check=True)
        print(f"--- {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
