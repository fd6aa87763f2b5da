"""The failures that keras_munet names, and the exit code of each.

Invariant: every message is one line that says what was seen, what was
allowed and what to do, so that a launcher can print it as it is.
"""


class MunetError(Exception):
    """Base of every failure that keras_munet raises on purpose.

    Example:
      >>> raise DataError("task 'digits' has 0 images; give at least 3")
      Traceback (most recent call last):
      ...
      keras_munet.errors.DataError: task 'digits' has 0 images; give at least 3
      >>> issubclass(DataError, MunetError)
      True
    """

    exit_code = 1


class UsageError(MunetError):
    """The caller requested something impossible: a user's mistake.

    Example:
      >>> from keras_munet.core import settings
      >>> try:
      ...     settings.Settings(batch_size=0)
      ... except UsageError as error:
      ...     print(error.exit_code)
      2
    """

    exit_code = 2


class DataError(MunetError):
    """A data set is missing, damaged, or lacks what the task needs.

    Example:
      >>> from keras_munet.data import tasks
      >>> try:
      ...     tasks.load("own/absent", data_dir="absent")
      ... except DataError as error:
      ...     print(error.exit_code)
      1
    """


class CheckpointError(MunetError):
    """Pretrained weights do not fit the root they were given for.

    Example:
      >>> from keras_munet.core import settings
      >>> from keras_munet.roots import build
      >>> absent = settings.RootSettings(source="npz:absent.npz")
      >>> try:
      ...     build.build(absent)
      ... except CheckpointError as error:
      ...     print("absent.npz" in str(error))
      True
    """


class StoreError(MunetError):
    """A system directory cannot be read or written, or is damaged.

    Example:
      >>> import pathlib
      >>> from keras_munet.store import system_dir
      >>> pathlib.Path("damaged").mkdir()
      >>> _ = pathlib.Path("damaged/system.json").write_text("{")
      >>> try:
      ...     system_dir.SystemDir.open("damaged")
      ... except StoreError as error:
      ...     print("system.json" in str(error))
      True
    """


class StoppedError(MunetError):
    """The job got a stop request and stopped where nothing is lost.

    Everything finished is published; running it again continues.
    """

    # EX_TEMPFAIL of sysexits.h: try again later.
    exit_code = 75


class ChildError(MunetError):
    """One child could not be trained; the others are not affected.

    Example:
      >>> issubclass(ChildError, MunetError)
      True
    """
