"""The report as a reader sees it: opened in a headless Chromium."""

from __future__ import annotations

import time

import comparison_samples
import numpy as np
import pytest
import report_browser
import report_large
import report_samples

from keras_munet import compare
from keras_munet import report
from keras_munet.core import child_record
from keras_munet.core import specs
from keras_munet.report import measure_predictions as measuring
from keras_munet.report import predictions
from keras_munet.report import summary as summary_lib
from keras_munet.store import system_dir

CHARTS = {
    *("progress-chart", "tree-chart", "details-curves", "details-confusion"),
    *("sharing-chart", "saved-chart", "parameters-chart", "time-chart"),
}
EVIL = '"><img src=x onerror=hacked=1></script><b>a & b'
# On a busy machine; the benchmark tells what it takes on a quiet one.
LOAD_SECS_MAX = 12.0


def _record(parent_task, *mutations, **more):
    """What made a child that shares, copies and has a fresh head."""
    source = report_samples.OBJECT_ID, parent_task
    parts = [
        ("embedding", "share", False, 10, *source),
        ("encoderblock_0", "share", False, 100, *source),
        ("encoder_norm", "copy", True, 20, *source),
        ("head", "fresh", True, 8, None, None),
    ]
    return child_record.ChildRecord(
        tuple(child_record.ComponentOrigin(*part) for part in parts),
        tuple(child_record.Mutation(*mutation) for mutation in mutations),
        size_factor=0.5,
        accounted_params=77,
        quality=0.8,
        **more,
    ).to_json()


def _child(index, parent, path_id, *, parent_task, **more):
    hparams = {"num_layers": 1, "opt_lr": 0.01 * (1 + index % 3)}
    return {
        **{"index": index, "parent": parent, "parent_task": parent_task},
        **{"path_id": path_id, "hparams": hparams, "improved": True},
        "components": ["embedding", "encoderblock_0", "encoder_norm", "head"],
        "trained": ["encoder_norm", "head"],
        "scores": [0.3, 0.4 + 0.05 * index],
        "losses": [1.5, 0.7],
        "score": 0.4 + 0.05 * index,
        **more,
    }


def _events(directory):
    """Three generations that end in the published paths of the sample."""
    root, states = directory.root, directory.tasks()
    birds, cats, dogs = (
        states[name].published.id for name in ("birds", "cats/wild", "dogs")
    )
    of_root = {"parent_task": specs.NOT_TRAINABLE}
    return [
        report_samples.generation(
            "birds",
            1,
            children=[
                _child(0, root.id, "1" * 24, **of_root),
                _child(1, root.id, birds, **of_root),
                _child(2, root.id, None, **of_root, improved=False),
                _child(
                    *(3, root.id, None), **of_root, improved=False, score=None
                ),
            ],
        ),
        report_samples.generation(
            "cats/wild",
            1,
            children=[
                _child(0, birds, "b" * 24, parent_task="birds"),
                _child(1, "b" * 24, cats, parent_task="cats/wild"),
            ],
        ),
        report_samples.published("cats/wild", 0, "b" * 24),
        report_samples.generation(
            "dogs",
            1,
            children=[
                _child(
                    *(0, cats, dogs),
                    parent_task="cats/wild",
                    record=_record(
                        "cats/wild", ("opt_lr", 0.02, 0.01), duplicate_of=4
                    ),
                )
            ],
        ),
    ]


def _predict(folder, out):
    rng = np.random.default_rng(0)
    address = measuring.address(
        rng.integers(0, 255, (8, 8, 1)).astype(np.uint8)
    )
    predictions.write_predictions(
        out,
        {
            task.name: predictions.Predictions(
                *(task.path_id, 10, 7),
                confusion=((0, 0, 4), (0, 1, 2), (1, 0, 1), (1, 1, 3)),
                samples=(
                    predictions.Sample(address, 0, 0, 0.9),
                    predictions.Sample(address, 0, 1, 0.6),
                ),
            )
            for task in summary_lib.read_summary(folder).tasks
        },
    )


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "<i>system"
    directory = report_samples.build(folder)
    report_samples.write_events(folder, *_events(directory))
    return folder


