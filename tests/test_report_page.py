from __future__ import annotations

import html.parser
import os
import pathlib
import re

import pytest
import report_samples

from keras_munet import errors
from keras_munet import report
from keras_munet.report import events
from keras_munet.report import page
from keras_munet.report import summary as summary_lib

_VOID = {"meta", "link", "wbr"}


class _Outline(html.parser.HTMLParser):
    """Checks that elements close in order; collects their texts and names."""

    def __init__(self):
        super().__init__()
        self.open, self.names, self.attributes, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def _outline(text):
    parser = _Outline()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def _text(text):
    return "".join(_outline(text).texts)


def _bytes(path):
    return pathlib.Path(path).read_bytes()


@pytest.fixture
def system(tmp_path):
    folder = tmp_path / "system"
    report_samples.build(folder)
    report_samples.write_events(
        folder,
        report_samples.generation("birds", 1),
        report_samples.published("birds", 0),
        report_samples.generation("birds", 1, 1),
        report_samples.published("birds", 1),
    )
    return folder


def _render(system):
    return page.render(summary_lib.read(system))


def test_the_page_is_whole_and_has_every_part(system):
    shown = _text(_render(system))
    for part in (
        "Leaderboard",
        "Parameters",
        "Sharing",
        "Lineage",
        "Scores over generations",
        "Time",
        "Settings",
        "Class names",
        "cats/wild",
        "0.7500",
        "268",
        "65.7% of separate models",
        "task_names",
        "private",
    ):
        assert part in shown


def test_the_page_asks_nobody_for_anything(system):
    text = _render(system)
    outline = _outline(text)
    assert not {"script", "img", "iframe", "form"} & set(outline.names)
    assert "default-src 'none'" in text
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    named = [v for k, v in outline.attributes if k in ("href", "src")]
    assert named == ["data:,"]
    assert not [k for k, _ in outline.attributes if k.startswith("on")]


def test_hostile_names_stay_text(tmp_path):
    evil = '</td><script>alert("x")</script>\'&'
    folder = tmp_path / "<b>system"
    directory = report_samples.create(folder)
    report_samples.publish(
        directory,
        "birds",
        [directory.objects.put(report_samples.component("<i>place", 3, 1))],
        directory.root,
        class_names=(evil, "a\u202eb\n\ud800\x1b[31m"),
    )
    events_of = report_samples.generation(evil, 1, clock={f"{evil}_secs": 1.0})
    report_samples.write_events(folder, events_of)
    text = _render(folder)
    assert "script" not in _outline(text).names
    assert "<b>system" not in text
    # The page's own bars are `<i class=...>`.
    assert "<i>" not in text
    assert text.count("&lt;script&gt;") >= 3
    assert evil in _text(text)
    assert r"a\u202eb\n\ud800\x1b[31m" in _text(text)


def test_the_bars_of_a_task_are_its_shared_and_own_parameters(system):
    widths = re.findall(
        r'class="shared" style="width:([\d.]+)%"></i>'
        r'<i class="own" style="width:([\d.]+)%',
        _render(system),
    )
    largest = 138
    assert [(float(a), float(b)) for a, b in widths] == [
        pytest.approx((100 * 10 / largest, 100 * 124 / largest), abs=0.01),
        pytest.approx((100 * 130 / largest, 100 * 6 / largest), abs=0.01),
        pytest.approx((100 * 130 / largest, 100 * 8 / largest), abs=0.01),
    ]


def test_shared_components_are_marked(system):
    found = re.findall(
        r'<td( class="several")? title="[^"]*">(\w+)</td>', _render(system)
    )
    assert [(bool(s), label) for s, label in found] == [
        *[(True, "root")] * 3,
        *[(False, "root"), (True, "a"), (True, "a")],
        *[(False, "a"), (True, "b"), (True, "b")],
        *[(False, "a"), (False, "b"), (False, "c")],
    ]


def test_the_lineage_is_nested(system):
    text = _render(system)
    tree = text[text.index('<div class="tree"') :]
    tree = re.sub(r"\s+|<wbr>", "", tree[: tree.index("</div>")])
    assert "<ul><li>root<ul><li>birds<ul><li>cats/wild" in tree
    assert tree.count("<ul>") == tree.count("</ul>") == 4


def test_a_system_without_published_tasks_gives_a_page_that_says_so(tmp_path):
    report_samples.create(tmp_path)
    text = _render(tmp_path)
    assert "No task is published yet." in _text(text)
    assert "Leaderboard" not in text


def test_a_first_iteration_that_runs_is_shown_before_any_publication(tmp_path):
    report_samples.create(tmp_path)
    report_samples.write_events(
        tmp_path, report_samples.generation("birds", 1, best_score=None)
    )
    shown = _text(_render(tmp_path))
    assert "No task is published yet." in shown
    assert "Scores over generations" in shown
    assert "Task iteration 1 of birds is not published" in shown


def test_writing_gives_both_files_and_says_where(system, tmp_path):
    out = tmp_path / "new" / "folder"
    paths = report.write(system, out)
    assert paths == [str(out / "report.html"), str(out / "report.txt")]
    assert sorted(os.listdir(out)) == ["report.html", "report.txt"]
    assert (out / "report.txt").read_text() == report.text(system) + "\n"
    assert (out / "report.html").read_text() == _render(system)


def test_writing_again_gives_equal_bytes_and_keeps_other_files(
    system, tmp_path
):
    (tmp_path / "mine.txt").write_text("mine")
    first = [_bytes(p) for p in report.write(system, tmp_path)]
    second = [_bytes(p) for p in report.write(system, tmp_path)]
    assert first == second
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["file/out", "link"])
def test_a_folder_that_cannot_be_written_is_a_store_error(
    system, tmp_path, place
):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(errors.StoreError) as raised:
        report.write(system, tmp_path / place)
    assert "\n" not in str(raised.value)
    assert "copy of the system" not in str(raised.value)


def test_a_report_leaves_the_system_as_it_was(system):
    def files():
        return {
            os.path.join(folder, name)
            for folder, _, found in os.walk(system)
            for name in found
        }

    before = files()
    report.text(system)
    _render(system)
    assert files() == before


def test_times_add_up_on_the_page(system):
    history = events.read(system)
    assert sum(history.clock.values()) == pytest.approx(history.total_secs)
    shown = _text(_render(system))
    assert "12.0 s" in shown
    assert "60.0%" in shown
