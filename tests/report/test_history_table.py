"""Every path and child of a system as one table."""

from __future__ import annotations

import pytest
import report_samples

from keras_munet.core import specs
from keras_munet.report import events
from keras_munet.report import history_table

ROOT = specs.PathRecord(
    specs.NOT_TRAINABLE,
    None,
    (0, 0, 0),
    {"opt_lr": 0.01},
    (specs.ComponentRef("embedding", "0", "s", 1),),
)
TASKS = {"birds": 0, "cats": 1}


def _child(index, parent, *, path_id=None, score=0.5, improved=True, **more):
    child = report_samples.generation("birds", 1)["children"][0]
    return {
        **child,
        **{"index": index, "parent": parent, "path_id": path_id},
        **{"score": score, "improved": improved},
        **more,
    }


def _columns(tmp_path, *written, published=()):
    report_samples.write_events(tmp_path, *written)
    history = events.read_history(tmp_path)
    return history_table.columns(history, ROOT, published, TASKS)


def _rows(columns, *names):
    return list(zip(*(columns[name] for name in names), strict=True))


def test_every_child_is_a_row_below_its_parent(tmp_path):
    first, second = "1" * 24, "2" * 24
    found = _columns(
        tmp_path,
        report_samples.generation(
            "birds",
            1,
            children=[
                _child(0, ROOT.id, path_id=first),
                _child(1, ROOT.id, improved=False),
                _child(2, ROOT.id, improved=False, score=None),
            ],
        ),
        report_samples.generation(
            "birds", 2, children=[_child(3, first, path_id=second)]
        ),
    )
    assert _rows(found, "id", "parent", "task", "generation", "status") == [
        (ROOT.id, -1, -1, -1, history_table.ROOT),
        (first, 0, 0, 0, history_table.KEPT),
        (None, 0, 0, 0, history_table.NOT_BETTER),
        (None, 0, 0, 0, history_table.DIVERGED),
        (second, 1, 0, 1, history_table.KEPT),
    ]
    assert found["child"] == [-1, 0, 1, 2, 3]


def test_generations_are_numbered_in_the_order_in_which_they_ended(tmp_path):
    found = _columns(
        tmp_path,
        report_samples.generation("cats", 1, children=[_child(0, ROOT.id)]),
        report_samples.generation("birds", 1, children=[_child(0, ROOT.id)]),
        report_samples.generation("cats", 2, children=[_child(1, ROOT.id)]),
    )
    assert _rows(found, "task", "generation")[1:] == [(1, 0), (0, 1), (1, 2)]


def test_the_last_report_of_a_repeated_generation_has_its_place(tmp_path):
    found = _columns(
        tmp_path,
        report_samples.generation("birds", 1, children=[_child(0, ROOT.id)]),
        report_samples.generation("cats", 1, children=[_child(0, ROOT.id)]),
        report_samples.generation("birds", 1, children=[_child(0, ROOT.id)]),
    )
    assert _rows(found, "task", "generation")[1:] == [(1, 0), (0, 1)]


def test_published_paths_are_told_from_those_that_were_replaced(tmp_path):
    path = specs.PathRecord("birds", ROOT.id, (1, 0, 1), {}, ROOT.components)
    old = "a" * 24
    children = [_child(0, ROOT.id, path_id=old), _child(1, old)]
    children[1]["path_id"] = path.id
    found = _columns(
        tmp_path,
        report_samples.generation("birds", 1, children=children),
        report_samples.published("birds", 0, old),
        published=[path],
    )
    assert _rows(found, "id", "status", "parent")[1:] == [
        (old, history_table.REPLACED, 0),
        (path.id, history_table.PUBLISHED, 1),
    ]


def test_an_event_without_ids_takes_them_from_its_publication(tmp_path):
    child = _child(5, ROOT.id)
    del child["path_id"]
    publication = report_samples.published("birds", 0, "a" * 24)
    publication["path"]["born"] = [3, 0, 5]
    found = _columns(
        tmp_path,
        report_samples.generation("birds", 1, children=[child]),
        publication,
    )
    assert _rows(found, "id", "status")[1:] == [
        ("a" * 24, history_table.REPLACED)
    ]


