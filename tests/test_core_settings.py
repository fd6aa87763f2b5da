"""Settings survive the file they are kept in."""

from __future__ import annotations

import dataclasses
import json

from keras_munet.core import settings as settings_lib


def test_settings_round_trip_through_json():
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": ["a", "private:b"],
            "root": {"variant": "B/16"},
            "ranges": {"num_layers": [0, 1]},
        }
    )
    saved = json.loads(json.dumps(settings.to_json()))
    again = settings_lib.Settings.from_dict(saved)
    assert dataclasses.replace(again, data=settings.data) == settings
