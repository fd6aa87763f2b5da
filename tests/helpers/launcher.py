"""Runs launchers as processes of their own that share TensorFlow's import.

    python launcher.py

is the server: it imports TensorFlow once and is forked for each launcher, which
saves 3 s of CPU time a test. What a test says of a launcher's start needs a
process that imports anew.
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
    name: str, *flags: object, cwd: pathlib.Path | None = None, **env: str
) -> subprocess.CompletedProcess:
    """Returns the exit code and the output of a launcher.

    Args:
      name: of its file in `launch`, without suffix.
      *flags: its arguments.
      cwd: where it runs.
      **env: environment variables, beside those of this process.
    """
    argv = [str(LAUNCH / f"{name}.py"), *map(str, flags)]
    with tempfile.TemporaryDirectory() as folder:
        files = {n: os.path.join(folder, n) for n in ("stdout", "stderr")}
        request = {
            "argv": argv,
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": {**os.environ, **env},
            **files,
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        output = {
            n: pathlib.Path(file).read_text(errors="surrogateescape")
            for n, file in files.items()
        }
    return subprocess.CompletedProcess(argv, code, **output)


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
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict[str, Any]) -> None:
    """Becomes the launcher of a request."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    sys.path[0] = str(LAUNCH)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT), number)
    code: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
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
