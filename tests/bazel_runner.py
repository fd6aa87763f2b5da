"""Runs one test file by pytest where Bazel laid it out.

Invariant: the library that is tested is the one that Bazel was given, so a
dependency that no BUILD file names fails here.
"""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

import keras_munet

_HELPERS = pathlib.Path(__file__).resolve().parent / "helpers"


def main() -> int:
    """Runs the file that is named on the command line."""
    folder = pathlib.Path(os.environ["TEST_SRCDIR"])
    found = pathlib.Path(keras_munet.__file__ or "")
    assert folder in found.parents, f"{found} is not of {folder}"
    (name,) = sys.argv[1:]
    return pytest.main(
        [
            *("-q", "-m", "not slow", "-p", "no:cacheprovider"),
            *("--import-mode=importlib", "-o", f"pythonpath={_HELPERS}", name),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
