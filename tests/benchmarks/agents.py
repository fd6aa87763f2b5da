"""Several agents against one on the same tasks: time, scores, updates.

    python tests/benchmarks/agents.py data|one|agents --folder=DIR

Eight small tasks: the five that come with the install and halves of three
alphabets, as images of one's own, which `data` alone makes. `one` runs
`launch/evolve.py` as anybody would, `agents` runs `launch/agents.py`; both in
new systems below DIR, which keeps the tasks' data. Prints a JSON object:
seconds from the start of the command to its end, the mean test accuracy, and
what was counted.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import measuring
from PIL import Image

from keras_munet.data import tasks as tasks_lib
from keras_munet.data.own import prepare
from keras_munet.store import event_reader
from keras_munet.store import system_dir

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HALVED = ("glyphs/latin", "glyphs/cyrillic", "glyphs/greek")
_EMBEDDED = (
    *("digits", "glyphs/cyrillic", "glyphs/digits", "glyphs/greek"),
    "glyphs/latin",
)
_NUM_PER_CLASS = 80


def main() -> None:
    """Runs one side of the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("data", "one", "agents"))
    parser.add_argument("--num_agents", type=int, default=4)
    parser.add_argument("--num_rounds", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    asked = parser.parse_args()
    data_dir = asked.folder / "data"
    names = [*_EMBEDDED, *_halves(asked.folder, data_dir)]
    if asked.side == "data":
        return
    workdir = asked.folder / asked.side
    shutil.rmtree(workdir, ignore_errors=True)
    config = f"{_ROOT / 'configs' / 'own_images.py'}:{','.join(names)}"
    command = [
        *(sys.executable, "", f"--config={config}", f"--workdir={workdir}"),
        f"--config.data.data_dir={data_dir}",
        # As configs/quickstart.py has it: letters have a left and a right.
        "--config.hparams.ds_flip_left_right=False",
        "--config.num_train_examples_between_validations_max=512",
        f"--config.num_task_iters={asked.num_rounds}",
    ]
    program = "evolve.py"
    if asked.side == "agents":
        program = "agents.py"
        command.append(f"--num_agents={asked.num_agents}")
    command[1] = str(_ROOT / "launch" / program)
    started = time.perf_counter()
    with open(asked.folder / f"{asked.side}.log", "w") as log:
        subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=True
        )
    secs = time.perf_counter() - started
    result = _result(workdir, names)
    result.update(
        side=asked.side, num_rounds=asked.num_rounds, secs=round(secs, 1)
    )
    if asked.side == "agents":
        result["num_agents"] = asked.num_agents
    print(json.dumps({**result, "header": measuring.header()}))


def _halves(folder: pathlib.Path, data_dir: pathlib.Path) -> list[str]:
    """Returns the names of tasks made of half of each alphabet."""
    names = []
    for task in _HALVED:
        name = f"own/half_{task.partition('/')[2]}"
        names.append(name)
        if (folder / "images" / name).exists():
            continue
        train = tasks_lib.load(task).train
        for label in range(max(train.labels) // 2 + 1):
            place = folder / "images" / name / f"letter_{label:02}"
            place.mkdir(parents=True)
            images = train.images[train.labels == label][:_NUM_PER_CLASS]
            for number, image in enumerate(images):
                Image.fromarray(image.squeeze()).save(place / f"{number}.png")
        prepare.prepare_task(
            f"folder:{folder / 'images' / name}",
            str(data_dir),
            name=name,
        )
    return names


def _result(workdir: pathlib.Path, names: list[str]) -> dict[str, object]:
    """Returns the scores, and how many updates there were and are left."""
    directory = system_dir.SystemDir.open(workdir)
    problems = directory.check()
    states = directory.tasks()
    events = [
        line.event
        for line in event_reader.read_events(directory.files)
        if line.event
    ]
    return {
        "mean_test_accuracy": round(
            statistics.mean(
                state.published.metrics["test_quality"]
                for state in states.values()
            ),
            4,
        ),
        "num_tasks": len(names),
        "num_published": len(states),
        "num_publications": sum(e["event"] == "published" for e in events),
        "num_generations": sum(e["event"] == "generation" for e in events),
        "problems": problems,
    }


if __name__ == "__main__":
    main()
