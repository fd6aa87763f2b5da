"""The failures that keras_munet names, and the exit code of each.

Invariant: every message is one line that says what was seen, what was
allowed and what to do, so that a launcher can print it as it is.
"""


class MunetError(Exception):
    """Base of every failure that keras_munet raises on purpose."""

    exit_code = 1


class UsageError(MunetError):
    """The caller requested something impossible: a user's mistake."""

    exit_code = 2


class DataError(MunetError):
    """A data set is missing, damaged, or lacks what the task needs."""


class CheckpointError(MunetError):
    """Pretrained weights do not fit the root they were given for."""


class StoreError(MunetError):
    """A system directory cannot be read or written, or is damaged."""


class StoppedError(MunetError):
    """The job got a stop request and stopped where nothing is lost.

    Everything finished is published; running it again continues.
    """

    # EX_TEMPFAIL of sysexits.h: try again later.
    exit_code = 75


class ChildError(MunetError):
    """One child could not be trained; the others are not affected."""
