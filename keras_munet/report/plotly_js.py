"""The plotting library's own script, packed to be carried inside a page.

Invariant: what the page unpacks is the installed file byte for byte; its
digest stands in the page's policy, so nothing else would run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import pathlib
import zlib
from typing import NamedTuple

from keras_munet import errors

_FILE = pathlib.Path("package_data", "plotly.min.js")


class Script(NamedTuple):
    """A script as a page carries it.

    Attributes:
      packed: its bytes, deflated (RFC 1950), in base64.
      digest: as a policy names it, `sha256-...`.
    """

    packed: str
    digest: str


@functools.cache
def script() -> Script:
    """Returns the script of the installed plotly, 2 MB packed.

    Raises:
      UsageError: plotly is not installed.
    """
    # The package itself is not imported: that takes longer than a report.
    spec = importlib.util.find_spec("plotly")
    places = spec.submodule_search_locations if spec else None
    file = pathlib.Path(places[0], _FILE) if places else None
    if file is None or not file.is_file():
        raise errors.UsageError(
            "the report's charts need plotly, which is not installed; run "
            "pip install plotly"
        )
    content = file.read_bytes()
    return Script(
        base64.b64encode(zlib.compress(content, 9)).decode(),
        script_digest(content),
    )


def script_digest(content: bytes) -> str:
    """Returns how a Content-Security-Policy names a script or style."""
    return (
        f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
    )