@pytest.fixture(scope="module")
def file(system, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    compared = tmp_path_factory.mktemp("compared")
    compare.write(comparison_samples.comparison(), compared)
    _predict(system, out)
    report.write(system, out, comparison=compared)
    return out / "report.html"


@pytest.fixture(scope="module")
def launch():
    with report_browser.launching() as made:
        yield made


@pytest.fixture(scope="module")
def browser(launch):
    started = launch()
    yield started
    started.close()


@pytest.fixture
def opened(browser, file):
    made = report_browser.Opened(browser, file)
    yield made
    assert made.said == []
    assert made.asked == []
    made.close()


def _num_points(opened):
    """Returns how many points the tree shows."""
    opened.show("tree-chart")
    return opened.page.evaluate(
        "() => document.getElementById('tree-chart').data"
        ".filter((t) => t.mode === 'markers' && t.name !== 'chosen')"
        ".reduce((n, t) => n + t.x.length, 0)"
    )


def _spot(opened, row_text):
    """Returns where in the window the tree has the point of that hover text."""
    opened.show("tree-chart")
    return opened.page.evaluate(
        """(wanted) => {
          const chart = document.getElementById('tree-chart');
          const {xaxis, yaxis} = chart._fullLayout;
          const box = chart.getBoundingClientRect();
          for (const trace of chart.data) {
            if (trace.mode !== 'markers') continue;
            const i = trace.text.findIndex((t) => t.includes(wanted));
            if (i >= 0) return [
              box.left + xaxis._offset + xaxis.d2p(trace.x[i]),
              box.top + yaxis._offset + yaxis.d2p(trace.y[i]),
            ];
          }
          return null;
        }""",
        row_text,
    )


def _cells(opened):
    """Returns the texts of the table of components."""
    table = "[aria-label='Table: Components of the path'] tbody tr"
    return opened.page.evaluate(
        "(rows) => [...document.querySelectorAll(rows)].map("
        "(row) => [...row.children].map((cell) => cell.innerText))",
        table,
    )


def test_every_panel_is_drawn_and_nothing_is_complained_of(opened):
    assert set(opened.draw()) == CHARTS
    opened.open_all()
    for button in ("Colours: auto", "Colours: light", "Colours: dark"):
        opened.page.click(f"text={button}")
        opened.draw()
    shown = opened.page.inner_text("main")
    for text in ("birds", "0.7500", "65.7% of separate models", "cats/wild"):
        assert text in shown


@pytest.mark.slow
def test_the_page_is_accessible_in_light_and_dark(opened):
    opened.draw()
    opened.open_all()
    for theme in ("light", "dark"):
        opened.page.click("#controls button")
        assert f"Colours: {theme}" in opened.page.inner_text("#controls")
        opened.page.wait_for_timeout(100)
        assert opened.violations() == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 390, 768])
def test_a_narrow_page_never_scrolls_sideways(browser, file, width):
    phone = report_browser.Opened(
        browser, file, viewport={"width": width, "height": 800}, has_touch=True
    )
    phone.draw()
    phone.open_all()
    assert phone.page.evaluate("document.documentElement.scrollWidth") == width
    broken = phone.page.evaluate(
        """() => [...document.querySelectorAll("td:not(.text)")].filter(
          (cell) => {
            // Not a number with a bar below it.
            if (cell.children.length) return false;
            if (!/^[\\d.,]+$/.test(cell.innerText)) return false;
            const range = document.createRange();
            range.selectNodeContents(cell);
            const tops = [...range.getClientRects()].map((r) => r.top);
            return new Set(tops).size > 1;
          },
        ).map((cell) => cell.closest("[aria-label]").ariaLabel + ": " +
          cell.innerText)"""
    )
    assert broken == [], "numbers that are broken over lines"
    assert phone.said == []
    phone.close()


