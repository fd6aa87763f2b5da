"""A system as people look at it: in a shell, a table and a notebook."""

from __future__ import annotations

import dataclasses
import json

import pytest

import keras_munet
from keras_munet import errors
from keras_munet.store import event_log
from keras_munet.system import records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def system(folder):
    """A system of one task."""
    return keras_munet.evolve(folder / "runs" / "first", ["digits"], quiet=True)


def test_a_system_is_read_as_a_collection_of_tasks(system):
    assert repr(system) == f"<System {system._dir.where}, 1 task: digits>"
    assert (len(system), list(system), bool(system)) == (1, ["digits"], True)
    assert "digits" in system
    assert "greek" not in system and 3 not in system and [] not in [*system]
    info = system["digits"]
    path = system.tasks["digits"].published
    assert (info.path_id, info.parent_task) == (path.id, None)
    assert info.num_params == path.num_params
    assert info.class_names == tuple("0123456789")
    assert system["private:digits"] == info
    with pytest.raises(errors.UsageError, match="digits"):
        system["greek"]


def test_an_empty_system_is_no_false_one(tmp_path):
    settings = keras_munet.Settings(task_names=("digits",))
    made = keras_munet.System.create(tmp_path / "run", settings)
    assert (len(made), bool(made), list(made)) == (0, True, [])
    assert repr(made).endswith(", 0 tasks>")
    assert made.history() == [] and made.sharing() == []
    assert "<tbody></tbody>" in made._repr_html_()


def test_records_are_frozen_and_read_as_dicts(system):
    measured = system.evaluate()["digits"]
    info = system["digits"]
    for record in (measured, info):
        names = [field.name for field in dataclasses.fields(record)]
        assert list(record) == names and len(record) == len(names)
        assert record[names[0]] == getattr(record, names[0])
        assert dict(record) == {n: getattr(record, n) for n in names}
        assert json.loads(json.dumps(record.to_json())).keys() == set(names)
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.score = 1.0
        with pytest.raises(KeyError):
            record["to_json"]
    assert measured["test_accuracy"] == measured.test_accuracy
    assert measured.test_metrics["num_examples"] == 359


def test_the_history_is_one_record_per_child(system):
    history = system.history()
    assert [child["child"] for child in history] == list(range(len(history)))
    assert {child["task"] for child in history} == {"digits"}
    assert any(
        child["path_id"] == system["digits"].path_id for child in history
    )
    assert all(json.loads(json.dumps(c)) == c for c in history)
    assert {"opt_lr", "num_layers", "score", "loss"} <= history[0].keys()
    assert len({tuple(child) for child in history}) == 1


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"event": "generation"}',
        '{"event": "generation", "task": [], "iteration": 0, "number": 0, '
        '"children": [{"index": 0}]}',
        '{"event": "generation", "task": "a", "iteration": 0, "number": 0, '
        '"children": [{"index": 0, "losses": 3}]}',
    ],
)
def test_a_damaged_line_of_the_log_is_left_out(system, line, tmp_path):
    made = keras_munet.System.create(
        tmp_path / "run", keras_munet.Settings(task_names=("digits",))
    )
    log = (system._dir.files.read(event_log.METRICS_FILE, 1 << 20)).decode()
    # A generation that was done twice counts once.
    text = f"{line}\n{log}{line}\n{log}"
    (tmp_path / "run" / event_log.METRICS_FILE).write_text(text)
    assert made.history() == system.history()


def test_sharing_counts_each_component_once(system):
    sharing = system.sharing()
    used = sum(component["num_params"] for component in sharing)
    assert used == system["digits"].num_params
    assert {c["place"] for c in sharing} == {
        ref.name for ref in system.tasks["digits"].published.components
    }
    ids = {ref.id for ref in system.root.components}
    assert all(c["from_root"] == (c["component_id"] in ids) for c in sharing)


def test_a_notebook_shows_the_tasks_with_names_escaped(system):
    html = system._repr_html_()
    assert html.count("<tr>") == 2
    assert "<td>digits</td><td>root</td><td>10</td>" in html
    assert "&lt;System" not in html and "<th>validation accuracy</th>" in html
    hostile = dataclasses.replace(system["digits"], name="<script>\x1b[2J")
    shown = records.leaderboard_html("a & b", [hostile], "auc")
    assert "<script>" not in shown and "\x1b" not in shown
    assert "a &amp; b" in shown


def test_evolve_has_the_checks_of_the_launcher(system, folder, tmp_path):
    for arguments, words in (
        ((tmp_path / "x", ["digist"]), "did you mean digits"),
        ((tmp_path / "x", "digits"), "task_names is 'digits'"),
        ((tmp_path / "x", []), "task_names is empty"),
        ((folder / "runs" / "first", ["digits"], {"seed": 3}), "seed"),
        ((tmp_path / "x", ["digits"], {"preset": "tiny"}), "preset"),
    ):
        *first, options = (*arguments, {}) if len(arguments) == 2 else arguments
        with pytest.raises(errors.UsageError, match=words):
            keras_munet.evolve(*first, quiet=True, **options)
        assert not (tmp_path / "x" / "system.json").exists()
