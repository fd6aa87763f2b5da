"""Sentences and rows that the text and the page have in common.

Invariant: both say the same about a system; only their layout differs.
"""

from __future__ import annotations

from collections.abc import Iterator

from keras_munet.core import classification_metrics
from keras_munet.core import multi_label_metrics
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.report import events
from keras_munet.report import formatting
from keras_munet.report import lineages
from keras_munet.report import summary as summary_lib

_NUM_REPLACED_SHOWN = 3

# The columns of `test_figures`.
TEST_FIGURES = (
    "images",
    "95% interval",
    "balanced",
    "macro F1",
    "AUC",
    "log loss",
    "top-5",
    "ECE",
    "scaled",
)
# The same where an image has any number of labels.
MULTI_LABEL_FIGURES = (
    "images",
    "mean AP",
    "macro F1",
    "micro F1",
    "all right",
    "log loss",
    "ECE",
    "scaled",
)
MULTI_LABEL_NOTES = (
    "mean AP: mean average precision of the classes. all right: images with "
    "exactly their",
    "labels, at thresholds that validation data give.",
)
TEST_NOTES = (
    "95% interval: Wilson's, of the test accuracy. ECE: expected calibration "
    "error, 15 bins;",
    "scaled: of logits divided by a temperature that validation data give.",
)


def iterations(summary: summary_lib.Summary) -> str:
    """Returns how far the experiment is: `6 of 8 task iterations`."""
    planned = summary.num_iterations_planned
    if planned is None:
        num_done = summary.num_iterations_done
        return formatting.number_of(num_done, "task iteration")
    return f"{summary.num_iterations_done} of {planned} task iterations"


def parent_name(task: str | None) -> str:
    """Returns how a report calls the parent of a path."""
    if task is None:
        return "unknown"
    return "root" if task == specs.NOT_TRAINABLE else task


def node_note(node: lineages.Node) -> str:
    """Returns what a tree adds to a path's name, or nothing."""
    if not node.depth and node.task != specs.NOT_TRAINABLE:
        return "ancestors unknown"
    if not node.replaced:
        return ""
    tasks = dict.fromkeys(step.task for step in node.replaced if step.task)
    names = [formatting.plain(task) for task in tasks][:_NUM_REPLACED_SHOWN]
    dots = ", .." if len(tasks) > len(names) else ""
    of = f" of {', '.join(names)}{dots}" if names else ""
    return (
        f"via {formatting.number_of(len(node.replaced), 'replaced path')}{of}"
    )


def ranking(ranking_event: events.Ranking) -> str:
    """Returns which paths suit a task: `a, iteration 1: b 0.9012, root 0.8`."""
    paths = ", ".join(
        f"{formatting.plain(parent_name(task))} {formatting.fraction(accuracy)}"
        for task, accuracy in ranking_event.paths
    )
    iteration = f"iteration {ranking_event.iteration + 1}"
    return f"{formatting.plain(ranking_event.task)}, {iteration}: {paths}"


def children(summary: summary_lib.Summary) -> str:
    """Returns what became of the children: `16 children trained, ...`."""
    history = summary.history
    num_trained = formatting.number_of(
        history.num_children, "child", "children"
    )
    failed = (
        f", {history.num_failed:,} without a finite score"
        if history.num_failed
        else ""
    )
    equal = (
        f" ({history.num_duplicates:,} of them once with an equal one)"
        if history.num_duplicates
        else ""
    )
    return (
        f"{num_trained} trained{equal}, {history.num_improved:,} "
        f"improved{failed}"
    )


def time_rows(
    summary: summary_lib.Summary,
) -> Iterator[tuple[str, str, str, str]]:
    """Yields (kind of work, time, share, time per generation), then the sum."""
    history = summary.history
    total, num = history.total_secs, len(history.generations)
    for key, value in history.clock.items():
        yield (
            formatting.work_type(key),
            formatting.secs(value),
            formatting.percent(value, total),
            formatting.secs(value / num),
        )
    yield "all", formatting.secs(total), "", formatting.secs(total / num)


def test_figures(metrics: target_types.Metrics) -> list[tuple[str, str]]:
    """Returns the measures of a path on test data as (name, text)."""
    if isinstance(metrics, classification_metrics.ClassificationMetrics):
        return _single_label_figures(metrics)
    return _multi_label_figures(metrics)


def _multi_label_figures(
    metrics: multi_label_metrics.MultiLabelMetrics,
) -> list[tuple[str, str]]:
    texts = [
        formatting.count(metrics.num_examples),
        *map(
            formatting.fraction,
            [
                metrics.mean_average_precision,
                metrics.macro_f1,
                metrics.micro_f1,
                metrics.exact_match,
                metrics.log_loss,
                metrics.calibration_error,
                metrics.calibration_error_scaled,
            ],
        ),
    ]
    return list(zip(MULTI_LABEL_FIGURES, texts, strict=True))


def _single_label_figures(
    metrics: classification_metrics.ClassificationMetrics,
) -> list[tuple[str, str]]:
    low, high = metrics.accuracy_interval
    texts = [
        formatting.count(metrics.num_examples),
        f"{low:.4f}-{high:.4f}",
        *map(
            formatting.fraction,
            [
                metrics.balanced_accuracy,
                metrics.macro_f1,
                metrics.auc,
                metrics.log_loss,
                metrics.top_5_accuracy,
                metrics.calibration_error,
                metrics.calibration_error_scaled,
            ],
        ),
    ]
    return list(zip(TEST_FIGURES, texts, strict=True))
