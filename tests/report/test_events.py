from __future__ import annotations

import dataclasses
import json

import pytest
import report_samples

from keras_munet.callbacks import progress
from keras_munet.report import events
from keras_munet.report import summary as summary_lib

generation = report_samples.generation
published = report_samples.published


def _read(tmp_path, *records, torn=""):
    report_samples.write_events(tmp_path, *records, torn=torn)
    return events.read_history(tmp_path)


def _keys(history):
    return [(g.task, g.iteration, g.number) for g in history.generations]


def test_the_file_is_the_one_that_jobs_write(tmp_path):
    assert events.METRICS_FILE == progress.METRICS_FILE
    assert events.FORMAT_VERSION_MAX == progress.FORMAT_VERSION
    job = progress.Progress(tmp_path, quiet=True)
    event = generation("birds", 1)
    job.end_generation(
        task="birds",
        iteration=0,
        number=1,
        num_generations=4,
        children=event["children"],
        best_score=0.5,
        clock=event["clock"],
        secs=10.0,
    )
    history = events.read_history(tmp_path)
    assert _keys(history) == [("birds", 0, 1)]
    assert history.notes == ()


def test_an_event_of_a_newer_program_costs_a_note(tmp_path):
    newer = {**generation("birds", 2), "format_version": 2}
    history = _read(tmp_path, generation("birds", 1), newer)
    assert _keys(history) == [("birds", 0, 1)]
    assert history.notes[0].startswith("1 line of metrics.jsonl")


def test_generations_that_a_stop_rule_spared_are_told(tmp_path):
    def ended(task, num, secs):
        return {
            "event": "ended_early",
            "format_version": 1,
            "task": task,
            "iteration": 0,
            "reason": "no better score in 2 generations",
            "num_generations_spared": num,
            "secs_spared": secs,
        }

    history = _read(
        tmp_path,
        generation("birds", 1),
        # Told again by a job that was killed after it.
        ended("birds", 3, 29.0),
        ended("birds", 3, 30.0),
        ended("fish", 1, 1.4),
    )
    assert history.notes == (
        "2 task iterations ended early: 4 generations, about 31 s, were spared",
    )
    damaged = _read(tmp_path, ended("birds", "many", 1.0))
    assert damaged.notes[0].startswith("1 line of metrics.jsonl")


def test_children_and_seconds_add_up(tmp_path):
    history = _read(
        tmp_path,
        *(generation("birds", n) for n in (1, 2)),
        published("birds", 0),
    )
    assert history.num_children == 6
    assert history.num_improved == 2
    assert history.num_failed == 2
    assert history.total_secs == pytest.approx(20.0)
    assert history.clock == pytest.approx(
        {"train_secs": 12.0, "validate_secs": 4.0, "other_secs": 4.0}
    )
    assert history.generations[0].best_child_score == 0.5


def test_generations_are_sorted_by_task_iteration_and_number(tmp_path):
    history = _read(
        tmp_path,
        generation("birds", 1, 1),
        generation("cats", 1),
        generation("birds", 2),
        generation("birds", 1),
    )
    assert _keys(history) == [
        ("birds", 0, 1),
        ("birds", 0, 2),
        ("birds", 1, 1),
        ("cats", 0, 1),
    ]
    assert history.num_repeated == 0


def test_the_last_report_of_a_repeated_generation_counts(tmp_path):
    history = _read(
        tmp_path,
        generation("birds", 1),
        generation("birds", 2, best_score=0.1),
        generation("birds", 2, best_score=0.9),
        published("birds", 0),
        published("birds", 0),
    )
    assert _keys(history) == [("birds", 0, 1), ("birds", 0, 2)]
    assert history.generations[1].best_score == 0.9
    assert history.num_repeated == 1
    assert history.total_secs == pytest.approx(20.0)
    assert "more than once" in history.notes[0]


def test_a_generation_repeated_after_its_publication_counts_once(tmp_path):
    once = [generation("birds", 1), published("birds", 0)]
    history = _read(tmp_path, *once, *once)
    assert _keys(history) == [("birds", 0, 1)]
    assert history.num_repeated == 1


@pytest.mark.parametrize("num_chars", [1, 5, 40, 200])
def test_a_torn_last_line_is_said_and_left_out(tmp_path, num_chars):
    torn = json.dumps(generation("birds", 2))[:num_chars]
    history = _read(tmp_path, generation("birds", 1), torn=torn)
    assert _keys(history) == [("birds", 0, 1)]
    assert len(history.notes) == 1
    assert "1 line of metrics.jsonl" in history.notes[0]


