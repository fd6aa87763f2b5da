from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import report_samples

from keras_munet import errors
from keras_munet import report
from keras_munet.core import specs
from keras_munet.report import lineages
from keras_munet.report import page
from keras_munet.report import plain_text
from keras_munet.report import sharing
from keras_munet.report import summary as summary_lib
from keras_munet.search import population as population_lib


@pytest.fixture
def system(tmp_path):
    report_samples.build(tmp_path / "system")
    return tmp_path / "system"


@pytest.fixture
def summary(system):
    return summary_lib.read_summary(system)


def _path(task, parent, *refs):
    return specs.PathRecord(task, parent, (0, 0, 0), {}, tuple(refs))


def _ref(name, object_id):
    return specs.ComponentRef(name, object_id, "s", 1)


def test_shared_own_and_accounted_parameters_are_those_of_hand_computation(
    summary,
):
    found = {
        t.name: (t.num_params, t.shared_params, t.own_params)
        for t in summary.tasks
    }
    assert found == {
        "birds": (134, 10, 124),
        "cats/wild": (136, 130, 6),
        "dogs": (138, 130, 8),
    }
    accounted = [t.accounted_params for t in summary.tasks]
    assert accounted == pytest.approx(
        [
            10 / 3 + 100 + 20 + 4,
            10 / 3 + 100 / 2 + 20 / 2 + 6,
            10 / 3 + 100 / 2 + 20 / 2 + 8,
        ]
    )


def test_accounted_parameters_add_up_to_the_parameters_in_use(summary):
    assert summary.params_in_use == 10 + 2 * 100 + 2 * 20 + 4 + 6 + 8
    assert summary.params_separate == 134 + 136 + 138
    total = sum(t.accounted_params for t in summary.tasks)
    assert total == pytest.approx(summary.params_in_use)


def test_measures_come_from_the_published_paths(summary):
    birds, cats, dogs = summary.tasks
    assert (birds.validation, birds.test, birds.score) == (0.75, 0.5, 0.7)
    assert dogs.score is None
    assert dogs.private
    assert not cats.private
    assert birds.num_classes == 2
    assert birds.class_names == (report_samples.HOSTILE, "a & b")
    assert birds.num_layers == 1
    assert summary.mean_validation == pytest.approx((0.75 + 0.25 + 0.5) / 3)
    assert summary.mean_test == pytest.approx((0.5 + 0.75 + 0.25) / 3)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"quality": "macro_f1"}, "macro f1"),
        ({"quality": "balanced_accuracy"}, "balanced accuracy"),
        ({}, "accuracy"),
        ({"quality": "<b>"}, "accuracy"),
        ({"quality": ["auc"]}, "accuracy"),
        ("auc", "accuracy"),
    ],
)
def test_figures_bear_the_name_of_the_measure_that_decides(
    summary, search, words
):
    changed = dataclasses.replace(
        summary, settings={**summary.settings, "search": search}
    )
    assert changed.quality == words
    html = page.render_page(changed)
    assert f"<dt>Mean validation {words}</dt>" in html
    assert f"Validation {words} and test accuracy" in html
    text = plain_text.render_text(changed)
    noted = f"validation and score: {words}, which decides; test: accuracy."
    assert (noted in text) == (words != "accuracy")


def test_a_mean_needs_every_task(tmp_path):
    directory = report_samples.create(tmp_path)
    for task, metrics in (("birds", {"quality": 0.5}), ("dogs", {})):
        refs = list(directory.root.components)
        report_samples.publish(
            directory, task, refs, directory.root, metrics=metrics
        )
    assert summary_lib.read_summary(tmp_path).mean_validation is None


def test_tasks_come_in_the_order_of_the_experiment_and_others_last(tmp_path):
    directory = report_samples.create(tmp_path, ("zebras", "private:birds"))
    for task in ("ants", "birds", "zebras"):
        refs = list(directory.root.components)
        report_samples.publish(directory, task, refs, directory.root)
    summary = summary_lib.read_summary(tmp_path)
    assert [t.name for t in summary.tasks] == ["zebras", "birds", "ants"]
    assert summary.num_iterations_done == 3
    assert summary.num_iterations_planned == 4


