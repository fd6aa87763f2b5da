"""Runs `gcloud`, or says what it would run.

Invariant: what gcloud refuses is reported in its own words, in one line.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable

from keras_munet import errors
from keras_munet.jobs.tpu_pod import commands

_NUM_CHARS_MAX = 400


class GcloudError(errors.MunetError):
    """A gcloud command failed."""

    exit_code = 3


class MissingError(GcloudError):
    """The resource that a gcloud command names does not exist."""


class Gcloud:
    """Runs commands one after the other, each shown before."""

    def __init__(self, tell: Callable[[str], None], *, dry_run: bool = False):
        """Runs nothing.

        Args:
          tell: is given every command, as a shell would take it.
          dry_run: whether that is all.
        """
        self._tell = tell
        self.dry_run = dry_run

    def run(
        self,
        command: commands.Command,
        *,
        show: bool = True,
        stream: bool = False,
    ) -> str:
        """Returns what a command printed; nothing of a dry run.

        Args:
          command: the words.
          show: whether to tell the command.
          stream: whether its output goes straight to the screen.

        Raises:
          UsageError: there is no gcloud.
          MissingError: what it names does not exist.
          GcloudError: it failed.
        """
        if show or self.dry_run:
            self._tell(shlex.join(command))
        if self.dry_run:
            return ""
        try:
            process = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=None if stream else subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise errors.UsageError(
                f"cannot run gcloud: {error.strerror}; install the Google "
                "Cloud CLI, https://cloud.google.com/sdk/docs/install"
            ) from error
        if process.returncode == 0:
            return (process.stdout or "").strip()
        words = " ".join((process.stderr or process.stdout or "").split())
        error_type = MissingError if "NOT_FOUND" in words else GcloudError
        raise error_type(
            f"{' '.join(command[:6])}: exit code {process.returncode}: "
            f"{words[-_NUM_CHARS_MAX:] or 'no message'}; nothing more was done"
        )
