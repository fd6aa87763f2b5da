"""Holds what launchers share: quiet start, one-line errors, exit codes.

Exit codes: 0 done, 1 the job failed (data, store, checkpoint), 2 the command
was wrong, 75 stopped as asked (SIGTERM), 130 interrupted; the same command
continues after these two. 141: the reader of the output closed it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import signal
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TextIO

import config_help
import config_program
import json_config
from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from keras_munet import errors
from keras_munet.core import commands
from keras_munet.core import devices as devices_lib
from keras_munet.core import printable
from keras_munet.core import settings as settings_lib
from keras_munet.core import system_paths
from keras_munet.core import unfinished
from keras_munet.store import files as files_lib

# As the shell says it of a program that SIGPIPE ended.
_BROKEN_PIPE = 128 + signal.SIGPIPE
# An error that is longer is cut; ours are shorter.
_NUM_CHARS_MAX = 500
# Beside this folder, in a checkout and in a wheel.
_CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
_HELP = ("-h", "--help", "-help", "--helpshort", "--helpfull", "-?")
# The name of every launcher's config flag.
_CONFIG_FLAG = "config"
# Keras imports these where they are installed, for wrappers and plots that no
# launcher uses; they take a third of TensorFlow's import.
_KERAS_OPTIONAL = ("matplotlib", "pandas", "sklearn")
# The flags that name one file or folder of this machine.
_PATH_FLAGS = (
    *("archive", "comparison", "manual_dir", "model", "out", "output_dir"),
    *("source", "tensorboard_dir", "wheel", "workdir"),
)


def run(main: Callable[[], None]) -> None:
    """Parses the flags, runs `main` and exits with its code."""
    logging.set_verbosity(logging.ERROR)
    with _one_line_errors():
        app.run(lambda argv: _main(main, argv), flags_parser=_parse)


def run_command(main: Callable[[str], None], commands: Sequence[str]) -> None:
    """Parses a command and flags, runs `main` and exits with its code.

    Args:
      main: is given the command.
      commands: those that there are.
    """
    logging.set_verbosity(logging.ERROR)
    with _one_line_errors():
        app.run(
            lambda argv: main(_command(argv, commands)), flags_parser=_parse
        )


def run_command_on_names(
    main: Callable[[str, Sequence[str]], None], commands: Sequence[str]
) -> None:
    """As `run_command`, for commands that names follow.

    Args:
      main: is given the command and the names.
      commands: those that there are.
    """
    logging.set_verbosity(logging.ERROR)
    with _one_line_errors():
        app.run(
            lambda argv: main(_first(argv, commands), argv[2:]),
            flags_parser=_parse,
        )


def run_on_paths(main: Callable[[Sequence[str]], None]) -> None:
    """As `run`, for a launcher that takes paths besides its flags.

    Args:
      main: receives the arguments that are no flags.
    """
    logging.set_verbosity(logging.ERROR)
    with _one_line_errors():
        app.run(lambda argv: main(argv[1:]), flags_parser=_parse)


def one_argument(arguments: Sequence[str], form: str) -> str:
    """Returns the only argument that is no flag.

    Args:
      arguments: what `run_on_paths` gave.
      form: of the argument, for the message.

    Raises:
      UsageError: there is none, or more than one.
    """
    if len(arguments) != 1:
        raise errors.UsageError(
            f"{len(arguments)} arguments are given besides flags; give one, "
            f"{form}"
        )
    return arguments[0]


def run_passing_on(main: Callable[[Sequence[str]], int]) -> None:
    """As `run`, for a launcher that passes other flags on.

    Args:
      main: is given every argument that is no flag of its own; returns the
        exit code.
    """
    logging.set_verbosity(logging.ERROR)
    with _one_line_errors():
        app.run(lambda argv: main(argv[1:]), flags_parser=_parse_known)


def print_line(line: str) -> None:
    """Prints a line now, to a terminal or a pipe."""
    print(line, flush=True)


def stop_on_interrupt() -> Callable[[], bool]:
    """Returns whether Ctrl-C was pressed since this call.

    Python raises KeyboardInterrupt wherever it is, which may be a callback of
    TensorFlow that swallows it; what this returns is not lost.
    """
    pressed = []

    def handle(number: int, frame: types.FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    return lambda: bool(pressed)


def stop_on_terminate() -> Callable[[], bool]:
    """Returns whether SIGTERM came since this call.

    It says that the machine is wanted or about to go; the job stops where
    nothing is lost. A second one ends the process at once.
    """
    came = []

    def handle(number: int, frame: types.FrameType | None) -> None:
        del frame
        came.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(came)


def define_device_flags() -> Callable[[], devices_lib.Devices]:
    """Defines the flags that say which devices train.

    Returns:
      What gives them, checked, once they are parsed; it raises UsageError.
    """
    flags.DEFINE_string(
        "strategy",
        "auto",
        f"Devices: {', '.join(devices_lib.STRATEGIES)}.",
    )
    flags.DEFINE_string(
        "engine",
        "auto",
        "Layer by layer on one CPU, or one compiled program for all children: "
        f"{', '.join(devices_lib.ENGINES)}.",
    )
    flags.DEFINE_integer(
        "children_per_device",
        1,
        "Children that a device trains at one time with engine program.",
    )
    flags.DEFINE_string(
        "tpu", "", "Name of the TPU; local for the one of this machine."
    )
    flags.DEFINE_string("tpu_zone", "", "Its Google Cloud zone.")
    flags.DEFINE_string("tpu_project", "", "Its Google Cloud project.")
    flags.DEFINE_string(
        "workers", "", "Of a coordinator: HOST:PORT of each, with commas."
    )
    names = [f.name for f in dataclasses.fields(devices_lib.Devices)]
    return lambda: devices_lib.Devices(
        **{name: getattr(flags.FLAGS, name) for name in names}
    )


def quiet_tensorflow(configure: Callable[[], object] | None = None) -> None:
    """Imports TensorFlow without its start-up notices.

    These come from C++ before any log level is read, so the descriptor itself
    is turned away; what was written is shown if the import fails.

    Args:
      configure: what can be said to TensorFlow only before it uses a device.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            with _absent(_KERAS_OPTIONAL):
                import tensorflow as tf

            if configure is not None:
                configure()
            # The first use of a device writes notices too; a worker of a
            # cluster must not use one before it has joined.
            if "TF_CONFIG" not in os.environ:
                tf.config.list_logical_devices()
        except BaseException:
            notices.seek(0)
            os.write(saved, notices.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _absent(names: Sequence[str]) -> Iterator[None]:
    """Makes imports of packages fail that were not imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def settings_from(config: flags.FlagHolder) -> settings_lib.Settings:
    """Returns the checked settings of a config file flag.

    Raises:
      UsageError: there is no such file, or its settings are wrong.
    """
    checked = settings_lib.Settings.from_dict(config.value.to_dict())
    if not checked.task_names:
        # Behind the file that reads it, and before its own argument.
        reader = config_flags.get_config_filename(flags.FLAGS[config.name])
        raise errors.UsageError(
            f"--config={reader.split(':')[1]}: task_names is empty; name the "
            "tasks to evolve, behind a colon where the config takes them, as "
            "--config=own_images:own/NAME, or as "
            "--config.task_names=\"('digits',)\""
        )
    return checked


def write_file(path: str, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
      StoreError: it cannot be written.
    """
    files_lib.require_local(path, "--out")
    system_paths.refuse_links(path)
    part = f"{path}.{unfinished.new_writer_id()}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise errors.StoreError(
            f"cannot write {path}: {e.strerror}; choose another --out"
        ) from e


