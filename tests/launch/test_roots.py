"""The launchers of roots as a user meets them."""

from __future__ import annotations

import json
import pathlib
import subprocess

import numpy as np
import pytest
from forked import launch

from keras_munet.models.vit import flops
from keras_munet.roots import hub
from keras_munet.roots import inspection
from keras_munet.roots import root as root_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CONFIG = """
import sys
sys.path.insert(0, {configs!r})
import pretrain_mu

def get_config():
    config = pretrain_mu.get_config()
    config.scripts = ["lao"]
    config.num_draws = 2
    config.num_images_per_draw = 256
    config.batch_size = 64
    return config
"""


def _refused(done: subprocess.CompletedProcess, code: int, part: str) -> None:
    assert done.returncode == code, done.stderr[-2000:]
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and part in lines[0], done.stderr


def test_the_packaged_root_is_shown_with_what_the_search_may_do():
    done = launch("inspect_root", "--root=packaged", "--num_layers=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "packaged mu/8: family vit, 2 layers, 32 x 32 px"
    (block,) = (line for line in lines if line.startswith("encoderblock_1"))
    for part in ("33,472", "17 x 64", "drop below num_layers 2", "adapter"):
        assert part in block
    assert "encoderblock_2" not in done.stdout


def test_costs_are_those_of_the_records():
    root = root_lib.random("Ti/16", num_layers=2, image_size=48)
    layout = [component.spec for component in root.components]
    seen = {row.name: row.multiply_adds for row in inspection.rows(root)}
    assert seen == flops.forward_costs(layout)


def test_a_file_that_does_not_fit_is_shown_with_every_difference(tmp_path):
    root = root_lib.random("mu", num_layers=2)
    root.components[3].weights["mlp_0_bias"][:] = np.nan
    root.components[4].weights["mlp_0_bias"][0] = np.inf
    hub.save(root, tmp_path / "bad")
    done = launch("inspect_root", f"--root=hub:{tmp_path / 'bad'}")
    _refused(done, 1, "does not fit the ViT")
    assert done.stdout.count("expected finite values") == 2
    assert "found 128 that are not" in done.stdout


def test_wrong_commands_are_refused_in_one_line():
    _refused(launch("inspect_root", "--root=file:x"), 2, "root.source")
    _refused(launch("inspect_root", "--root=npz"), 2, "root.path")
    _refused(launch("inspect_root", "--root=hub:./none"), 1, "absent")
    _refused(launch("inspect_root"), 2, "--root")


@pytest.mark.slow
def test_pretraining_writes_a_root_that_can_be_used(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(_CONFIG.format(configs=str(_ROOT / "configs")))
    out = tmp_path / "root"
    flags = f"--config={path}", f"--out={out}", "--quiet"
    done = launch("pretrain", *flags)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
    record = json.loads((out / "pretraining.json").read_text())
    assert record["num_classes"] == 27
    assert 0.0 <= record["validation_accuracy"]["glyphs"] <= 1.0
    assert 0.2 < record["digits_probe"] <= 1.0
    root = hub.from_hub(out, variant="mu/8")
    assert not root.components[-1].weights["kernel"].any()
    start = root_lib.random("mu/8", seed=0)
    pairs = zip(root.components[:-1], start.components[:-1], strict=True)
    for one, two in pairs:
        for name, value in one.weights.items():
            assert (value != two.weights[name]).any()
    _refused(launch("pretrain", *flags), 2, "is in use")
    wrong = f"--config.scripts={['klingon']}"
    done = launch("pretrain", flags[0], wrong, f"--out={out}x")
    assert done.returncode == 2, done.stderr