@pytest.mark.slow
def test_a_click_on_a_point_of_the_tree_shows_its_path(opened):
    opened.draw()
    assert opened.heading().startswith("birds, path ")
    opened.page.mouse.click(*_spot(opened, "<b>dogs</b>"))
    opened.until(
        "document.querySelector('#details h3').textContent.startsWith('dogs')"
    )
    shown = opened.page.inner_text("#details")
    for part in (
        *("Mutations", "opt_lr 0.02 → 0.01", "Lineage", "cats/wild, path"),
        *("Curves", "Confusion matrix", "7 of 10 test images"),
        *("Components", "encoderblock_0", "Hyperparameters", "num_layers"),
        *("quality", "0.8000", "size factor", "0.5000", "child 5"),
    ):
        assert part in shown
    assert _cells(opened) == [
        ["embedding", "shared, frozen", "cats/wild 0f0f0f0f", "10", "3"],
        ["encoderblock_0", "shared, frozen", "cats/wild 0f0f0f0f", "100", "2"],
        ["encoder_norm", "copied, trained", "cats/wild 0f0f0f0f", "20", "2"],
        ["head", "fresh, trained", "-", "8", "1"],
    ]


@pytest.mark.slow
def test_what_no_event_records_is_said_to_be_unknown(opened):
    opened.draw()
    assert opened.heading().startswith("birds, path ")
    shown = opened.page.inner_text("#details")
    assert "Unknown: no event records them." in shown
    assert "cloned" not in shown
    assert [cells[1:3] for cells in _cells(opened)] == [
        *[["unknown, frozen", "unknown"]] * 2,
        *[["unknown, trained", "unknown"]] * 2,
    ]


@pytest.mark.slow
def test_filters_choose_what_the_tree_shows(opened):
    opened.draw()
    paths = _num_points(opened)
    opened.page.select_option("#tree-show", "all")
    # One child was no better and one diverged.
    assert _num_points(opened) == paths + 2
    opened.page.select_option("#tree-show", "lines")
    opened.page.select_option("#tree-task", label="birds")
    assert _num_points(opened) == 2
    opened.page.select_option("#progress-task", label="cats/wild")
    opened.show("progress-chart")
    shown = opened.page.evaluate(
        "() => document.getElementById('progress-chart').data"
        ".filter((t) => t.mode === 'markers').flatMap((t) => t.y).length"
    )
    assert shown == 2


@pytest.mark.slow
def test_mutations_stand_on_the_edges_where_there_is_room(opened):
    opened.draw()
    written = opened.page.evaluate(
        "() => document.getElementById('tree-chart').data"
        ".find((t) => t.name === 'tree-edges').text"
    )
    assert any(text.startswith("opt_lr 0.0") for text in written)


@pytest.mark.slow
def test_the_page_works_from_the_keyboard(opened):
    opened.draw()
    page = opened.page
    page.focus("#tree-chart")
    page.keyboard.press("ArrowLeft")
    assert opened.heading() == "The root"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert opened.heading().startswith("birds, path ")
    before = page.evaluate(
        "document.getElementById('tree-chart').layout.xaxis.range"
    )
    page.keyboard.press("+")
    opened.show("tree-chart")
    after = page.evaluate(
        "document.getElementById('tree-chart').layout.xaxis.range"
    )
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2)
    page.focus("#leaderboard thead th:nth-child(2) button")
    page.keyboard.press("Enter")
    first = "#leaderboard tbody tr:first-child th"
    assert page.inner_text(first).startswith("cats/wild")
    page.keyboard.press("Enter")
    assert not page.inner_text(first).startswith("cats/wild")
    page.focus("#leaderboard tbody tr:first-child th button")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "H3"
    page.focus("#tree summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tree details table", state="visible")


@pytest.mark.slow
def test_every_control_is_reached_by_the_tab_key_and_named(opened):
    page = opened.page
    opened.open_all()
    wanted = page.evaluate(
        "() => document.querySelectorAll('button:not(:disabled), select, "
        "input, summary, .wide, #tree-chart').length"
    )
    seen = 0
    page.evaluate("document.body.focus()")
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        seen += 1
    assert seen >= wanted


@pytest.mark.slow
def test_names_are_shown_as_they_are(browser, tmp_path):
    folder = tmp_path / "system"
    directory = report_samples.create(folder, ("birds",))
    head = directory.objects.put(report_samples.component(EVIL, 3, 1))
    path = report_samples.publish(
        directory, "birds", [head], directory.root, class_names=(EVIL, "b")
    )
    child = _child(0, directory.root.id, path.id, parent_task="NOT_TRAINABLE")
    child["hparams"] = {EVIL: EVIL}
    other = {**child, "path_id": None, "index": 1}
    report_samples.write_events(
        folder,
        report_samples.generation("birds", 1, children=[child]),
        report_samples.generation(
            EVIL, 1, children=[other], clock={f"{EVIL}_secs": 1.0}
        ),
    )
    report.write(folder, tmp_path)
    opened = report_browser.Opened(browser, tmp_path / "report.html")
    opened.draw()
    opened.open_all()
    opened.page.select_option("#tree-show", "all")
    assert opened.page.evaluate("typeof hacked") == "undefined"
    assert EVIL in opened.page.inner_text("main")
    assert opened.page.query_selector_all(".chart b, .chart img, main b") == []
    assert opened.said == []
    opened.close()


