"""Reports a system to people: a text and one HTML page.

Invariant: a report only reads a system, works while a job evolves it, and
needs no TensorFlow. Equal systems give equal bytes. What was predicted before
(`predictions.json` in the report's folder) is shown as long as it is of the
published paths.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from keras_munet import errors
from keras_munet.report import comparison_points
from keras_munet.report import page
from keras_munet.report import plain_text
from keras_munet.report import predictions
from keras_munet.report import summary as summary_lib
from keras_munet.report.figures import figures
from keras_munet.store import event_log
from keras_munet.store import files as files_lib
from keras_munet.store import reader
from keras_munet.store import storage

HTML_FILE = "report.html"
TEXT_FILE = "report.txt"

PathLike = str | os.PathLike[str]


def text(workdir: PathLike) -> str:
    """Returns the report of a system as plain text, at most 100 columns wide.

    Args:
      workdir: the system's directory.

    Raises:
      UsageError: there is no system.
      StoreError: it is damaged or of a newer format.
    """
    return plain_text.render_text(summary_lib.read_summary(workdir))


def write(
    workdir: PathLike,
    out: PathLike,
    *,
    live_secs: float = 0,
    comparison: PathLike | None = None,
) -> list[str]:
    """Writes `report.html` and `report.txt` into a folder.

    Each file is replaced in one step; other files of the folder stay.

    Args:
      workdir: the system's directory.
      out: the folder; it is made if it does not exist.
      live_secs: after how many seconds an open page loads itself again; 0
        never.
      comparison: the folder of a comparison whose methods are shown beside
        the system; None for none.

    Returns:
      The paths of the files, the page first.

    Raises:
      UsageError: there is no system or no comparison, or `out` cannot name a
        folder.
      StoreError: the system is damaged, or `out` cannot be written.
    """
    paths, _ = _write(workdir, out, live_secs, comparison)
    return paths


def watch(
    workdir: PathLike,
    out: PathLike,
    *,
    every_secs: float,
    comparison: PathLike | None = None,
    prepare: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Writes the report whenever the system has changed, until it is done.

    While it watches, an open page loads itself again; the last page, written
    when every task iteration is published or the watching is interrupted,
    does not.

    Args:
      workdir: the system's directory.
      out: the folder; it is made if it does not exist.
      every_secs: how often to look.
      comparison: as for `write`.
      prepare: called before each report.
      sleep: how to wait.

    Returns:
      The paths of the files, the page first.

    Raises:
      UsageError: there is no system or no comparison, or `out` cannot name a
        folder.
      StoreError: the system is damaged, or `out` cannot be written.
      KeyboardInterrupt: it was interrupted; the last page is written.
    """
    last_state: Any = None
    try:
        while True:
            state = _state(workdir)
            if state is None or state != last_state:
                prepare()
                _, is_done = _write(workdir, out, every_secs, comparison)
                if is_done:
                    break
            last_state = state
            sleep(every_secs)
    except KeyboardInterrupt:
        _write(workdir, out, 0, comparison)
        raise
    return write(workdir, out, comparison=comparison)


def _write(
    workdir: PathLike,
    out: PathLike,
    live_secs: float,
    comparison: PathLike | None,
) -> tuple[list[str], bool]:
    """Writes the files; returns their paths and whether nothing is to come."""
    files = files_lib.open_storage(out)
    read = summary_lib.read_summary(workdir)
    baselines = (
        None
        if comparison is None
        else comparison_points.read_points(comparison)
    )
    html = page.render_page(
        read,
        live_secs=live_secs,
        baselines=baselines,
        predictions=predictions.read_predictions(out),
    )
    written = {
        HTML_FILE: html,
        TEXT_FILE: plain_text.render_text(read, baselines) + "\n",
    }
    for name, content in written.items():
        try:
            files.write_atomic(name, content.encode())
        except storage.MissingFileError as error:
            # The store's own advice is about files of a system.
            raise errors.StoreError(
                f"{files.where} cannot be made or is gone; choose another "
                "folder for the report"
            ) from error
    planned = read.num_iterations_planned
    is_done = planned is not None and read.num_iterations_done >= planned
    return [os.path.join(os.fspath(out), name) for name in written], is_done


def _state(workdir: PathLike) -> Any:
    """Returns what differs when a report would; None where it is unknown."""
    if files_lib.is_remote(workdir):
        return None
    num_changes = reader.SystemReader.open(workdir).num_changes()
    files = files_lib.open_storage(workdir)
    num_bytes = 0
    for _, names in event_log.log_files(files):
        for name in names:
            with contextlib.suppress(errors.StoreError):
                num_bytes += files.num_bytes(name)
    return num_changes, num_bytes


__all__ = ["HTML_FILE", "TEXT_FILE", "figures", "text", "watch", "write"]
