"""Runs programs as processes of their own that share TensorFlow's import.

    python forked.py

is the server: it imports TensorFlow once and is forked for each program, which
saves 3 s of CPU time a test. TensorFlow has made no device by then. What a test
says of a program's imports needs a process that imports anew.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from typing import Any

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


def launch(
    name: str, *flags: object, cwd: pathlib.Path | None = None
) -> subprocess.CompletedProcess:
    """Returns the exit code and the output of a launcher.

    Args:
      name: of its file in `launch`, without suffix.
      *flags: its arguments.
      cwd: where it runs.
    """
    return _run([str(LAUNCH / f"{name}.py"), *map(str, flags)], None, cwd, {})


def run_code(
    code: str,
    *arguments: object,
    cwd: pathlib.Path | None = None,
    **env: str,
) -> subprocess.CompletedProcess:
    """Returns the exit code and the output of a program.

    Args:
      code: its lines.
      *arguments: its `sys.argv[1:]`.
      cwd: where it runs, and imports from.
      **env: environment variables beside those of this process.
    """
    return _run(["-c", *map(str, arguments)], code, cwd, env)


def _run(
    argv: list[str],
    code: str | None,
    cwd: pathlib.Path | None,
    env: dict[str, str],
) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        files = {n: os.path.join(folder, n) for n in ("stdout", "stderr")}
        request = {
            "argv": argv,
            "code": code,
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": {**os.environ, **env},
            **files,
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        returncode = int(server.stdout.readline())
        output = {
            n: pathlib.Path(file).read_text(errors="surrogateescape")
            for n, file in files.items()
        }
    return subprocess.CompletedProcess(argv, returncode, **output)


@functools.cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # It ends when its input does.
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return server


def _serve() -> None:
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Runs the program of a request and ends as it does."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    sys.path[0] = str(LAUNCH) if request["code"] is None else ""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT), number)
    code: Any = 0
    try:
        if request["code"] is None:
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            exec(request["code"], {"__name__": "__main__"})
    except SystemExit as exit_request:
        code = exit_request.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _serve()
