"""Downloads a system that `push` uploaded to the Hugging Face Hub.

    python launch/pull.py hf://OWNER/NAME[@REVISION] --workdir=NEW

REVISION is a branch, tag or commit. Names, sizes, hashes and references of
the whole archive are verified before the first file is written, and nothing
of it is executed.
"""

from __future__ import annotations

from collections.abc import Sequence

import launching
from absl import flags

from keras_munet.system import hugging_face_hub

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder to make.", required=True
)


def main(arguments: Sequence[str]) -> None:
    """Makes the system and prints how many tasks it has."""
    url = launching.one_argument(arguments, "hf://OWNER/NAME")
    directory = hugging_face_hub.pull(url, _WORKDIR.value)
    print(f"made {_WORKDIR.value}: {len(directory.tasks())} tasks")


if __name__ == "__main__":
    launching.run_on_paths(main)
