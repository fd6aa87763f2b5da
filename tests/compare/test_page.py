"""What a comparison says: spreads, paired statements, tables, page, plot."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import json
import re

import comparison_samples as samples
import numpy as np
import pytest

from keras_munet import compare as report
from keras_munet.compare import markdown
from keras_munet.compare import page
from keras_munet.compare import plot
from keras_munet.compare import significance
from keras_munet.compare import statements


def test_a_spread_is_over_all_values_with_n_minus_1():
    found = significance.spread([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.2)
    assert (found.low, found.high) == (0.5, 0.9)


def test_one_value_has_no_standard_deviation_and_none_no_spread():
    assert significance.spread([0.5]).sd is None
    assert significance.spread([]) is None


def test_the_sign_flip_p_counts_every_pattern():
    differences = np.array([0.3, -0.1, 0.25, 0.05, 0.2])
    seen = abs(differences.sum())
    sums = [
        abs(np.dot(signs, differences))
        for signs in itertools.product((1, -1), repeat=5)
    ]
    wanted = sum(total >= seen - 1e-9 for total in sums) / 32
    assert significance.sign_flip_p(differences) == wanted


def test_the_sign_flip_p_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    differences = rng.normal(0.4, 1.0, 12)
    wanted = stats.permutation_test(
        (differences,),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=False,
    ).pvalue
    assert significance.sign_flip_p(differences) == pytest.approx(wanted)


def test_many_pairs_are_drawn_and_agree_with_all_patterns():
    rng = np.random.default_rng(4)
    differences = rng.normal(0.25, 1.0, 20)
    exact = significance.sign_flip_p(differences)
    # A 21st pair that is equal changes no sum: only the method changes.
    drawn = significance.sign_flip_p(np.append(differences, 0.0))
    assert 0.05 < exact < 0.95
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn == significance.sign_flip_p(np.append(differences, 0.0))


def test_equal_methods_give_a_p_of_1():
    found = significance.paired([0.5, 0.6], [0.5, 0.6])
    assert (found.p, found.mean) == (1.0, 0.0)
    assert (found.num_better, found.num_worse) == (0, 0)


def test_the_interval_holds_the_mean_and_needs_6_pairs():
    rng = np.random.default_rng(5)
    first, second = rng.normal([[0.6], [0.5]], 0.1, (2, 16))
    found = significance.paired(list(first), list(second))
    assert found.low < found.mean < found.high
    # Of normal values, about the mean +- 1.96 standard errors.
    error = np.std(first - second) / 4
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    few = significance.paired(list(first[:5]), list(second[:5]))
    assert few.low is None and few.high is None


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert significance.holm([0.04, 0.01, 0.03]) == pytest.approx(
        [0.06, 0.03, 0.06]
    )
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_method_is_summed_up_over_tasks_then_seeds():
    ours, *_ = statements.summaries(samples.comparison())
    assert ours.test.mean == pytest.approx(0.8 + samples.STEP / 2)
    assert ours.test.low == pytest.approx(0.8)
    assert ours.test.sd == pytest.approx(samples.STEP / 2**0.5)
    cells = dict(
        zip(statements.COLUMNS[1:], statements.cells(ours), strict=True)
    )
    assert cells["runs"] == "2 of 2"
    assert cells["test accuracy"] == "0.8100"
    assert cells["validation"] == "0.8200"
    assert cells["accounted parameters"] == "1,000"
    assert cells["multiply-adds per image"] == "5 M"
    assert cells["multiply-adds of training"] == "7 G"
    assert cells["time"] == "12.5 s"


def test_pairs_are_of_the_same_seed_and_task():
    versus = {v.method: v for v in statements.versus(samples.comparison())}
    against = versus["finetune_all"]
    assert against.paired.num_pairs == 6
    assert against.paired.num_better == 6
    assert against.paired.mean == pytest.approx((0.2 + 0.05 + 0.2) / 3)
    assert against.paired.p == 2 / 2**6
    assert against.params_share == "50.0%"
    assert against.seeds_higher == "2 of 2"
    equal = versus["munet"].paired
    assert (equal.num_better, equal.num_worse) == (4, 0)


def test_a_run_that_is_missing_makes_no_pairs_and_no_number():
    key = "finetune_all", 1
    comparison = samples.comparison(missing={key: "not yet run"})
    (versus,) = [
        v for v in statements.versus(comparison) if v.method == "finetune_all"
    ]
    assert versus.paired.num_pairs == 3
    assert statements.run_cell(comparison, *key) == "missing"
    assert statements.missing_notes(comparison) == [
        "1 run missing, not yet run: finetune_all seed 1"
    ]


def test_a_method_without_runs_is_shown_as_missing():
    missing = {("munet", 0): "failed", ("munet", 1): "failed"}
    comparison = samples.comparison(missing=missing)
    summary = statements.summaries(comparison)[1]
    assert statements.cells(summary)[:2] == ["0 of 2", "missing"]
    versus = statements.versus(comparison)
    assert versus[0].paired is None
    # The other comparison stands alone, so its p is not adjusted.
    assert versus[1].adjusted_p == versus[1].paired.p
    for text in (
        markdown.render_markdown(comparison),
        page.render_page(comparison),
    ):
        assert "no pair yet" in text


@pytest.mark.parametrize(
    ("second", "num_seeds", "said"),
    [
        ((0.8, 0.7, 0.6), 1, "too few pairs to tell: p cannot be below 0.2500"),
        ((0.8, 0.7, 0.6), 2, "higher"),
        ((0.95, 0.9, 0.75), 2, "lower"),
        ((0.95, 0.7, 0.7), 2, "no difference shown"),
    ],
)
def test_a_verdict_claims_no_more_than_its_pairs_show(second, num_seeds, said):
    comparison = samples.comparison(
        {"mu2net": (0.9, 0.8, 0.7), "munet": second}, num_seeds
    )
    (versus,) = statements.versus(comparison)
    assert statements.verdict(versus, 1) == said


def test_a_verdict_is_corrected_for_the_number_of_comparisons():
    methods = {f"adapters:{i}": (0.8, 0.7, 0.6) for i in (1, 2, 3)}
    comparison = samples.comparison(
        {"mu2net": (0.9, 0.8, 0.7), **methods},
        params=dict.fromkeys(["mu2net", *methods], 10),
    )
    for versus in statements.versus(comparison):
        assert versus.paired.p == 0.03125
        assert versus.adjusted_p == pytest.approx(3 * 0.03125)
        assert statements.verdict(versus, 3).startswith(
            "higher, but not after correction for 3 comparisons"
        )


def test_without_mu2net_the_first_method_is_the_reference():
    comparison = samples.comparison(
        {"munet": (0.9, 0.8, 0.7), "finetune_all": (0.8, 0.8, 0.7)}
    )
    assert statements.reference(comparison) == "munet"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (999, "999"),
        (999.6, "1 k"),
        (41_000_000, "41 M"),
        (3.24e14, "324 T"),
    ],
)
def test_large_numbers_have_three_digits(value, shown):
    assert statements.large(value) == shown


def test_the_markdown_tables_are_aligned_and_say_what_is_missing():
    text = markdown.render_markdown(
        samples.comparison(missing={("munet", 1): "failed (a | b)"})
    )
    tables = [
        list(group)
        for is_table, group in itertools.groupby(
            text.splitlines(), lambda line: line.startswith("|")
        )
        if is_table
    ]
    assert len(tables) == 4
    for lines in tables:
        assert len({len(line) for line in lines}) == 1
        assert len({line.count("|") for line in lines}) == 1
    assert "- 1 run missing, failed (a / b): munet seed 1." in text
    assert "| missing |" in text


class _Outline(html.parser.HTMLParser):
    """Checks that elements close in order, as SVG and HTML nest them."""

    def __init__(self):
        super().__init__()
        self.open, self.circles, self.numbers = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "link", "wbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        values = dict(attrs)
        if tag == "circle":
            self.circles.append(values)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _outline(text):
    outline = _Outline()
    outline.feed(text)
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_is_whole_and_needs_no_other_file():
    text = page.render_page(samples.comparison())
    _outline(text)
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert not re.search(r"https?://", text)
    for part in ("Methods", "mu2net against", "by task", "by seed"):
        assert part in text


def test_the_page_escapes_what_it_read():
    comparison = samples.comparison(missing={("munet", 1): "<b>&"})
    text = page.render_page(comparison)
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_the_plot_has_a_dot_per_run_and_per_method():
    outline = _outline(page.render_page(samples.comparison()))
    kinds = [circle["class"] for circle in outline.circles]
    # One plot for parameters, one for CPU seconds.
    assert (kinds.count("run"), kinds.count("mean")) == (12, 6)


def test_accuracy_is_drawn_against_cpu_seconds_where_they_are_known():
    known = samples.comparison()
    text = page.render_page(known)
    assert "Accuracy against CPU seconds per task" in text
    assert ", 20.5 CPU seconds per task</title>" in text
    runs = [
        dataclasses.replace(
            run,
            tasks=tuple(
                dataclasses.replace(
                    task,
                    cpu_secs=None
                    if run.method == "munet"
                    else {"mu2net": 0.5, "finetune_all": 90.0}[run.method],
                )
                for task in run.tasks
            ),
        )
        for run in known.runs
    ]
    partly = dataclasses.replace(known, runs=tuple(runs))
    text = page.render_page(partly)
    assert len(re.findall('class="run"', text)) == 6 + 4
    assert ">0.5 s<" in text and ">90.0 s<" in text
    unknown = dataclasses.replace(
        known,
        runs=tuple(
            dataclasses.replace(
                run,
                tasks=tuple(
                    dataclasses.replace(task, cpu_secs=None)
                    for task in run.tasks
                ),
            )
            for run in known.runs
        ),
    )
    assert "CPU seconds per task" not in page.render_page(unknown)


def test_more_accuracy_is_higher_and_more_parameters_further_right():
    outline = _outline(page.render_page(samples.comparison()))
    means = [c for c in outline.circles if c["class"] == "mean"][:3]
    xs, ys = ([float(c[key]) for c in means] for key in ("cx", "cy"))
    # Methods in the order of the sample: fewest parameters and best first.
    assert xs == sorted(xs) and len(set(xs)) == 3
    assert ys == sorted(ys) and len(set(ys)) == 3


@pytest.mark.parametrize("params", [(1_000, 1_000, 1_000), (10, 500, 80_000)])
def test_any_spread_of_parameters_stays_inside_the_plot(params):
    methods = dict.fromkeys(samples.ACCURACY, (0.5, 0.5, 0.5))
    text = page.render_page(
        samples.comparison(
            methods, params=dict(zip(methods, params, strict=True))
        )
    )
    for circle in _outline(text).circles:
        assert 60 < float(circle["cx"]) < 640
        assert 0 < float(circle["cy"]) < 340


def test_methods_of_one_place_get_numbers_apart():
    series = [
        plot.Series(i, f"adapters:{i}", "adapters", "c4", ((100.0, 0.5),))
        for i in range(1, 7)
    ]
    spots = re.findall(
        r'class="number" x="([\d.]+)" y="([\d.]+)"',
        plot.render_plot(series, "parameters"),
    )
    places = np.array(spots, float)
    assert len(places) == 6
    for a, b in itertools.combinations(places, 2):
        assert np.linalg.norm(a - b) > 12


def test_writing_gives_three_files_that_agree(tmp_path):
    comparison = samples.comparison(missing={("munet", 1): "not yet run"})
    written = report.write(comparison, tmp_path / "out")
    assert [path.rsplit("/", 1)[1] for path in written] == [
        "comparison.html",
        "comparison.md",
        "comparison.json",
    ]
    value = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert value["format_version"] == 1
    assert [(r["method"], r["seed"]) for r in value["runs"]] == [
        ("mu2net", 0),
        ("mu2net", 1),
        ("munet", 0),
        ("finetune_all", 0),
        ("finetune_all", 1),
    ]
    assert value["missing"] == [
        {"method": "munet", "seed": 1, "reason": "not yet run"}
    ]
    assert value["runs"][0]["tasks"][0]["test"] == 0.9
    assert report.text(comparison) == (
        (tmp_path / "out" / "comparison.md").read_text()
    )
