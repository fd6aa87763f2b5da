"""What is known before a system is written: its tasks and their data."""

from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.data import tasks
from keras_munet.system import validation


def _settings(**changes):
    return settings_lib.Settings.from_dict(
        {"task_names": ["digits"], "root": {"image_size": 80}, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 80),
        ({"ranges": {"ds_image_size": [48, 80, 112]}}, 112),
        ({"ranges": {"ds_image_size": [48, 64, 80]}}, 80),
        # The published range of v1 ends there.
        ({"search": {"version": "munet"}}, 384),
        (
            {
                "search": {"version": "munet"},
                "ranges": {"ds_image_size": [80]},
            },
            80,
        ),
    ],
)
def test_data_are_stored_for_the_largest_input_that_can_be_reached(
    changes, expected, monkeypatch
):
    asked = []
    load = tasks.load

    def spied(name, **options):
        asked.append(options["image_size"])
        return load(name, **options)

    monkeypatch.setattr(tasks, "load", spied)
    data = validation.load_tasks(["private:digits"], _settings(**changes))
    assert list(data) == ["digits"]
    assert asked == [expected]


def test_a_task_that_is_not_prepared_names_the_size_to_prepare_it_for(
    tmp_path,
):
    changes = {"data": {"data_dir": str(tmp_path)}}
    with pytest.raises(errors.DataError, match="is not prepared") as caught:
        validation.load_tasks(["dtd"], _settings(**changes))
    assert "prepare dtd --image_size=80 --data_dir=" in str(caught.value)
