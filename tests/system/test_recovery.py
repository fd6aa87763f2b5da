"""A job that resumes on damage ends where an unharmed one would have."""

from __future__ import annotations

import pathlib

import pytest
import system_samples as samples

import keras_munet
from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import layout
from keras_munet.store import progress_files
from keras_munet.store import references
from keras_munet.store import system_dir

_SETTINGS = samples.settings(
    task_names=["digits"],
    num_task_iters=1,
    num_samples_per_task=6,
    children_per_generation=2,
    num_validations_per_path_training=1,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What an uninterrupted run consists of."""
    workdir = tmp_path_factory.mktemp("finished")
    keras_munet.System.create(workdir, _SETTINGS).run()
    return samples.digests(workdir)


def _interrupted(workdir: pathlib.Path) -> None:
    """Runs two of three generations."""
    asked: list[int] = []
    progress = keras_munet.Progress(
        workdir, quiet=True, stop=lambda: asked.append(1) or len(asked) == 2
    )
    with pytest.raises(KeyboardInterrupt):
        keras_munet.System.create(workdir, _SETTINGS).run(progress=progress)


def _refs(directory, name) -> set[specs.ComponentRef]:
    progress = layout.read_progress(directory.files, name)
    return set(references.component_refs(progress.payload))


def _damage(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "what", [pytest.param("record", marks=pytest.mark.slow), "object"]
)
def test_a_damaged_newest_generation_is_made_again(finished, what, tmp_path):
    _interrupted(tmp_path)
    directory = system_dir.SystemDir.open(tmp_path)
    newest = layout.progress_file("digits")
    if what == "record":
        _damage(tmp_path / newest)
    else:
        before = _refs(directory, layout.previous_file("digits"))
        made = sorted(r.id for r in _refs(directory, newest) - before)
        assert made, "the second generation made nothing that was kept"
        _damage(tmp_path / codec.file_name(made[0]))
    assert directory.check()
    # Metrics tell which generations the second job ran.
    log = tmp_path / "metrics.jsonl"
    log.unlink()
    system = keras_munet.System.open(tmp_path)
    with pytest.warns(RuntimeWarning, match="starts again from the last"):
        system.run(progress=keras_munet.Progress(tmp_path, quiet=True))
    assert log.read_text().count('"event": "generation"') == 2
    assert samples.digests(tmp_path) == finished
    assert system.check() == []


def test_a_run_whose_progress_cannot_be_saved_goes_on(
    finished, tmp_path, monkeypatch
):
    def refuse(files, task, data):
        raise errors.StoreError(f"progress of {task}: the bucket throttles")

    monkeypatch.setattr(progress_files, "save", refuse)
    system = keras_munet.System.create(tmp_path, _SETTINGS)
    with pytest.warns(RuntimeWarning, match="goes on.*throttles") as warned:
        system.run()
    assert len(warned) == 1
    assert samples.digests(tmp_path) == finished
