from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import pathlib
import re
import zlib

import pytest
import report_samples

from keras_munet import errors
from keras_munet import report
from keras_munet.core import fingerprint
from keras_munet.report import events
from keras_munet.report import page
from keras_munet.report import page_data
from keras_munet.report import plotly_js
from keras_munet.report import summary as summary_lib

_VOID = {"meta", "link", "wbr"}


class _Outline(html.parser.HTMLParser):
    """Checks that elements close in order; collects their texts and names."""

    def __init__(self):
        super().__init__()
        self.open, self.names, self.attributes = [], [], []
        self.texts, self.scripts = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        else:
            self.texts.append(data)


def _outline(text):
    parser = _Outline()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def _text(text):
    return "".join(_outline(text).texts)


def _data(text):
    scripts = {a.get("id"): body for a, body in _outline(text).scripts}
    return json.loads(scripts["data"])


def _policy(text):
    return re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]


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
    return page.render_page(summary_lib.read_summary(system))


def test_the_page_is_whole_and_has_every_panel(system):
    text = _render(system)
    shown = _text(text)
    for part in (
        *("Leaderboard", "Accuracy over time", "Evolutionary tree"),
        *("Sharing", "Parameters against accuracy", "Time", "Samples"),
        *("Settings", "268", "65.7% of separate models"),
    ):
        assert part in shown
    ids = [value for name, value in _outline(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_page_asks_nobody_for_anything(system):
    text = _render(system)
    outline = _outline(text)
    assert not {"img", "iframe", "form", "object"} & set(outline.names)
    named = [v for k, v in outline.attributes if k in ("href", "src")]
    assert named == ["data:,"]
    assert not [k for k, _ in outline.attributes if k.startswith("on")]
    policy = _policy(text)
    assert policy.startswith("default-src 'none'; ")
    # No place that a script could send something to, or load it from.
    assert "http" not in policy and "*" not in policy
    css = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in css and "@import" not in css


def test_two_scripts_may_run_and_the_policy_has_their_digests(system):
    text = _render(system)
    (allowed,) = re.findall(r"script-src ([^;]+)", _policy(text))
    running = [body for a, body in _outline(text).scripts if "type" not in a]
    (packed,) = [
        body for a, body in _outline(text).scripts if a.get("id") == "plotly"
    ]
    bodies = [
        zlib.decompress(base64.b64decode(packed)),
        *(body.encode() for body in running),
    ]
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(b).digest()).decode()}'"
        for b in bodies
    ]
    assert allowed.split() == digests
    assert len(running) == 1
    assert b"plotly.js v" in bodies[0][:100]


def test_a_page_of_many_points_may_write_programs_for_graphics(system):
    children = report_samples.generation("birds", 1)["children"]
    many = [{**children[0], "index": i} for i in range(2_000)]
    report_samples.write_events(
        system, report_samples.generation("birds", 1, children=many)
    )
    assert "'unsafe-eval'" in _policy(_render(system))


def test_without_plotly_a_report_says_what_to_do(system, monkeypatch):
    monkeypatch.setattr(plotly_js, "_FILE", pathlib.Path("nowhere.js"))
    plotly_js.script.cache_clear()
    with pytest.raises(errors.UsageError, match="pip install plotly"):
        _render(system)
    plotly_js.script.cache_clear()


def test_hostile_names_stay_text(tmp_path):
    evil = '</td></script><script>alert("x")</script><!--\'&'
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
    events_of["children"][0]["hparams"] = {evil: evil}
    events_of["children"][0]["components"] = [evil]
    report_samples.write_events(folder, events_of)
    text = _render(folder)
    assert len(_outline(text).scripts) == 3
    for name in ("<b>system", "<i>place", "<script>alert", "<!--"):
        assert name not in text
    data = _data(text)
    assert data["tasks"][0]["classes"] == [
        evil,
        r"a\u202eb\n\ud800\x1b[31m",
    ]
    assert data["other_tasks"] == [evil]
    assert evil in data["kinds"].values()
    assert data["points"]["hparams"][evil][0] == [evil]