@pytest.mark.slow
def test_a_live_page_follows_and_stays_as_the_reader_left_it(
    browser, system, tmp_path
):
    report.write(system, tmp_path, live_secs=1)
    opened = report_browser.Opened(browser, tmp_path / "report.html")
    page = opened.page
    page.select_option("#tree-task", label="cats/wild")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, 700)")
    report.write(system, tmp_path, live_secs=0)
    # It may have loaded itself again before the last page was written.
    opened.until("!document.getElementById('controls').innerText.match('Live')")
    opened.wait()
    assert page.evaluate("scrollY") == 700
    chosen = "#tree-task option:checked"
    assert page.inner_text(chosen) == "cats/wild"
    assert opened.said == []
    opened.close()


@pytest.mark.slow
def test_a_live_page_can_be_held(browser, system, tmp_path):
    report.write(system, tmp_path, live_secs=1)
    opened = report_browser.Opened(browser, tmp_path / "report.html")
    opened.page.click("text=Pause")
    opened.page.evaluate("window.before = true")
    opened.page.wait_for_timeout(4_000)
    assert opened.page.evaluate("window.before") is True
    opened.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    report_large.build(folder / "system", num_tasks=40, num_children=10_000)
    report.write(folder / "system", folder)
    return folder / "report.html"


@pytest.mark.slow
def test_10000_paths_load_at_once_and_are_drawn(browser, many):
    started = time.monotonic()
    opened = report_browser.Opened(browser, many)
    secs = time.monotonic() - started
    assert secs < LOAD_SECS_MAX
    opened.draw()
    opened.page.select_option("#tree-show", "all")
    assert _num_points(opened) == 10_001
    kinds = opened.page.evaluate(
        "() => document.getElementById('tree-chart').data.map((t) => t.type)"
    )
    assert "scattergl" in kinds
    assert "WebGL is not supported" not in opened.page.inner_text("main")
    opened.page.fill("#leaderboard-filter", "task_39")
    rows = opened.page.query_selector_all("#leaderboard tbody tr")
    assert [r.inner_text().startswith("family_39/task_39") for r in rows] == [
        True
    ]
    assert opened.said == []
    opened.close()


@pytest.mark.slow
def test_without_a_graphics_processor_the_charts_are_drawn_too(launch, many):
    plain = launch("--disable-3d-apis")
    opened = report_browser.Opened(plain, many)
    opened.draw()
    kinds = opened.page.evaluate(
        "() => document.getElementById('tree-chart').data.map((t) => t.type)"
    )
    assert set(kinds) == {"scatter"}
    assert "WebGL" not in opened.page.inner_text("main")
    opened.close()
    plain.close()


@pytest.mark.slow
def test_a_system_without_tasks_or_events_has_a_page(browser, tmp_path):
    report_samples.create(tmp_path / "system")
    report.write(tmp_path / "system", tmp_path)
    opened = report_browser.Opened(browser, tmp_path / "report.html")
    assert "No task is published yet." in opened.page.inner_text("main")
    assert opened.draw() == ["tree-chart"]
    assert opened.said == []
    opened.close()


@pytest.mark.slow
def test_a_system_whose_events_are_lost_has_a_page(browser, tmp_path):
    report_samples.build(tmp_path / "system")
    assert system_dir.SystemDir.is_system(tmp_path / "system")
    report.write(tmp_path / "system", tmp_path)
    opened = report_browser.Opened(browser, tmp_path / "report.html")
    drawn = opened.draw()
    assert "tree-chart" in drawn and "progress-chart" not in drawn
    # cats/wild descends from a path of which only the id is left.
    assert _num_points(opened) == 5
    assert opened.said == []
    opened.close()
