"""The launchers as a user meets them: exit codes, lines, files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import system_samples as samples
from forked import launch

import keras_munet
from keras_munet.core import settings as settings_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CONFIG = (
    "import ml_collections\n"
    "from keras_munet import config as config_lib\n"
    "def get_config():\n"
    "    config = config_lib.base()\n"
    "    config.update({settings!r})\n"
    "    return config\n"
)


def _launch_anew(name: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(_ROOT / "launch" / f"{name}.py"), *flags],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )


def _config(folder: pathlib.Path, **changes) -> str:
    """Writes a config file of a tiny experiment; returns its flag."""
    settings = samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=2,
        children_per_generation=2,
        num_validations_per_path_training=1,
    ).to_json()
    del settings["ranges"]
    settings.update(changes)
    path = folder / "config.py"
    path.write_text(_CONFIG.format(settings=settings))
    return f"--config={path}"


def _refused(done: subprocess.CompletedProcess, code: int, *parts: str):
    """Asserts one clear line, its exit code, and no traceback."""
    assert done.returncode == code, done.stderr[-2000:]
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture(scope="module")
def evolved(tmp_path_factory):
    """A finished system with the output of the job that made it."""
    folder = tmp_path_factory.mktemp("launch")
    workdir = folder / "system"
    done = _launch_anew("evolve", _config(folder), f"--workdir={workdir}")
    return folder, workdir, done


def test_evolving_prints_progress_and_no_start_up_noise(evolved):
    _, workdir, done = evolved
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "round 1/1: digits" in done.stdout
    assert "generation 1/1: " in done.stdout
    assert "digits: test accuracy " in done.stdout
    events = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    assert [e["event"] for e in events] == ["generation", "published"]
    assert events[0]["clock"]["compile_secs"] > 0


def test_evolving_a_finished_system_says_so_and_exits_0(evolved):
    folder, workdir, _ = evolved
    before = samples.digests(workdir)
    done = launch("evolve", _config(folder), f"--workdir={workdir}")
    assert done.returncode == 0
    assert "is finished: nothing left to do" in done.stdout
    assert samples.digests(workdir) == before


def test_evaluating_writes_equal_bytes_every_time(evolved, tmp_path):
    _, workdir, _ = evolved
    texts = []
    for name in ("a.json", "b.json"):
        out = tmp_path / name
        done = launch("evaluate", f"--workdir={workdir}", f"--out={out}")
        assert done.returncode == 0, done.stderr
        texts.append(out.read_bytes())
    assert texts[0] == texts[1]
    measured = json.loads(texts[0])["digits"]
    assert set(measured) == {
        *("accounted_params", "measure", "num_layers", "num_params"),
        *(
            "path_id",
            "score",
            "test_accuracy",
            "test_metrics",
            "validation_accuracy",
        ),
    }


def test_exporting_and_reporting_say_where_things_are(evolved, tmp_path):
    _, workdir, _ = evolved
    out = tmp_path / "served"
    done = launch("export", f"--workdir={workdir}", f"--out={out}")
    assert (done.returncode, done.stdout) == (0, f"SavedModel: {out}\n")
    done = launch("report", f"--workdir={workdir}", f"--out={tmp_path}/r")
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
    assert (tmp_path / "r" / "report.html").is_file()


def test_the_home_folder_in_a_path_is_the_home_folder(evolved, monkeypatch):
    folder, workdir, _ = evolved
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    home = f"~/{workdir.name}"
    done = launch(
        *("evolve", "--config=~/config.py", f"--workdir={home}"),
    )
    assert done.returncode == 0, done.stderr
    done = launch("evaluate", f"--workdir={home}", "--out=~/found.json")
    assert done.returncode == 0, done.stderr
    assert "digits" in json.loads((folder / "found.json").read_text())
    assert not (folder / "~").exists()


def test_an_unknown_task_is_refused(tmp_path):
    config = _config(tmp_path, task_names=["digitz"])
    workdir = tmp_path / "system"
    done = launch("evolve", config, f"--workdir={workdir}")
    _refused(done, 2, "'digitz'", "digits")
    assert not workdir.exists()


def test_a_misspelt_config_key_is_refused(tmp_path):
    workdir = tmp_path / "system"
    done = launch(
        "evolve", _config(tmp_path), "--config.sede=1", f"--workdir={workdir}"
    )
    _refused(done, 2, "sede", "seed")
    assert not workdir.exists()


def test_a_misspelt_flag_is_refused(tmp_path):
    done = launch("evolve", _config(tmp_path), "--workdri=x")
    _refused(done, 2, "workdri")


@pytest.mark.parametrize("launcher", ["evolve", "dry_run"])
def test_help_lists_every_config_key_with_its_default(launcher):
    done = launch(launcher, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for prefix, record in (
        ("", settings_lib.Settings()),
        ("search.", settings_lib.SearchSettings()),
        ("root.", settings_lib.RootSettings()),
        ("data.", settings_lib.DataSettings()),
    ):
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            if field.name in ("search", "root", "data", "hparams"):
                continue
            start = f"  {prefix}{field.name}={value!r}: "
            (line,) = (text for text in lines if text.startswith(start))
            assert len(line) > len(start)
            assert len(line) <= 120
    for key, value in settings_lib.DEFAULT_HPARAMS.items():
        (line,) = (
            t for t in lines if t.startswith(f"  hparams.{key}={value!r}")
        )
        assert line[-1] not in ":= "
    assert "  --workdir: " in done.stdout or launcher == "dry_run"


def test_a_config_takes_an_argument_after_a_colon(tmp_path):
    config = _config(tmp_path)
    path = pathlib.Path(config.partition("=")[2])
    path.write_text(
        path.read_text()
        .replace("get_config()", "get_config(task)")
        .replace(
            "    return config",
            "    config.task_names = [task]\n    return config",
        )
    )
    workdir = tmp_path / "system"
    done = launch("evolve", f"{config}:digitz", f"--workdir={workdir}")
    _refused(done, 2, "'digitz'")


@pytest.mark.parametrize("program", ["1 +", "import nothing_there", "1 / 0"])
def test_a_config_that_fails_is_refused_with_its_place(program, tmp_path):
    path = tmp_path / "config.py"
    path.write_text(f"def get_config():\n    return 1\n{program}\n")
    done = launch("evolve", f"--config={path}", f"--workdir={tmp_path}/s")
    _refused(done, 2, f"--config={path}, line")


def test_an_unknown_strategy_is_refused_before_anything_is_written(tmp_path):
    workdir = tmp_path / "system"
    done = launch(
        "evolve", _config(tmp_path), f"--workdir={workdir}", "--strategy=gpu"
    )
    _refused(done, 2, "'gpu'", "one_device")
    assert not workdir.exists()


def test_an_experiment_without_tasks_is_refused(tmp_path):
    done = launch(
        "evolve", _config(tmp_path, task_names=[]), f"--workdir={tmp_path}/s"
    )
    _refused(done, 2, "task_names")
    assert not (tmp_path / "s").exists()


def test_a_missing_flag_is_refused():
    _refused(launch("evaluate"), 2, "workdir")


def test_a_config_value_of_the_wrong_kind_is_refused(tmp_path):
    done = launch(
        "evolve",
        _config(tmp_path),
        "--config.batch_size=many",
        f"--workdir={tmp_path}/system",
    )
    _refused(done, 2, "batch_size")


def test_a_missing_config_file_is_refused(tmp_path):
    done = launch(
        "evolve",
        f"--config={tmp_path}/nothing.py",
        f"--workdir={tmp_path}/system",
    )
    _refused(done, 2, "nothing.py")


def test_a_workdir_of_another_experiment_is_refused(evolved):
    folder, workdir, _ = evolved
    before = samples.digests(workdir)
    done = launch(
        "evolve", _config(folder, batch_size=32), f"--workdir={workdir}"
    )
    _refused(done, 2, "batch_size", "32", "64")
    assert samples.digests(workdir) == before


def test_a_workdir_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    done = launch("evolve", _config(tmp_path), f"--workdir={tmp_path}/mine")
    _refused(done, 2, "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_workdir_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = launch(
        "evolve", _config(tmp_path), f"--workdir={tmp_path}/file/system"
    )
    _refused(done, 1, "file")


def test_a_corrupt_component_file_is_refused(evolved, tmp_path):
    _, workdir, _ = evolved
    copied = tmp_path / "system"
    shutil.copytree(workdir, copied)
    state = keras_munet.System.open(copied).tasks["digits"]
    component = state.published.components[-1].id
    path = copied / "objects" / component[:2] / f"{component}.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    out = tmp_path / "served"
    done = launch("export", f"--workdir={copied}", f"--out={out}")
    _refused(done, 1, component[:8], "damaged")
    assert not out.exists()
    done = launch("evaluate", f"--workdir={copied}")
    _refused(done, 1, component[:8], "damaged")


def _evolve_bangla(folder: pathlib.Path) -> subprocess.CompletedProcess:
    """Evolves a TFDS task from the files in `folder/manual`."""
    return launch(
        "evolve",
        _config(folder, task_names=["cmaterdb/bangla"]),
        f"--workdir={folder}/system",
        f"--config.data.manual_dir={folder}/manual",
        f"--config.data.data_dir={folder}/tfds",
    )


def test_missing_data_files_are_refused(tmp_path):
    (tmp_path / "manual").mkdir()
    done = _evolve_bangla(tmp_path)
    _refused(done, 1, "cmaterdb/bangla")
    assert not (tmp_path / "system").exists()


def test_data_files_with_a_wrong_checksum_are_refused(tmp_path):
    folder = tmp_path / "manual" / "cmaterdb" / "bangla"
    folder.mkdir(parents=True)
    for name in ("training-images.npz", "testing-images.npz"):
        np.savez(folder / name, images=np.zeros(3))
    done = _evolve_bangla(tmp_path)
    _refused(done, 1, "images.npz", "SHA-256")
    assert not (tmp_path / "tfds" / "cmaterdb").exists()


def test_a_directory_without_a_system_is_refused(tmp_path):
    for name in ("evaluate", "report"):
        _refused(launch(name, f"--workdir={tmp_path}"), 2, "no system")


def test_a_full_or_read_only_disk_is_refused(tmp_path):
    # /proc and /sys take no files, whoever asks.
    done = launch("evolve", _config(tmp_path), "--workdir=/sys/munet")
    _refused(done, 1, "/sys/munet")


def test_an_interrupt_that_was_swallowed_still_stops_after_a_generation():
    asked = []
    progress = keras_munet.Progress(
        quiet=True, stop=lambda: asked.append(1) or len(asked) == 2
    )
    report = {
        "task": "a",
        "iteration": 0,
        "number": 1,
        "num_generations": 2,
        "children": [],
        "best_score": None,
        "clock": {},
        "secs": 1.0,
    }
    progress.end_generation(**report)
    with pytest.raises(KeyboardInterrupt):
        progress.end_generation(**report)


def test_interrupting_exits_130_and_the_same_command_continues(tmp_path):
    flags = [
        _config(tmp_path, num_task_iters=300),
        f"--workdir={tmp_path}/system",
    ]
    command = [sys.executable, str(_ROOT / "launch" / "evolve.py"), *flags]
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in job.stdout:
        if "round 2/300" in line:
            job.send_signal(2)
            break
    _, stderr = job.communicate(timeout=240)
    assert job.returncode == 130
    *notes, last = stderr.strip().splitlines()
    assert last == "interrupted; the same command continues"
    # It may come where nothing can be raised, which Python then tells.
    assert not notes or notes[0].startswith("Exception ignored "), notes
