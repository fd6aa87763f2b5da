"""The launcher of comparisons as a user meets it."""

from __future__ import annotations

import pathlib
import subprocess

import pytest
from forked import launch

_CONFIG = """
from keras_munet import config as config_lib


def get_config():
    config = config_lib.base()
    config.task_names = ["digits"]
    config.num_task_iters = 1
    config.num_samples_per_task = 1
    config.num_validations_per_path_training = 1
    config.batch_size = 32
    config.num_train_examples_between_validations_max = 32
    config.num_validation_examples_max = 32
    config.root.variant = "mu"
    config.root.num_layers = 1
    config.root.image_size = 16
    return config
"""


def _compare(folder: pathlib.Path, *flags: str) -> subprocess.CompletedProcess:
    """Compares on a tiny experiment, in `folder/work`."""
    (folder / "config.py").write_text(_CONFIG)
    flags = [f"--config={folder}/config.py", f"--workdir={folder}/work", *flags]
    return launch("compare", *flags)


def test_comparing_prints_the_table_and_says_where_the_page_is(tmp_path):
    workdir = tmp_path / "work"
    flags = tmp_path, "--methods=finetune_all", "--seeds=7"
    done = _compare(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "run 1/1, finetune_all seed 7: " in done.stdout
    assert "| finetune_all | 1 of 1 |" in done.stdout
    page = workdir / "comparison.html"
    assert done.stdout.endswith(f"written: {page}\n")
    assert page.is_file()
    text = (workdir / "comparison.md").read_text()
    # A finished comparison is shown again, whatever the deadline.
    again = _compare(*flags, "--deadline_mins=0", "--quiet")
    assert again.returncode == 0
    assert again.stdout == f"{text}\nwritten: {page}\n"


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--methods=mu2net,finetune", ("'finetune'", "finetune_all")),
        ("--seeds=0,one", ("'one'", "whole numbers")),
        ("--deadline_mins=-1", ("deadline_mins",)),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_written(
    flag, parts, tmp_path
):
    done = _compare(tmp_path, flag)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert not (tmp_path / "work").exists()
