"""A job has one program, and engines go on with each other's systems."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import system_samples as samples

import keras_munet
from keras_munet.core import devices

_GLYPHS = "private:glyphs/digits", "private:glyphs/greek"
_PROGRAM = devices.Devices("one_device", devices.PROGRAM)
_LAYERWISE = devices.Devices("one_device", devices.LAYERWISE)


def _run(workdir, asked):
    """Runs what is left of a system; returns it."""
    system = keras_munet.System.open(workdir)
    progress = keras_munet.Progress(workdir, quiet=True)
    assert system.run(strategy=asked, progress=progress)
    return system


def _events(workdir):
    lines = [
        line
        for path in sorted(pathlib.Path(workdir).glob("**/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [
        event
        for event in map(json.loads, lines)
        if event["event"] == "generation"
    ]


@pytest.mark.slow
def test_a_job_of_three_tasks_traces_its_program_once(tmp_path):
    settings = samples.settings(
        task_names=[
            "digits",
            "private:glyphs/digits",
            "private:glyphs/greek",
        ],
        num_samples_per_task=6,
        children_per_generation=2,
        num_validations_per_path_training=1,
        search={"mutate_adapters": True},
    )
    keras_munet.System.create(tmp_path, settings)
    system = _run(tmp_path, _PROGRAM)
    trainer = system._runner.executor(_PROGRAM).trainer
    (runner,) = trainer._engine.runners
    assert runner.num_traces == 1
    events = _events(tmp_path)
    assert len(events) == 3 * 2 * 3
    assert {event["engine"] for event in events} == {"program"}
    trained = [child for event in events for child in event["children"]]
    depths = {child["hparams"]["num_layers"] for child in trained}
    places = {place for child in trained for place in child["trained"]}
    assert len(depths) > 1
    assert any("adapter" in place for place in places)
    # Of each child a call for its one cycle; the rest measures test data.
    assert runner.num_calls >= len(trained)
    assert system.check() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [(_LAYERWISE, _PROGRAM), (_PROGRAM, _LAYERWISE)]
)
def test_what_one_engine_began_the_other_ends(first, second, tmp_path):
    one = samples.settings(task_names=["digits"], compute_dtype="float32")
    both = samples.settings(compute_dtype="float32")
    for name, asked in (("alone", first), ("mixed", second)):
        workdir = tmp_path / name
        keras_munet.System.create(workdir, one)
        _run(workdir, first)
        system = keras_munet.System.create_or_open(workdir, both)
        system.run(strategy=asked, progress=keras_munet.Progress(workdir))
    alone, mixed = (
        keras_munet.System.open(tmp_path / name) for name in ("alone", "mixed")
    )
    assert mixed.check() == []
    for name, state in alone.tasks.items():
        published = mixed.tasks[name].published
        assert published.created_in == state.published.created_in
        assert published.hparams == state.published.hparams
        quality = state.published.metrics["quality"]
        assert published.metrics["quality"] == quality
        for ref, other in zip(
            state.published.components, published.components, strict=True
        ):
            values = mixed._dir.objects.get(other).weights
            for key, value in alone._dir.objects.get(ref).weights.items():
                np.testing.assert_allclose(values[key], value, atol=2e-3)