def _prepare_help(argv: Sequence[str]) -> None:
    """Completes the text that `--help` prints before the flags.

    It names commands as this installation has them, and lists the config keys
    where there is a config.
    """
    if not set(argv[1:]) & set(_HELP):
        return
    program = sys.modules["__main__"]
    text = re.sub(
        r"python launch/(\w+)\.py",
        lambda match: commands.command(match[1]),
        program.__doc__ or "",
    )
    if _CONFIG_FLAG in flags.FLAGS:
        text += f"\n{config_help.text()}\n"
    # absl fills in a percent sign otherwise.
    program.__doc__ = text.replace("%", "%%")


def _parse_known(argv: Sequence[str]) -> list[str]:
    _prepare_help(argv)
    try:
        return _with_home(flags.FLAGS(list(argv), known_only=True))
    except flags.Error as e:
        raise errors.UsageError(_one_line(e)) from e


def _parse(argv: Sequence[str]) -> list[str]:
    _prepare_help(argv)
    try:
        # Flag files first: they too may name a config.
        arguments = ["--help" if arg == "-h" else arg for arg in argv]
        flat = flags.FLAGS.read_flags_from_files(arguments)
        return _with_home(flags.FLAGS(_with_config_readers(flat)))
    except flags.Error as e:
        raise errors.UsageError(_one_line(e)) from e
    except errors.MunetError:
        # A config's own word about its argument.
        raise
    except (AttributeError, KeyError, ValueError, TypeError) as e:
        # How config_flags answers a misspelt key or a value of the wrong kind.
        raise errors.UsageError(f"--config: {_one_line(e)}") from e