def test_an_event_that_continues_a_torn_line_is_found(tmp_path):
    torn = json.dumps(generation("birds", 2), sort_keys=True)[:150]
    whole = json.dumps(generation("birds", 3), sort_keys=True)
    history = _read(tmp_path, generation("birds", 1), torn=f"{torn}{whole}\n")
    assert _keys(history) == [("birds", 0, 1), ("birds", 0, 3)]
    assert "1 line of metrics.jsonl" in history.notes[0]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "null",
        "[" * 50_000,
        '{"a":' * 50_000,
        "9" * 5_000,
        '{"event": "generation"}',
        '{"event": "published", "task": 3}',
        json.dumps(generation("birds", "2")),
        json.dumps(generation("birds", -1)),
        json.dumps(generation("birds", 10**9)),
        json.dumps(generation("birds", 2, generation_secs=float("nan"))),
        json.dumps(generation("birds", 2, generation_secs=10**400)),
        json.dumps(generation("birds", 2, children=[{"score": 1.0}])),
        json.dumps(generation("birds", 2, children=7)),
        "\x00\x01",
    ],
)
def test_a_line_that_is_no_event_costs_a_note_only(tmp_path, line):
    history = _read(tmp_path, generation("birds", 1), torn=line + "\n")
    assert _keys(history) == [("birds", 0, 1)]
    assert len(history.notes) == 1


@pytest.mark.parametrize(
    "clock",
    [
        {"train_secs": "long"},
        {"train_secs": None},
        {"train_secs": -15.9, "input_secs": 16.0},
        {"train_secs": 6.0, "input_secs": 4.5},
        {"train_secs": 10**400},
        {"train_secs": True},
        ["train_secs"],
        None,
        7,
    ],
)
def test_times_that_cannot_be_right_cost_a_note_and_no_generation(
    tmp_path, clock
):
    history = _read(
        tmp_path,
        generation("birds", 1),
        generation("birds", 2, clock=clock),
        generation("birds", 3, clock=clock),
    )
    assert _keys(history) == [("birds", 0, n) for n in (1, 2, 3)]
    assert history.num_children == 9
    (note,) = history.notes
    assert note.startswith("2 lines of metrics.jsonl")
    assert "times" in note
    assert "(first: line 2)" in note
    told = history.clock
    assert min(told.values()) >= 0
    assert sum(told.values()) == pytest.approx(30.0)


def test_rounded_times_may_be_a_little_longer_than_the_generation(tmp_path):
    clock = {f"kind_{n}_secs": 1.001 for n in range(10)}
    history = _read(tmp_path, generation("a", 1, clock=clock))
    assert history.notes[0].startswith("1 line")
    clock = {f"kind_{n}_secs": 1.0005 for n in range(10)}
    history = _read(tmp_path, generation("a", 1, clock=clock))
    assert history.notes == ()
    assert history.generations[0].clock == clock


@pytest.mark.parametrize(
    "record",
    [{}, [], 7, "fresh", {"components": [["head", "fresh", True, 1, 2, 3]]}],
)
def test_a_record_that_is_none_leaves_the_child_with_an_unknown_origin(
    tmp_path, record
):
    event = generation("birds", 2)
    event["children"][1]["record"] = record
    good = report_samples.RECORD
    event["children"][2]["record"] = good.to_json()
    history = _read(tmp_path, generation("birds", 1), event)
    assert [g.records for g in history.generations] == [
        [None, None, None],
        [None, None, good],
    ]
    (note,) = history.notes
    assert note.startswith("1 line of metrics.jsonl")
    assert "(first: line 2)" in note


def test_children_that_share_the_training_of_an_equal_one_are_counted(tmp_path):
    event = generation("birds", 1)
    record = report_samples.RECORD
    for child, first in zip(event["children"], (None, 0, None), strict=True):
        changed = dataclasses.replace(record, duplicate_of=first)
        child["record"] = changed.to_json()
    assert _read(tmp_path, event).num_duplicates == 1


def test_what_a_child_trains_is_told_with_and_without_a_record(tmp_path):
    event = generation("birds", 1)
    event["children"][1]["record"] = report_samples.RECORD.to_json()
    del event["children"][2]["trained"]
    (found,) = _read(tmp_path, event).generations
    assert [events.parts(child) for child in found.children] == [
        {"embedding": False, "head": True},
        {
            "embedding": False,
            "posembed_input": False,
            "encoderblock_0": True,
            "head": True,
        },
        None,
    ]


