"""Records, objects, archives and configs that nobody vouches for.

    python store_fuzz.py FOLDER SEED NUM_CASES [CASE]

Each case is refused in one line by an error of this project, or read rightly:
what is returned would be written as the same bytes. Whatever it is, nothing is
run, nothing outside the folder is touched, no case takes over 20 s, and memory
stays within 1 GiB of what it was. Prints one JSON object of figures; broken
promises end it with a list of them. CASE reads that one alone.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil
import sys
import time
import traceback
import warnings

import fuzz_cases
import fuzz_guard
import store_jobs

from keras_munet import errors
from keras_munet import report
from keras_munet.core import settings as settings_lib
from keras_munet.report import log
from keras_munet.store import archives
from keras_munet.store import check as check_lib
from keras_munet.store import checksummed_json
from keras_munet.store import codec
from keras_munet.store import files as files_lib
from keras_munet.store import layout
from keras_munet.store import merge as merge_lib
from keras_munet.store import repair as repair_lib
from keras_munet.store import system_dir
from keras_munet.system import system as system_lib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "launch"))

import json_config

_NUM_SECS_MAX = 20.0
_NUM_MORE_BYTES_MAX = 1 << 30


class Reader:
    """Does everything that reads, and tells what it made of it.

    Args:
      guard: watches.
      good: a whole system, elsewhere.
    """

    def __init__(self, guard: fuzz_guard.Guard, good: pathlib.Path):
        self._guard = guard
        self._good = good
        self.problems: list[str] = []
        self.counted: dict[str, collections.Counter[str]] = (
            collections.defaultdict(collections.Counter)
        )

    def read(
        self, label: str, case: fuzz_cases.Case, work: pathlib.Path
    ) -> None:
        """Reads a case in every way; `work` is a folder for it alone."""
        shutil.rmtree(work, ignore_errors=True)
        for name, data in case.files.items():
            path = work / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if case.odd == fuzz_cases.ARCHIVE:
            steps = self._archive_steps(work, case)
        elif case.odd == fuzz_cases.CONFIG:
            steps = {"config": lambda: _read_config(work)}
        else:
            steps = self._system_steps(work, case)
        found = [self._done(label, n, s) for n, s in steps.items()]
        word = "read" if all(found) else "refused" if not any(found) else "both"
        self.counted[case.kind][word] += 1

    def _done(self, label: str, name: str, step) -> bool:
        """Whether a step ended without a refusal."""
        num_violations = len(self._guard.violations)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with self._guard.watch(_NUM_SECS_MAX):
                    step()
        except errors.MunetError as error:
            if not str(error).isprintable():
                self._problem(label, name, f"says {str(error)[:200]!a}")
            return False
        except (Exception, fuzz_guard.Hang) as error:
            frames = [
                f"{os.path.basename(f.filename)}:{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)[-4:]
            ]
            self._problem(
                label,
                name,
                f"{type(error).__name__}: {str(error)[:150]!a} {frames}",
            )
            return False
        finally:
            for violation in self._guard.violations[num_violations:]:
                self._problem(label, name, violation)
        return True

    def _problem(self, label: str, name: str, text: str) -> None:
        self.problems.append(f"{label} {name}: {text}")

    def _archive_steps(self, work: pathlib.Path, case: fuzz_cases.Case):
        def bring_in():
            made = work / "made"
            try:
                archives.import_archive(work / "in" / fuzz_cases.ARCHIVE, made)
            except errors.MunetError:
                left = [p for p in made.rglob("*") if p.is_file()]
                assert [p.name for p in left] in ([], [layout.LOCK_FILE]), left
                raise
            system = system_dir.SystemDir.open(made)
            assert system.check() == []
            again = work / "again.tar"
            archives.export_archive(system, again)
            assert again.read_bytes() == case.files[case.odd]
            _print(made)

        return {"import": bring_in}

    def _system_steps(self, work: pathlib.Path, case: fuzz_cases.Case):
        folder = work / "in"

        def opened():
            return system_dir.SystemDir.open(
                files_lib.LocalStorage(folder, durable=False)
            )

        def check():
            for problem in check_lib.find_problems(
                files_lib.open_storage(folder)
            ):
                assert problem.isprintable(), problem

        def load():
            system = opened()
            records = {**system.tasks(), **system.removed()}
            if case.odd == layout.SYSTEM_FILE:
                again = checksummed_json.seal(
                    system._record.to_json(), case.odd
                )
                assert again == case.files[case.odd]
            for record in records.values():
                name = layout.task_file(record.task)
                again = checksummed_json.seal(record.to_json(), name)
                assert again == case.files[name], name
            for state in system.tasks().values():
                system.load_progress(state.task)
                for ref in state.published.components:
                    data = codec.encode(system.objects.get(ref))
                    # Others may write the same component in another order.
                    odd = case.odd.startswith(codec.OBJECTS_DIR)
                    assert odd or codec.object_id(data) == ref.id

        def search():
            system = system_lib.System.open(folder)
            population = system.population()
            for path in population.published.values():
                population.ancestors(path)
                population.accounted_params(path.task, path.components)
            system._runner._todo()

        def show():
            _print(folder)
            html, _ = report.write(folder, work / "report")
            page = pathlib.Path(html).read_text()
            assert "<script>alert" not in page and "<img src=x" not in page

        def lease():
            for task in ("kmnist", "mnist"):
                with opened().lease(task):
                    pass

        def export():
            archives.export_archive(opened(), work / "out.tar")

        def merge():
            target = files_lib.LocalStorage(work / "target", durable=False)
            shutil.copytree(self._good, work / "target")
            merge_lib.merge(system_dir.SystemDir.open(target), opened())
            found = list(check_lib.find_problems(target))
            assert not found, found

        def collect():
            opened().collect()

        def repair():
            files = files_lib.LocalStorage(folder, durable=False)
            list(repair_lib.repair(files, files_lib.open_storage(self._good)))
            collect()

        steps = (check, load, search, show, lease, export, merge, collect)
        return {step.__name__: step for step in (*steps, repair)}


def _print(folder: pathlib.Path) -> None:
    for entry in log.entries(folder):
        for line in log.lines(entry):
            assert line.isprintable(), line
        json.dumps(entry, allow_nan=False)


def _read_config(work: pathlib.Path) -> None:
    config = json_config.get_config(str(work / "in" / fuzz_cases.CONFIG))
    found = settings_lib.Settings.from_dict(config.to_dict())
    again = settings_lib.Settings.from_dict(found.to_json())
    assert again.to_json() == found.to_json()
    assert again.num_generations >= 1


def fuzz(
    folder: pathlib.Path, seed: int, num_cases: int, only: int | None = None
):
    """Reads cases; returns the figures."""
    began = time.monotonic()
    folder = folder.resolve()
    # What a power loss would take is no question here.
    os.fsync = lambda handle: None
    cases = fuzz_cases.Cases(folder / "base")
    # What a merge brings new tasks into.
    good = folder / "good"
    store_jobs.create(good)
    guard = fuzz_guard.Guard(folder)
    reader = Reader(guard, good)
    # Imports what is imported late, before that counts as a violation.
    "\u202e".encode("unicode_escape")
    reader.read("whole", cases.whole, folder / "case")
    reader.problems.clear()
    guard.violations.clear()
    reader.read("whole", cases.whole, folder / "case")
    assert reader.counted.pop("whole") == {"read": 2}, reader.problems
    fuzz_guard.limit_memory(_NUM_MORE_BYTES_MAX)
    num_bytes = fuzz_guard.peak_num_bytes()
    numbers = range(num_cases) if only is None else [only]
    for number in numbers:
        case = cases.made(seed, number)
        reader.read(f"case {number} ({case.kind})", case, folder / "case")
    if reader.problems:
        print("\n".join(reader.problems), file=sys.stderr)
        sys.exit(1)
    return {
        "seed": seed,
        "cases": num_cases,
        "secs": round(time.monotonic() - began, 1),
        "more_mib": (fuzz_guard.peak_num_bytes() - num_bytes) >> 20,
        **{kind: dict(found) for kind, found in reader.counted.items()},
    }


if __name__ == "__main__":
    print(json.dumps(fuzz(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))))
