"""Packs the files of a host: a wheel, the launchers, the requirements.

Invariant: plain `tensorflow` is never among what a host installs.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

from keras_munet import errors

SOURCES = "sources.tar.gz"
REQUIREMENTS = "requirements.txt"
_FOLDERS = "launch", "configs"
# Systems of pods live in buckets, tasks without files need the other.
_EXTRAS = "gcs", "embedded"
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


def write_archives(
    project: pathlib.Path, folder: pathlib.Path, wheel: str
) -> list[str]:
    """Writes the files that a host is sent.

    Args:
      project: the project's folder.
      folder: where they are written.
      wheel: of the project; empty builds one.

    Returns:
      The paths, the wheel first.

    Raises:
      UsageError: there is no such wheel, or none can be built.
    """
    wheel_file = pathlib.Path(wheel) if wheel else _built(project, folder)
    try:
        needed = _requirements(wheel_file)
    except (OSError, StopIteration, zipfile.BadZipFile) as error:
        raise errors.UsageError(
            f"--wheel={wheel_file} is no wheel ({error}); leave the flag out "
            "to have one built"
        ) from error
    requirements = folder / REQUIREMENTS
    requirements.write_text("".join(f"{line}\n" for line in needed))
    sources = folder / SOURCES
    with tarfile.open(sources, "w:gz") as archive:
        for name in _FOLDERS:
            archive.add(project / name, name, filter=_without_caches)
    return [str(wheel_file), str(sources), str(requirements)]


def _built(project: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    process = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", str(folder), str(project)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        words = " ".join(process.stderr.split())
        raise errors.UsageError(
            f"no wheel can be built from {project}: {words[-200:]}; build one "
            "elsewhere and name it in --wheel"
        )
    return wheels[0]


def _requirements(wheel: pathlib.Path) -> list[str]:
    """Returns what a wheel needs, but for TensorFlow itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = []
    for line in lines:
        if not line.startswith("Requires-Dist: "):
            continue
        what, _, condition = line.removeprefix("Requires-Dist: ").partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)", condition)
        match = _REQUIREMENT.match(what)
        if extra and extra[1] not in _EXTRAS:
            continue
        if match and match[0].lower() != "tensorflow":
            needed.append(what.strip())
    return needed


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info
