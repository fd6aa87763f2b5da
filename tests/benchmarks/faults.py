"""What the store promises, tried long and hard: faults, crowds, damage, fuzz.

    python tests/benchmarks/faults.py [--parts=hurt,damage,fuzz,crowd]
        [--seed=0] [--num_trials=200] [--stride=1] [--crowd_secs=600]
        [--num_cases=10000] [--workdir=FOLDER]

`hurt`: a two-task run is hurt `num_trials` times in each of seven ways (killed
at a random moment, killed at a random call that changes the disk, the same with
a loss of power that undoes and tears what was not synced, one call that fails
with ENOSPC or EIO, a disk that stays full or broken), half of the time with a
wall clock that jumps; then it is killed at every `stride`th call, with and
without a loss of power. After each, nothing published is lost; resumed, every
file has the same bytes and `check` is clean. `crowd`: eight jobs on eight tasks
of one system are killed and stopped for `crowd_secs` beside two readers; no
update is lost, no read is torn. `damage`: every byte of every kind of file gets
every other value, is removed, doubled, or the last; `check` finds each.
`fuzz`: odd records, objects, archives and configs are refused or read rightly.

What trains is a stand-in. Everything is determined by the seed but the moments
at which processes are killed or stopped. Prints one line of JSON a part, and
ends with 1 if a promise was broken.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))

import store_jobs
from absl import app
from absl import flags

_PARTS = flags.DEFINE_list("parts", "hurt,damage,fuzz,crowd", "What to do.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is random.")
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 200, "Of each kind of hurt.")
_STRIDE = flags.DEFINE_integer(
    "stride", 1, "Kill at every such call; damage every such byte."
)
_CROWD_SECS = flags.DEFINE_integer("crowd_secs", 600, "How long a crowd works.")
_NUM_CASES = flags.DEFINE_integer("num_cases", 10_000, "Of fuzz.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A folder to work in, e.g. in memory; none for a new one."
)
# An archive is imported anew each time, which takes longer than a check.
_ARCHIVE_STRIDE = 5
_TIMEOUT_SECS = 4 * 3600


def main(argv: list[str]) -> None:
    """Does all parts."""
    del argv
    calls = {
        "hurt": ("store_faults.py", _SEED, _NUM_TRIALS, _STRIDE),
        "damage": ("store_corruption.py", _STRIDE, _ARCHIVE_STRIDE),
        "fuzz": ("store_fuzz.py", _SEED, _NUM_CASES),
        "crowd": ("store_crowds.py", _SEED, _CROWD_SECS),
    }
    for part in _PARTS.value:
        script, *flag_holders = calls[part]
        numbers = [getattr(f, "value", f) for f in flag_holders]
        with tempfile.TemporaryDirectory(dir=_WORKDIR.value) as folder:
            where = [] if part == "damage" else [folder]
            found = store_jobs.apart(
                script, *where, *numbers, timeout_secs=_TIMEOUT_SECS
            )
        print(json.dumps({"part": part, **found}), flush=True)


if __name__ == "__main__":
    app.run(main)