def test_a_published_path_without_events_is_a_row_all_the_same(tmp_path):
    path = specs.PathRecord(
        *("birds", ROOT.id, (1, 0, 1), {"opt_lr": 0.02}),
        ROOT.components,
        {"score": 0.75},
    )
    found = _columns(tmp_path, published=[path])
    assert _rows(found, "id", "parent", "generation", "score")[1:] == [
        (path.id, 0, -1, 0.75)
    ]
    assert found["hparams"]["opt_lr"] == [[0.01, 0.02], [0, 1]]


def test_a_parent_of_which_nothing_is_left_is_a_row_too(tmp_path):
    lost = "e" * 24
    child = _child(0, lost, parent_task="cats")
    found = _columns(
        tmp_path, report_samples.generation("birds", 1, children=[child])
    )
    assert _rows(found, "id", "parent", "task", "status")[1:] == [
        (None, 2, 0, history_table.KEPT),
        (lost, -1, 1, history_table.UNKNOWN),
    ]


def test_parents_that_go_round_in_a_circle_are_cut(tmp_path):
    a, b = "a" * 24, "b" * 24
    children = [_child(0, b, path_id=a), _child(1, a, path_id=b)]
    found = _columns(
        tmp_path, report_samples.generation("birds", 1, children=children)
    )
    parents = found["parent"]
    for row in range(len(parents)):
        steps = 0
        while row >= 0:
            row, steps = parents[row], steps + 1
            assert steps <= len(parents)
    assert sorted(parents[1:])[0] == -1


def test_lists_of_places_are_kept_once(tmp_path):
    children = [
        _child(i, ROOT.id, components=["embedding", "head"], trained=["head"])
        for i in range(50)
    ]
    found = _columns(
        tmp_path, report_samples.generation("birds", 1, children=children)
    )
    lists = found["place_lists"]
    assert len(lists) == 4  # Also the root's, and none.
    assert {lists[i][-1] for i in found["places"][1:]} == {"head"}
    assert {tuple(lists[i]) for i in found["trained"][1:]} == {("head",)}


def test_a_record_is_shown_as_it_was_written_and_parts_are_kept_once(tmp_path):
    record = report_samples.RECORD.to_json()
    children = [_child(i, ROOT.id, record=record) for i in range(3)]
    children.append(_child(3, ROOT.id))
    found = _columns(
        tmp_path, report_samples.generation("birds", 1, children=children)
    )
    assert found["record"] == [-1, 0, 0, 0, -1]
    assert found["records"] == [
        [
            [0, 1, 2, 3],
            record["mutations"],
            ["residual_adapter_0"],
            ["residual_adapter_1"],
            *(0.97, 55.5, 0.75, 3),
        ]
    ]
    source = report_samples.OBJECT_ID[:8]
    assert found["origins"] == [
        ["embedding", "share", False, 10, source, "root"],
        ["posembed_input", "resample", False, 4, source, "root"],
        ["encoderblock_0", "copy", True, 100, source, "birds"],
        ["head", "fresh", True, 6, None, None],
    ]


@pytest.mark.parametrize(
    "damage",
    [
        {"index": "one"},
        {"index": -1},
        {"path_id": 7},
        {"parent": None},
    ],
)
def test_a_child_of_the_wrong_kind_costs_its_line(tmp_path, damage):
    child = {**_child(0, ROOT.id), **damage}
    report_samples.write_events(
        tmp_path, report_samples.generation("birds", 1, children=[child])
    )
    history = events.read_history(tmp_path)
    assert history.generations == ()
    assert "could not be read whole" in history.notes[0]


def test_numbers_of_any_kind_become_json(tmp_path):
    child = _child(
        *(0, ROOT.id),
        scores=[0.123456789, None, float("inf"), True, "x"],
        losses="none",
        hparams={"a": float("nan"), "b": [1], "c": None, "d": False},
    )
    history = events.History(
        generations=(
            events.Generation(
                *("birds", 0, 1, 1, 0, 0, None, None, 1.0, {}),
                children=(child,),
            ),
        )
    )
    found = history_table.columns(history, ROOT, (), TASKS)
    assert found["scores"][1] == [0.12346, None, None, None, None]
    assert found["losses"][1] == []
    assert {k: v[0] for k, v in found["hparams"].items()} == {
        "a": ["nan"],
        "b": ["[1]"],
        "c": [None],
        "d": [False],
        "opt_lr": [0.01],
    }
