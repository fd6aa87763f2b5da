"""Uploads a system to the Hugging Face Hub.

    python launch/push.py hf://OWNER/NAME[@BRANCH] --workdir=DIR
        [--license=apache-2.0] [--private] [--include_private]

The repository gets an archive, `system.tar`, and a model card, in one commit;
`pull` makes a system of it. Log in first with `hf auth login`, or set
HF_TOKEN.
"""

from __future__ import annotations

from collections.abc import Sequence

import launching
from absl import flags

from keras_munet.store import system_dir
from keras_munet.system import hugging_face_hub

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The system's directory.", required=True
)
_LICENSE = flags.DEFINE_string(
    "license",
    hugging_face_hub.OTHER_LICENSE,
    "The licence of the system, as the Hub spells it; the card states those "
    "of data and root.",
)
_PRIVATE = flags.DEFINE_bool(
    "private", False, "Upload to a private repository, or create it as one."
)
_INCLUDE_PRIVATE = flags.DEFINE_bool(
    "include_private", False, "Upload private tasks too."
)


def main(arguments: Sequence[str]) -> None:
    """Uploads the system and prints the commit's URL."""
    commit = hugging_face_hub.push(
        system_dir.SystemDir.open(_WORKDIR.value),
        launching.one_argument(arguments, "hf://OWNER/NAME"),
        license_id=_LICENSE.value,
        private=_PRIVATE.value,
        include_private=_INCLUDE_PRIVATE.value,
    )
    print(f"pushed {_WORKDIR.value}: {commit}")


if __name__ == "__main__":
    launching.run_on_paths(main)