def test_a_note_names_the_first_line_that_it_is_about(tmp_path):
    good = json.dumps(generation("birds", 1))
    lines = [good, "{torn", "", good[:-9], good, '{"event": "generation"}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    history = events.read_history(tmp_path)
    assert _keys(history) == [("birds", 0, 1)]
    assert history.notes[0] == (
        "3 lines of metrics.jsonl could not be read whole (first: line 2); "
        "the rest is shown"
    )


def test_bytes_that_are_no_text_cost_a_note_only(tmp_path):
    report_samples.write_events(tmp_path, generation("birds", 1))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\xfe{\n")
    history = events.read_history(tmp_path)
    assert _keys(history) == [("birds", 0, 1)]
    assert len(history.notes) == 1


def test_events_of_other_kinds_are_passed_over(tmp_path):
    history = _read(tmp_path, {"event": "started", "anything": [1]})
    assert history == events.History()


def test_an_absent_file_is_said(tmp_path):
    history = events.read_history(tmp_path)
    assert history.generations == ()
    assert "there is no metrics.jsonl" in history.notes[0]


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert "cannot be read" in events.read_history(tmp_path).notes[0]


def test_the_history_of_several_jobs_is_one(tmp_path):
    folder = tmp_path / "events"
    folder.mkdir()
    report_samples.write_events(
        tmp_path, {**generation("birds", 1), "time": 1000.0}, torn="{"
    )
    first = {**generation("birds", 2, best_score=0.1), "time": 1001.0}
    again = {**generation("birds", 2, best_score=0.9), "time": 1002.0}
    # The job that took the task over began before the other one ended.
    for name, event in (("0" * 15 + "1", again), ("0" * 16, first)):
        (folder / f"{name}.jsonl").write_text(json.dumps(event) + "\n{torn\n")
    history = events.read_history(tmp_path)
    assert _keys(history) == [("birds", 0, 1), ("birds", 0, 2)]
    assert history.generations[1].best_score == 0.9
    files = [note.split(" could")[0] for note in history.notes[:3]]
    assert sorted(files) == [
        "1 line of events/0000000000000000.jsonl",
        "1 line of events/0000000000000001.jsonl",
        "1 line of metrics.jsonl",
    ]


def test_an_iteration_that_is_not_published_is_said(tmp_path):
    report_samples.build(tmp_path)
    report_samples.write_events(
        tmp_path,
        generation("cats/wild", 1, 1),
        generation("cats/wild", 2, 1),
        generation("new", 1),
    )
    assert summary_lib.read_summary(tmp_path).notes == (
        "task iteration 2 of cats/wild is not published: 2 generations of it "
        "are done",
        "task iteration 1 of new is not published: 1 generation of it is done",
    )


def _ranked(**changes):
    return {
        "event": "ranked",
        "format_version": 1,
        "task": "birds",
        "iteration": 0,
        "num_train_examples": 100,
        "paths": [
            {"path_id": "a" * 24, "task": "cats/wild", "accuracy": 0.75},
            {"path_id": "b" * 24, "task": "NOT_TRAINABLE", "accuracy": 0.5},
        ],
        "ranking_secs": 0.5,
        **changes,
    }


def test_the_last_ranking_of_a_task_iteration_counts(tmp_path):
    report_samples.write_events(
        tmp_path,
        _ranked(),
        _ranked(iteration=1),
        _ranked(paths=[{"task": "dogs", "accuracy": 1}]),
    )
    history = events.read_history(tmp_path)
    assert [(r.iteration, len(r.paths)) for r in history.rankings] == [
        (0, 1),
        (1, 2),
    ]
    assert history.rankings[0].paths == (("dogs", 1.0),)
    assert not history.notes


@pytest.mark.parametrize(
    "changes",
    [
        {"task": 7},
        {"iteration": -1},
        {"paths": None},
        {"paths": [["cats", 0.5]]},
        {"paths": [{"task": "cats", "accuracy": "much"}]},
        {"paths": [{"task": "cats", "accuracy": float("nan")}]},
    ],
)
def test_a_ranking_of_the_wrong_kind_costs_a_note(changes, tmp_path):
    report_samples.write_events(tmp_path, _ranked(), _ranked(**changes))
    history = events.read_history(tmp_path)
    assert len(history.rankings) == 1
    assert len(history.notes) == 1


def test_cpu_seconds_are_known_where_the_event_tells_them(tmp_path):
    report_samples.write_events(
        tmp_path,
        report_samples.generation("birds", 1, cpu_secs=1.5),
        report_samples.generation("birds", 2, cpu_secs=None),
        report_samples.generation("birds", 3),
    )
    history = events.read_history(tmp_path)
    assert [g.cpu_secs for g in history.generations] == [1.5, None, None]
    assert not history.notes
