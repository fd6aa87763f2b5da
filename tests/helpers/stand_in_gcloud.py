"""Takes gcloud's place: records what it is asked and plays a small cloud.

The folder in MUNET_CLOUD holds `asked` (one JSON list of words per line),
`state` (of the one TPU there may be; absent without one), `label` (that it was
created with), `fails` (words; a command that has one of them fails), `late` (of
those that fail after their work), `race` (who creates a TPU of that name first
has this label) and `home`, the home folder of the only
host, new with each TPU, in which commands for hosts run for real.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys


def main(words: list[str]) -> int:
    """Plays one command; returns its exit code."""
    cloud = pathlib.Path(os.environ["MUNET_CLOUD"])
    with open(cloud / "asked", "a") as file:
        file.write(json.dumps(words) + "\n")
    state, fails = cloud / "state", cloud / "fails"
    action = words[3]
    if fails.exists() and set(words) & set(fails.read_text().split()):
        print(
            "ERROR: (gcloud) RESOURCE_EXHAUSTED: no\n  more v3", file=sys.stderr
        )
        return 1
    home, label, race = cloud / "home", cloud / "label", cloud / "race"
    late = cloud / "late"
    if action == "create" and race.exists():
        race.rename(label)
        state.write_text("ACTIVE")
        print("ERROR: (gcloud) ALREADY_EXISTS: the resource", file=sys.stderr)
        return 1
    if action == "create":
        shutil.rmtree(home)
        label.write_text(
            next((w for w in words if w.startswith("--labels=")), "=").split(
                "="
            )[-1]
        )
        home.mkdir()
        after = cloud / "state_after_create"
        state.write_text(after.read_text() if after.exists() else "ACTIVE")
    elif not state.exists():
        print("ERROR: (gcloud) NOT_FOUND: Resource not found", file=sys.stderr)
        return 1
    elif action == "describe" and words[-1].endswith(".munet_owner)"):
        print(label.read_text() if label.exists() else "")
    elif action == "describe":
        print(state.read_text())
    elif action == "delete":
        state.unlink()
        label.unlink(missing_ok=True)
    elif action == "scp":
        for name in words[4:]:
            if os.path.isfile(name):
                shutil.copy(name, home)
    elif action == "ssh":
        command = next(w for w in words if w.startswith("--command="))
        return subprocess.run(
            ["bash", "-c", command.removeprefix("--command=")],
            env={**os.environ, "HOME": str(home)},
            cwd=home,
            check=False,
        ).returncode
    if late.exists() and set(words) & set(late.read_text().split()):
        print("ERROR: (gcloud) DEADLINE_EXCEEDED", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
