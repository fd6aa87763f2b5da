"""The methods of a comparison beside a system, as a report reads them."""

from __future__ import annotations

import json

import comparison_samples
import pytest

from keras_munet import compare
from keras_munet import errors
from keras_munet.report import comparison_points


def _written(tmp_path):
    made = comparison_samples.comparison()
    compare.write(made, tmp_path)
    return made


def test_every_run_is_read_as_it_was_written(tmp_path):
    made = _written(tmp_path)
    found = comparison_points.read_points(tmp_path)
    assert found["name"] == made.name
    assert found["tasks"] == list(made.task_names)
    assert [(r["method"], r["seed"]) for r in found["runs"]] == [
        (run.method, run.seed) for run in made.runs
    ]
    for read, run in zip(found["runs"], made.runs, strict=True):
        assert read["test"] == [task.test for task in run.tasks]
        assert read["secs"] == [12.5] * 3
        assert read["cpu_secs"] == [20.5] * 3
        assert read["params"] == [task.accounted_params for task in run.tasks]


def test_a_folder_without_a_comparison_is_a_usage_error(tmp_path):
    with pytest.raises(errors.UsageError, match=r"launch/compare\.py"):
        comparison_points.read_points(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.update(format_version=2),
        lambda record: record["runs"][0]["tasks"].pop(),
        lambda record: record["runs"][0].update(seed="0"),
        lambda record: record["runs"][0]["tasks"][0].update(test=None),
        lambda record: record["runs"][0]["tasks"][0].update(test=1.5),
        lambda record: record["runs"][0]["tasks"][0].update(test=-0.5),
        lambda record: record.update(runs=7),
        lambda record: record.pop("name"),
    ],
)
def test_a_damaged_comparison_is_refused_whole(tmp_path, damage):
    _written(tmp_path)
    file = tmp_path / comparison_points.FILE
    record = json.loads(file.read_text())
    damage(record)
    file.write_text(json.dumps(record))
    with pytest.raises(errors.StoreError, match="damaged or of another"):
        comparison_points.read_points(tmp_path)
