"""What is printed cannot command a terminal."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys

import pytest

from keras_munet.callbacks import progress
from keras_munet.core import printable

_LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
_ODD = (
    "\x1b[2J",
    "\x07",
    "\x9b31m",
    "\r",
    "\u202e",
    "\u2028",
    "\x00",
    "\ud800",
)


@pytest.mark.parametrize("odd", _ODD, ids=ascii)
def test_a_stream_escapes_what_is_odd_and_leaves_the_rest(odd):
    under = io.StringIO()
    stream = printable.PrintableStream(under)
    print(f"caf\u00e9\t{odd}x", "y", file=stream)
    stream.writelines(["a\n", odd])
    stream.flush()
    shown = under.getvalue()
    assert shown.startswith("caf\u00e9\t\\") and " y\na\n\\" in shown
    assert all(c.isprintable() or c in "\n\t" for c in shown)


@pytest.mark.parametrize("odd", _ODD[:5], ids=ascii)
def test_a_launcher_prints_nothing_that_moves_the_cursor(odd):
    code = (
        "import warnings, launching\n"
        "from keras_munet import errors\n"
        "def main():\n"
        f"    print({odd!a})\n"
        f"    warnings.warn({odd!a} + 'warned\\nof')\n"
        f"    raise errors.DataError({odd!a} + 'failed')\n"
        "launching.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_LAUNCH,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    out, err = done.stdout.decode(), done.stderr.decode()
    assert len(out.splitlines()) == 1
    warned, failed = err.splitlines()
    assert warned.startswith("warning: ") and "warned of" in warned
    assert failed.startswith("error: ")
    assert all(c.isprintable() or c == "\n" for c in out + err)


def test_lines_of_progress_are_lines():
    under = io.StringIO()
    progress.Progress(None, stream=under).line("a\x1b[2Jb\nc")
    assert under.getvalue().endswith("a\\x1b[2Jb\\nc\n")