def test_what_is_odd_about_data_is_shown_as_text(tmp_path):
    directory = report_samples.create(tmp_path / "s")
    digest = fingerprint.digest_text("0" * 64)
    split = fingerprint.SplitFingerprint(3, digest, digest)
    notices = ("train has no image of <b>\x1b[2J", "a single class, 'x'")
    report_samples.publish(
        directory,
        "birds",
        list(directory.root.components),
        directory.root,
        data=fingerprint.DataFingerprint(
            (8, 8, 3), dict.fromkeys(fingerprint.SPLITS, split), notices
        ),
    )
    shown = _render(tmp_path / "s")
    assert "<li>birds: train has no image of &lt;b&gt;\\x1b[2J</li>" in shown
    text = report.text(tmp_path / "s")
    assert "DATA\nbirds: train has no image of <b>\\x1b[2J\n" in text
    assert "birds: a single class, 'x'" in text


def test_json_in_a_page_is_the_value_without_markup():
    value = {"<a>&": ["</script>", "\u2028", 1.5, None, True]}
    text = page_data.to_script(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)
    with pytest.raises(ValueError):
        page_data.to_script({"a": float("nan")})


def test_the_shared_and_own_parameters_of_a_task_are_told(system):
    found = [
        (t["shared"], t["own"], t["params"])
        for t in _data(_render(system))["tasks"]
    ]
    assert found == [(10, 124, 134), (130, 6, 136), (130, 8, 138)]


def test_every_component_in_use_is_told_with_its_tasks(system):
    found = {
        place["name"]: [(c["label"], c["tasks"]) for c in place["components"]]
        for place in _data(_render(system))["places"]
    }
    assert found == {
        "embedding": [("root", [0, 1, 2])],
        "encoderblock_0": [("root", [0]), ("a", [1, 2])],
        "encoder_norm": [("a", [0]), ("b", [1, 2])],
        "head": [("a", [0]), ("b", [1]), ("c", [2])],
    }


def test_a_system_without_published_tasks_gives_a_page_that_says_so(tmp_path):
    report_samples.create(tmp_path)
    text = _render(tmp_path)
    assert "No task is published yet." in _text(text)
    assert "Leaderboard" not in _text(text)


def test_a_first_iteration_that_runs_is_shown_before_any_publication(tmp_path):
    report_samples.create(tmp_path)
    report_samples.write_events(
        tmp_path, report_samples.generation("birds", 1, best_score=None)
    )
    shown = _text(_render(tmp_path))
    assert "No task is published yet." in shown
    assert "Accuracy over time" in shown
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
    history = events.read_history(system)
    assert sum(history.clock.values()) == pytest.approx(history.total_secs)
    told = _data(_render(system))["generations"]
    assert told["clock"] == {
        "train_secs": [6.0, 6.0],
        "validate_secs": [2.0, 2.0],
        "other_secs": [2.0, 2.0],
    }
    assert told["secs"] == [10.0, 10.0]


class _Watched:
    """A job beside a watching report: does one thing at each wait."""

    def __init__(self, *doings):
        self.doings, self.pages = list(doings), []

    def sleep(self, secs):
        assert secs == 7
        self.pages.append(self.page())
        if not self.doings:
            raise KeyboardInterrupt
        self.doings.pop(0)()


def _watch(system, out, *doings):
    job = _Watched(*doings)
    job.page = lambda: _bytes(out / "report.html").decode()
    prepared = []
    job.prepared = prepared

    def watch():
        return report.watch(
            system,
            out,
            every_secs=7,
            prepare=lambda: prepared.append(1),
            sleep=job.sleep,
        )

    return job, watch


def test_a_watched_page_follows_the_job_until_it_is_interrupted(
    system, tmp_path
):
    def one_more():
        with open(system / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(report_samples.generation("dogs", 1)) + "\n")

    job, watch = _watch(system, tmp_path / "out", lambda: None, one_more)
    with pytest.raises(KeyboardInterrupt):
        watch()
    first, same, last = job.pages
    assert first == same != last
    assert _data(first)["live_secs"] == 7
    assert len(_data(last)["generations"]["task"]) == 3
    assert len(job.prepared) == 2
    # An open page that loads the last one stays as it is.
    assert _data(job.page())["live_secs"] == 0


def test_watching_ends_when_nothing_is_to_come(tmp_path):
    directory = report_samples.create(tmp_path, ("birds",))

    def publish():
        refs = list(directory.root.components)
        report_samples.publish(
            directory, "birds", refs, directory.root, num_iterations_done=2
        )

    job, watch = _watch(tmp_path, tmp_path / "out", publish)
    paths = watch()
    assert [_data(p)["live_secs"] for p in job.pages] == [7]
    assert _data(job.page())["live_secs"] == 0
    assert paths[0] == str(tmp_path / "out" / "report.html")
