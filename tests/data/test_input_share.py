"""What input is estimated to cost beside training."""

from __future__ import annotations

import dataclasses

import pytest
import report_samples
import system_samples

import keras_munet
from keras_munet.data import input_share
from keras_munet.data import tasks as tasks_lib
from keras_munet.system import validation

SMALL = input_share.Generation(32, 32, 2, 2_572_928)


@pytest.mark.parametrize(
    ("stored", "jitter", "measured"),
    [
        ((32, 32, 3), False, 0.03),
        ((32, 32, 3), True, 0.08),
        ((160, 160, 3), False, 0.14),
        ((160, 160, 3), True, 0.13),
    ],
)
def test_estimates_are_near_what_the_benchmark_measured(
    stored, jitter, measured
):
    hparams = {"ds_antialias": True}
    if jitter:
        hparams |= {"ds_saturation_delta": 0.1, "ds_hue_delta": 0.1}
    found = input_share.estimated(
        stored, dataclasses.replace(SMALL, hparams=hparams)
    )
    assert abs(found - measured) < 0.04


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        ((64, 64, 3), {}),
        ((48, 32, 3), {}),
        ((32, 32, 3), {"batch_size": 1}),
        ((32, 32, 3), {"num_children": 1}),
        ((32, 32, 3), {"multiply_adds": 1_000}),
        ((32, 32, 3), {"hparams": {"ds_hue_delta": 0.1}}),
        ((32, 32, 3), {"hparams": {"ds_saturation_delta": 0.1}}),
    ],
)
def test_more_input_for_less_training_is_a_larger_share(more, changes):
    before = input_share.estimated((32, 32, 3), SMALL)
    after = input_share.estimated(more, dataclasses.replace(SMALL, **changes))
    assert 0 < before < after < 1


def test_colours_of_grey_pictures_cost_nothing():
    jitter = dataclasses.replace(SMALL, hparams={"ds_hue_delta": 0.1})
    grey = (160, 160, 1)
    assert input_share.estimated(grey, jitter) == input_share.estimated(
        grey, SMALL
    )
    colour = (160, 160, 3)
    late = dataclasses.replace(
        SMALL, hparams={"ds_hue_delta": 0.1, "ds_antialias": True}
    )
    assert input_share.estimated(colour, late) < input_share.estimated(
        colour, jitter
    )


def test_a_notice_says_what_costs_less():
    told = input_share.share_text((480, 480, 3), SMALL)
    assert told.startswith("estimated ")
    assert "480 x 480 x 3" in told
    assert "stored smaller" in told
    assert "stored smaller" not in input_share.share_text((32, 32, 3), SMALL)


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_a_job_prints_a_line_only_for_a_large_share(
    tmp_path, capsys, monkeypatch, limit
):
    monkeypatch.setattr(input_share, "SHARE_MAX", limit)
    settings = system_samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=1,
        num_validations_per_path_training=1,
    )
    system = keras_munet.System.create(tmp_path, settings)
    system.run(progress=keras_munet.Progress())
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if "digits: input is estimated" in line]
    assert len(found) == (limit == 0.0)


def test_nothing_is_estimated_of_models_of_unknown_cost(tmp_path):
    directory = report_samples.create(tmp_path / "system")
    data = tasks_lib.load("digits")
    settings = system_samples.settings()
    assert (
        validation.input_notice(data, settings, object(), directory.root)
        is None
    )
