"""launch/export.py --verify and launch/serve_config.py as a user meets them."""

from __future__ import annotations

import export_samples
import numpy as np
import pytest
from forked import launch

from keras_munet.export import golden_outputs


def test_verifying_says_what_was_compared_and_fails_on_one_bit(tmp_path):
    out = tmp_path / "served"
    system = export_samples.system(tmp_path / "system", {"a": 3}, num_layers=0)
    for _ in range(2):
        system.export(out, versioned=True)
    done = launch("export", "--verify", f"--out={out}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{out}/2: 7 outputs equal to {out}/2",
        f"{out}/2: 7 outputs equal to {out}/1",
    ]
    with np.load(out / "1" / golden_outputs.FILE) as kept:
        arrays = dict(kept)
    arrays["values"] = np.nextafter(arrays["values"], np.float32(9))
    np.savez(out / "1" / golden_outputs.FILE, **arrays)
    done = launch("export", "--verify", f"--out={out}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 7 of 7 outputs")


@pytest.mark.slow
def test_verifying_all_asks_what_was_not_recorded(tmp_path):
    tasks = dict.fromkeys("abcdefghij", 2)
    export_samples.system(tmp_path / "system", tasks, num_layers=0)
    flags = (f"--workdir={tmp_path}/system", f"--tasks={','.join(tasks)}")
    for out, verify in {"some": "sample", "whole": "all"}.items():
        done = launch(
            *("export", *flags),
            *(f"--out={tmp_path}/{out}", f"--verify={verify}"),
        )
        assert (done.returncode, done.stderr) == (0, "")
    done = launch("export", "--verify=all", f"--out={tmp_path}/some")
    assert done.stdout == (
        f"{tmp_path}/some: 40 outputs equal to {tmp_path}/some, "
        "10 within 1e-5\n"
    )
    done = launch("export", "--verify", f"--out={tmp_path}/whole")
    assert done.stdout == (
        f"{tmp_path}/whole: 70 outputs equal to {tmp_path}/whole\n"
    )


def test_verifying_another_part_is_refused(tmp_path):
    export_samples.system(tmp_path / "system", {"a": 2}, num_layers=0)
    for given in ([], [f"--workdir={tmp_path}/system"]):
        done = launch(
            *("export", *given, "--verify=most", f"--out={tmp_path}/other")
        )
        assert done.returncode == 2
        assert "use sample or all" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_command_without_a_system_is_refused(tmp_path):
    done = launch("export", f"--out={tmp_path}/served")
    assert done.returncode == 2
    assert "--workdir" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_servers_files_are_written(tmp_path):
    out = tmp_path / "config"
    done = launch(
        "serve_config", "--models=munet=/models/munet", f"--out={out}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in out.iterdir()) == [
        "batching.config",
        "models.config",
    ]
    assert 'base_path: "/models/munet"' in (out / "models.config").read_text()
    for models, named in {
        "munet": "NAME=FOLDER",
        "a=/x,a=/y": "names 'a' twice",
        "a=models/x": "gs://",
    }.items():
        done = launch("serve_config", f"--models={models}", f"--out={out}")
        assert done.returncode == 2
        assert named in done.stderr
        assert len(done.stderr.splitlines()) == 1