def _with_home(argv: list[str]) -> list[str]:
    """Returns `argv`, after `~` in path flags became the home folder.

    Shells leave it alone behind an equals sign.
    """
    for name in _PATH_FLAGS:
        value = flags.FLAGS[name].value if name in flags.FLAGS else None
        if isinstance(value, str):
            flags.FLAGS[name].value = os.path.expanduser(value)
    return argv


def _with_config_readers(argv: Sequence[str]) -> list[str]:
    """Returns `argv` with each config file behind the file that reads it.

    JSON is data and runs nothing; another file is a program, whose failures
    the reader says in one line. `~` is the home folder.

    Raises:
      UsageError: a JSON config is given an argument.
    """
    read = []
    follows = False
    for argument in argv:
        flag, equals, value = argument.partition("=")
        is_config = flag in (f"-{_CONFIG_FLAG}", f"--{_CONFIG_FLAG}")
        if follows:
            argument = _with_reader(os.path.expanduser(argument))
        elif is_config and equals:
            argument = f"{flag}={_with_reader(os.path.expanduser(value))}"
        follows = is_config and not equals and not follows
        read.append(argument)
    return read


def _with_reader(config: str) -> str:
    # What follows a colon is the argument of `get_config`.
    path, colon, argument = config.partition(":")
    name = path.removeprefix("configs/").removesuffix(".py")
    own = _CONFIGS / f"{name}.py"
    if not os.path.exists(path) and name.isidentifier() and own.is_file():
        # One that comes with the project, named from anywhere.
        config = f"{own}{colon}{argument}"
    if not path.lower().endswith(json_config.SUFFIX):
        return f"{os.path.abspath(config_program.__file__)}:{config}"
    if colon:
        raise errors.UsageError(
            f"--config={config}: a JSON config takes no argument; leave out "
            "what follows the colon"
        )
    return f"{os.path.abspath(json_config.__file__)}:{path}"


def _command(argv: Sequence[str], commands: Sequence[str]) -> str:
    if len(argv) > 2:
        raise errors.UsageError(
            f"{argv[2]!r} follows {argv[1]!r}; give one of "
            f"{', '.join(commands)} and flags as --name=value"
        )
    return _first(argv, commands)


def _first(argv: Sequence[str], commands: Sequence[str]) -> str:
    if len(argv) < 2 or argv[1] not in commands:
        problem = repr(argv[1]) if len(argv) > 1 else "no command"
        raise errors.UsageError(
            f"{problem} is given; give one of {', '.join(commands)} and flags "
            "as --name=value"
        )
    return argv[1]


def _main(main: Callable[[], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise errors.UsageError(
            f"{argv[1]!r} is not a flag; write it as --name=value"
        )
    main()


@contextlib.contextmanager
def _one_line_errors():
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        # A service may close them; files must not get their numbers.
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nothing, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        # Names of classes and files are no reason to fail under any locale.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # The one door for what a launcher prints: nothing of it commands the
    # terminal, from any class name or log.
    sys.stdout = printable.PrintableStream(sys.stdout)  # type: ignore[assignment]
    warnings.formatwarning = _warning_line
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except SystemExit as e:
        # absl ends with 1 after it has helped.
        if e.code == 1 and set(sys.argv[1:]) & set(_HELP):
            sys.exit(0)
        raise
    except BrokenPipeError:
        # The reader, e.g. `head`, has enough; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    except errors.StoppedError as e:
        print(_one_line(e), file=sys.stderr)
        sys.exit(e.exit_code)
    except errors.MunetError as e:
        print(f"error: {_one_line(e)}", file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


def terminal() -> TextIO:
    """Returns standard output for what draws on a terminal."""
    return getattr(sys.stdout, "unescaped", sys.stdout)


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {printable.printable(' '.join(str(message).split()))}\n"


def _one_line(error: BaseException) -> str:
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) else error
    words = printable.printable(" ".join(str(text).split()))
    return (
        words
        if len(words) <= _NUM_CHARS_MAX
        else words[:_NUM_CHARS_MAX] + "..."
    )
