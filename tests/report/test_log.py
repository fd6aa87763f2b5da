from __future__ import annotations

import json

import pytest
import report_samples

from keras_munet import errors
from keras_munet.report import log
from keras_munet.store import system_dir


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "system"
    directory = report_samples.build(folder)
    directory.publish(_again(directory))
    directory.remove("dogs")
    report_samples.write_events(
        folder,
        report_samples.published("birds", 0, path_id="b" * 24),
        report_samples.generation("cats/wild", 1),
    )
    return folder


def _again(directory):
    return directory.tasks()["cats/wild"]


def _text(workdir, task=None):
    return [
        line
        for entry in log.entries(workdir, task)
        for line in log.lines(entry)
    ]


def test_every_path_is_told_with_its_ancestors(workdir):
    directory = system_dir.SystemDir.open(workdir)
    birds = directory.tasks()["birds"].published
    cats = directory.tasks()["cats/wild"].published
    found = {e["task"]: e for e in log.entries(workdir) if e["entry"] == "task"}
    assert list(found) == ["birds", "cats/wild"]
    assert found["cats/wild"]["path_id"] == cats.id
    assert found["cats/wild"]["ancestors"] == [
        {"path_id": "b" * 24, "task": "birds", "living": False},
        {"path_id": birds.id, "task": "birds", "living": True},
        {
            "path_id": directory.root.id,
            "task": "NOT_TRAINABLE",
            "living": True,
        },
    ]


def test_the_text_says_the_same_in_lines(workdir):
    directory = system_dir.SystemDir.open(workdir)
    birds = directory.tasks()["birds"].published
    cats = directory.tasks()["cats/wild"].published
    root = directory.root.id[:8]
    lines = _text(workdir)
    assert lines[0] == f"root {root}, random"
    at = lines.index(
        f"cats/wild: path {cats.id[:8]}, 1 iteration, test 0.7500, born in "
        "the system's iteration 2"
    )
    assert lines[at + 1 : at + 5] == [
        "    from bbbbbbbb of birds, replaced since",
        f"    from {birds.id[:8]} of birds",
        f"    from {root} of the root",
        "    iteration 1 generation 1: 3 children, 1 improved, 1 failed, "
        "best score 0.5000, 10.0 s",
    ]
    assert "dogs: removed after 1 iteration" in lines


def test_where_components_come_from_is_read_from_the_records(workdir):
    assert "        components: unknown" in _text(workdir)
    event = report_samples.generation("cats/wild", 1)
    for child in event["children"]:
        child["record"] = report_samples.RECORD.to_json()
    report_samples.write_events(workdir, event)
    assert (
        "        components: 3 shared, 3 copied, 3 resampled, 3 fresh"
        in _text(workdir)
    )
    (entry,) = (e for e in log.entries(workdir) if e["entry"] == "generation")
    assert [child["index"] for child in entry["children"]] == [0, 1, 2]
    assert entry["children"][0]["record"] == report_samples.RECORD.to_json()
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_each_entry_is_plain_json(workdir):
    for entry in log.entries(workdir):
        assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_one_task_alone_is_told(workdir):
    for task in ("birds", "private:birds"):
        kinds = [
            (e["entry"], e.get("task")) for e in log.entries(workdir, task)
        ]
        assert kinds == [("root", None), ("task", "birds")]
    kinds = [(e["entry"], e.get("task")) for e in log.entries(workdir, "dogs")]
    assert kinds == [("root", None), ("removed", "dogs")]
    with pytest.raises(errors.UsageError, match="no task 'cows'"):
        list(log.entries(workdir, "cows"))


def test_lineage_is_told_without_the_events(workdir):
    (workdir / "metrics.jsonl").unlink()
    lines = _text(workdir)
    assert "    from bbbbbbbb of an unknown task, replaced since" in lines
    assert lines[-1].startswith("note: there is no metrics.jsonl")


def test_what_others_wrote_stays_on_its_line(tmp_path):
    system_dir.SystemDir.create(
        tmp_path / "s",
        experiment={},
        family={},
        root_components=[report_samples.component("a", 1, 0)],
        root_hparams={},
        root_source="x\n\x1b[2Jy\u202e",
    )
    (line,) = (li for li in _text(tmp_path / "s") if li.startswith("root"))
    assert line.isprintable()
    assert line.endswith(r"x\n\x1b[2Jy\u202e")


def test_a_folder_without_a_system_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="no system"):
        list(log.entries(tmp_path))