def test_a_lineage_leads_over_replaced_paths_to_the_root(system):
    old = "b" * 24
    report_samples.write_events(
        system, report_samples.published("birds", 0, old)
    )
    summary = summary_lib.read_summary(system)
    birds, cats, dogs = summary.tasks
    root = birds.lineage[0].path_id
    assert cats.lineage == (
        lineages.Step(old, "birds", False),
        lineages.Step(birds.path_id, "birds", True),
        lineages.Step(root, specs.NOT_TRAINABLE, True),
    )
    assert [s.path_id for s in dogs.lineage] == [
        cats.path_id,
        *(s.path_id for s in cats.lineage),
    ]
    assert [t.parent_task for t in summary.tasks] == [
        specs.NOT_TRAINABLE,
        "birds",
        "cats/wild",
    ]
    assert [(n.depth, n.task, len(n.replaced)) for n in summary.tree] == [
        (0, specs.NOT_TRAINABLE, 0),
        (1, "birds", 0),
        (2, "cats/wild", 1),
        (3, "dogs", 0),
    ]


def test_a_path_whose_ancestors_nobody_knows_stands_beside_the_root():
    root = _path(specs.NOT_TRAINABLE, None)
    population = population_lib.Population(
        root, {"lost": _path("lost", "f" * 24), "kept": _path("kept", root.id)}
    )
    tree = lineages.FamilyTree(population, {})
    assert tree.parent_task(population.published["lost"]) is None
    assert [(n.depth, n.task) for n in tree.nodes()] == [
        (0, specs.NOT_TRAINABLE),
        (1, "kept"),
        (0, "lost"),
    ]


def test_a_lineage_that_goes_round_in_a_circle_is_refused():
    root = _path(specs.NOT_TRAINABLE, None)
    a, b = _path("a", "1" * 24), _path("b", "2" * 24)
    population = population_lib.Population(
        root,
        {"a": a, "b": b},
        retired={"1" * 24: b.id, "2" * 24: a.id},
    )
    with pytest.raises(errors.StoreError, match="comes back"):
        lineages.FamilyTree(population, {}).nodes()


def test_equal_marks_of_a_place_are_one_component(summary):
    marks = {
        place.name: [
            getattr(place.of_task(t.name), "label", None) for t in summary.tasks
        ]
        for place in summary.components
    }
    assert marks == {
        "embedding": ["root", "root", "root"],
        "encoderblock_0": ["root", "a", "a"],
        "encoder_norm": ["a", "b", "b"],
        "head": ["a", "b", "c"],
    }


def test_a_place_that_some_paths_lack_keeps_its_position():
    root = _path(specs.NOT_TRAINABLE, None, _ref("in", "0"), _ref("out", "0"))
    a = _path("a", root.id, _ref("in", "0"), _ref("out", "1"))
    b = _path("b", root.id, _ref("in", "0"), _ref("mid", "2"), _ref("out", "1"))
    found = sharing.places(root, [a, b])
    assert [p.name for p in found] == ["in", "mid", "out"]
    assert found[1].of_task("a") is None
    assert found[1].of_task("b").tasks == ("b",)


def test_marks_go_on_after_z():
    paths = [_path(f"t{i}", None, _ref("head", str(i))) for i in range(28)]
    root = _path(specs.NOT_TRAINABLE, None, _ref("in", "x"))
    (place,) = sharing.places(root, paths)
    assert [c.label for c in place.components[25:]] == ["z", "aa", "ab"]


def test_settings_are_listed_with_dotted_keys(summary):
    found = dict(summary.flat_settings)
    assert found["seed"] == "7"
    assert found["search.version"] == "mu2net"
    assert found["task_names"] == "birds, cats/wild, private:dogs"


def test_a_folder_without_a_system_is_a_usage_error(tmp_path):
    with pytest.raises(errors.UsageError, match="holds no system"):
        report.text(tmp_path)


def test_a_report_needs_no_tensorflow_and_draws_nothing(system, tmp_path):
    code = (
        "import sys\n"
        "from keras_munet import report\n"
        f"report.write({str(system)!r}, {str(tmp_path / 'out')!r})\n"
        "wrong = {'tensorflow', 'keras', 'matplotlib', 'plotly'}\n"
        "print(sorted(wrong & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert done.stdout.strip() == "[]"
