"""Whatever hurts a job, the population is the same and nothing is lost.

The short version of `benchmarks/faults.py`.
"""

from __future__ import annotations

import store_corruption
import store_faults
import store_jobs

_SEED = 1
_NUM_TRIALS = 1
_STRIDE = 150


def test_a_run_that_was_hurt_ends_in_the_same_bytes(tmp_path):
    found = store_jobs.apart(
        "store_faults.py",
        tmp_path,
        _SEED,
        _NUM_TRIALS,
        _STRIDE,
        timeout_secs=900,
    )
    print(found)
    assert set(found["hurt"]) == set(store_faults.HOWS)
    num_kills = sum(found["at_every_call"].values())
    assert num_kills >= 2 * (found["calls_of_a_run"] // _STRIDE)
    assert found["publications"] == 4


def test_a_small_change_of_any_file_of_a_system_is_found():
    found = store_corruption.corrupt_files(stride=12)
    print(found)
    assert len(found) == 8 and min(found.values()) > 100


def test_a_changed_archive_is_refused_or_brings_the_same_system(tmp_path):
    found = store_corruption.corrupt_archive(100, tmp_path)
    print(found)
    assert found["archive: refused"] > 500
