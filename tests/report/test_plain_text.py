from __future__ import annotations

import pytest
import report_samples

from keras_munet import report
from keras_munet.core import classification_metrics
from keras_munet.report import formatting
from keras_munet.report import plain_text


def test_the_text_has_every_part(tmp_path):
    report_samples.build(tmp_path)
    report_samples.write_events(
        tmp_path, report_samples.generation("birds", 1), torn="{"
    )
    lines = report.text(tmp_path).splitlines()
    for part in ("LEADERBOARD", "PARAMETERS", "LINEAGE", "TIME"):
        assert part in lines
    assert "birds      134      10  124        127" in lines
    assert "sum        408                     268" in lines
    tree = lines[lines.index("LINEAGE") + 1 :][:4]
    assert tree == [
        "root",
        "  birds",
        "    cats/wild (via 1 replaced path)",
        "      dogs",
    ]
    assert (
        "3 children trained, 1 improved, 1 without a finite score in 1 "
        in (lines[-1])
    )
    assert any(line.startswith("Note: 1 line of metrics") for line in lines)


def test_a_system_without_published_tasks_says_so(tmp_path):
    report_samples.create(tmp_path)
    text = report.text(tmp_path)
    assert "No task is published yet." in text
    assert "LEADERBOARD" not in text


def test_no_line_is_wider_than_100_columns(tmp_path):
    names = tuple("n" * 118 + f"{i:02}" for i in range(30))
    directory = report_samples.create(tmp_path, names)
    parent = directory.root
    for i, name in enumerate(names):
        head = report_samples.component("head", 3, i)
        refs = [*directory.root.components, directory.objects.put(head)]
        parent = report_samples.publish(directory, name, refs, parent)
    text = report.text(tmp_path)
    lines = text.splitlines()
    assert max(map(len, lines)) == plain_text.NUM_COLUMNS_MAX
    # What tells long names apart is kept, and so are the numbers.
    assert [x.split()[0][-2:] for x in lines if x.startswith("..n")][:30] == [
        f"{i:02}" for i in range(30)
    ]
    assert "[30] " in text


def test_unprintable_characters_cannot_reach_a_terminal(tmp_path):
    directory = report_samples.create(tmp_path)
    report_samples.publish(
        directory, "birds", list(directory.root.components), directory.root
    )
    evil = "\x1b[2J\u202e\nx"
    report_samples.write_events(tmp_path, report_samples.generation(evil, 1))
    text = report.text(tmp_path)
    assert all(line.isprintable() for line in text.splitlines())
    assert r"\x1b[2J\u202e\nx" in text


def test_a_table_aligns_texts_to_the_left_and_numbers_to_the_right():
    assert plain_text.table(["name", "n"], [["a", "1"], ["bcdef", "200"]]) == [
        "name     n",
        "-----  ---",
        "a        1",
        "bcdef  200",
    ]


def test_a_table_without_rows_has_its_header():
    assert plain_text.table(["a", "b"], []) == ["a  b", "-  -"]


@pytest.mark.parametrize(
    "value, shown",
    [
        (0.0, "0.0 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (49_680, "13 h 48 min"),
        (3_600_000, "1,000 h 00 min"),
    ],
)
def test_durations_read_well(value, shown):
    assert formatting.secs(value) == shown


def test_what_is_not_known_is_a_dash():
    assert formatting.fraction(None) == "-"
    assert formatting.count(None) == "-"
    assert formatting.percent(1, 0) == "-"


def test_the_measures_of_a_record_are_shown_and_others_left_out(tmp_path):
    directory = report_samples.create(tmp_path, ("birds", "old"))
    measures = classification_metrics.ClassificationMetrics(
        num_classes=2,
        confusion=((0, 0, 8), (0, 1, 2), (1, 1, 5)),
        log_loss=0.25,
        calibration_error=0.125,
    )
    for task, extra in (("birds", {"test_metrics": measures}), ("old", {})):
        head = report_samples.component("head", 3, len(task))
        refs = [*directory.root.components, directory.objects.put(head)]
        report_samples.publish(directory, task, refs, directory.root, **extra)
    lines = report.text(tmp_path).splitlines()
    start = lines.index("TEST FIGURES")
    cells = lines[start + 3].split()
    assert cells[:5] == ["birds", "15", "0.6212-0.9626", "0.9000", "0.8611"]
    assert cells[5:] == ["-", "0.2500", "-", "0.1250", "-"]
    assert not lines[start + 4].startswith("old")
    assert max(map(len, lines)) <= plain_text.NUM_COLUMNS_MAX
