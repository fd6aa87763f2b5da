"""Several jobs on one system: no update is lost, no read is torn.

The short version of `benchmarks/faults.py --parts=crowd`.
"""

from __future__ import annotations

import pathlib

import pytest
import store_crowds
import store_jobs

_SEED = 1
_NUM_SECS = 8


def test_a_crowd_that_is_hurt_loses_no_update_and_tears_no_read(tmp_path):
    found = store_jobs.apart(
        "store_crowds.py", tmp_path, _SEED, _NUM_SECS, timeout_secs=600
    )
    print(found)
    assert found["published"] >= found["published_and_told"] > 0
    assert found["reader"]["loads"] > 0
    assert found["jobs"]["killed"] > 0


class _State:
    def __init__(self, num_iterations_done, path_id):
        self.num_iterations_done = num_iterations_done
        self.published = self
        self.id = path_id


_FIRST = "will a 1 - p1\ndid a 1 - p1\n"
_SECOND = "will a 2 p1 p2\ndid a 2 p1 p2\n"


@pytest.mark.parametrize(
    ("log", "number", "path", "problem"),
    [
        (_FIRST + _SECOND, 2, "p2", None),
        # Published by a job that could not tell any more.
        (_FIRST + "will a 2 p1 p2\n", 2, "p2", None),
        (_FIRST + "will a 2 p1 p2\n", 1, "p1", None),
        (_FIRST + _SECOND, 1, "p1", "of a later number was lost"),
        (_FIRST + "will a 2 - p2\ndid a 2 - p2\n", 2, "p2", "was lost"),
        (_FIRST + _SECOND + "did a 2 p1 p3\n", 2, "p2", "published twice"),
        (_FIRST + "will a 2 p1 p3\ndid a 2 p1 p3\n", 2, "p2", "was lost"),
        ("will a 1 p0 p1\n", 1, "p1", "does not go back"),
    ],
)
def test_an_update_that_is_lost_would_be_seen(
    log: str,
    number: int,
    path: str,
    problem: str | None,
    tmp_path: pathlib.Path,
):
    (tmp_path / "log").write_text(log)
    states = {"a": _State(number, path)}
    if problem is None:
        store_crowds.verify_no_update_lost(tmp_path, states)
    else:
        with pytest.raises(AssertionError, match=problem):
            store_crowds.verify_no_update_lost(tmp_path, states)
