"""SIGTERM ends a job between two cycles; the same command continues."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import system_samples as samples

from keras_munet import errors
from keras_munet.system import system

_HELPERS = pathlib.Path(__file__).resolve().parents[1] / "helpers"


def _run(workdir, cycle):
    return subprocess.run(
        [sys.executable, "stop_run.py", str(workdir), str(cycle)],
        cwd=_HELPERS,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_exit_code_says_run_it_again():
    assert errors.StoppedError.exit_code == 75


@pytest.mark.slow
def test_a_terminated_job_stops_with_everything_saved_and_continues(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert _run(whole, -1).returncode == 0
    # In the first generation, at the end of the second, in a later task.
    for cycle in (1, 3, 5):
        done = _run(stopped, cycle)
        assert done.returncode == 75, done.stderr[-2000:]
        # TensorFlow's own notices stand before it.
        assert done.stderr.splitlines()[-1].startswith("stopped as asked")
        assert system.System.open(stopped).check() == []
        # Nothing is held that another machine would wait for.
        assert not list((stopped / "leases").glob("*"))
    assert _run(stopped, -1).returncode == 0
    assert samples.digests(stopped) == samples.digests(whole)
