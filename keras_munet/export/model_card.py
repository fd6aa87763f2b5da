"""The README.md of an export or a shared system: figures and provenance.

Invariant: every figure is from the system's records; what is not known is
said to be so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import version
from keras_munet.core import printable
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data.tfds import catalogue
from keras_munet.data.tfds import catalogue_sources

# A task of more classes has no table of them.
_NUM_CLASSES_MAX = 100
_UNKNOWN = "not known to keras_munet; ask the data's provider"
_EMBEDDED = {
    "digits": "UCI optical digits, CC BY 4.0 (with scikit-learn)",
    "glyphs": "drawn from the fonts that come with matplotlib",
}


def card_text(
    tasks: Mapping[str, Any],
    keys: Mapping[str, str],
    weights: str,
    num_unique_params: int,
    lineages: Mapping[str, Sequence[str]],
    root_source: str | None = None,
    *,
    calibrate: bool = False,
) -> str:
    """Returns the card.

    Args:
      tasks: task name -> its published state.
      keys: task name -> its part of a signature's name.
      weights: how weights are stored.
      num_unique_params: parameters of all components, each once.
      lineages: task name -> the tasks its path descends from, nearest first.
      root_source: where the values of the root came from, and their licence;
        None where no record says it.
      calibrate: whether logits are divided by their temperatures.
    """
    signatures = {name: f"`predict_{keys[name]}`" for name in tasks}
    num_separate = sum(s.published.num_params for s in tasks.values())
    return "\n".join(
        [
            "# A multitask image model",
            "",
            f"{len(tasks)} tasks in one TensorFlow SavedModel, written by "
            f"keras_munet {version.__version__}. {num_unique_params:,} "
            f"parameters, each stored once as {weights}; separate models of "
            f"the same tasks would have {num_separate:,}.",
            "",
            "Images are `[batch, height, width, 3] uint8` of any size, or "
            "the bytes of JPEG, PNG, GIF and BMP files; decoding, turning by "
            "EXIF, scaling and resizing are inside. Scores are of the classes "
            "that `signatures.json` names, in order.",
            "",
            *_task_table(tasks, signatures),
            "",
            "Test accuracy is of one evolved path on the task's own test "
            "data, measured when it was published, with float32 weights. "
            f"{_answers(tasks)}",
            "",
            *quality(tasks, calibrate=calibrate),
            *multi_label_quality(tasks, calibrate=calibrate),
            *_provenance(tasks, lineages, root_source),
            "`python launch/export.py --verify --out=FOLDER` replays "
            "`canary.npz` and compares bit for bit.",
            "",
        ]
    )


def system_card_text(
    tasks: Mapping[str, Any],
    lineages: Mapping[str, Sequence[str]],
    root_source: str | None,
    *,
    name: str,
    url: str,
    license_id: str,
) -> str:
    """Returns the card of a shared system, with its YAML front matter.

    Args:
      tasks: task name -> its published state.
      lineages: task name -> the tasks its path descends from, nearest first.
      root_source: where the values of the root came from, and their licence.
      name: of the model.
      url: that `pull` takes.
      license_id: the licence of the system itself, as hubs spell it.
    """
    unique = {
        c.id: c.num_params
        for state in tasks.values()
        for c in state.published.components
    }
    num_separate = sum(s.published.num_params for s in tasks.values())
    return "\n".join(
        [
            *_front_matter(tasks, name, license_id),
            "# A multitask image system",
            "",
            f"{len(tasks)} tasks that share {sum(unique.values()):,} "
            f"parameters; separate models of the same tasks would have "
            f"{num_separate:,}. Written by keras_munet {version.__version__}.",
            "",
            "```bash",
            f"keras-munet pull {url} --workdir=DIR",
            "keras-munet predict IMAGES... --workdir=DIR --task=NAME",
            "```",
            "",
            "`system.tar` is data and runs nothing: `pull` verifies the name, "
            "size, hash and references of every file before it writes one.",
            "",
            *_task_table(tasks),
            "",
            "Test accuracy is of one evolved path on the task's own test "
            f"data, measured when it was published. {_answers(tasks)}",
            "",
            *quality(tasks),
            *multi_label_quality(tasks),
            *_provenance(tasks, lineages, root_source),
        ]
    )


def _front_matter(
    tasks: Mapping[str, Any], name: str, license_id: str
) -> list[str]:
    """Returns the metadata that the Hugging Face Hub reads.

    Each value is JSON, which is YAML too.
    """
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": task, "type": task},
            "metrics": [
                {"type": _measure(state), "value": round(value, 6)},
            ],
        }
        for task, state in tasks.items()
        if (value := _test_value(state)) is not None
    ]
    metadata: dict[str, Any] = {
        "library_name": "keras_munet",
        "license": license_id,
        "pipeline_tag": "image-classification",
        "tags": ["keras", "tensorflow", "multitask", "evolutionary-search"],
    }
    if results:
        metadata["model-index"] = [{"name": name, "results": results}]
    lines = (f"{k}: {json.dumps(value)}" for k, value in metadata.items())
    return ["---", *lines, "---", ""]


def _task_table(
    tasks: Mapping[str, Any], signatures: Mapping[str, str] | None = None
) -> list[str]:
    """Returns a row per task; `signatures` adds a column."""
    header = "| task | classes | test accuracy | parameters | pixels |"
    if signatures is not None:
        header = header.replace("| task |", "| task | signature |")
    rows = []
    for name, state in tasks.items():
        path = state.published
        value = _test_value(state)
        measure = "" if _measure(state) == "accuracy" else " (mean AP)"
        cells = [
            name,
            *([] if signatures is None else [signatures[name]]),
            str(state.num_classes),
            "not measured" if value is None else f"{value:.4f}{measure}",
            f"{path.num_params:,}",
            str(path.hparams["ds_image_size"]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return [header, "|---" * (header.count("|") - 1) + "|", *rows]


def _answers(tasks: Mapping[str, Any]) -> str:
    """Returns what the scores of both types of tasks mean, where they occur."""
    targets = {state.target for state in tasks.values()}
    sentences = {
        target_types.SINGLE_LABEL: "Where a picture has one label, scores are "
        "shares that add up to 1, and the model answers with one of the "
        "classes to any picture, also to one of none of them.",
        target_types.MULTI_LABEL: "Where a picture has any number of labels "
        "(mean AP: mean average precision in place of the accuracy), each "
        "score has a threshold, and the model may answer with no class.",
    }
    return " ".join(t for target, t in sentences.items() if target in targets)


def _measure(state: Any) -> str:
    """Returns the name of the measure that stands for a task."""
    if state.target is target_types.MULTI_LABEL:
        return "mean_average_precision"
    return "accuracy"


def _test_value(state: Any) -> float | None:
    """Returns the value of this measure on test data; None if unknown."""
    if state.target is target_types.SINGLE_LABEL:
        return state.published.metrics.get("test_quality")
    metrics = state.test_metrics
    return None if metrics is None else metrics.mean_average_precision


def _provenance(
    tasks: Mapping[str, Any],
    lineages: Mapping[str, Sequence[str]],
    root_source: str | None,
) -> list[str]:
    """Returns which path descends from which, and the licences."""
    rows = []
    for name, state in tasks.items():
        ancestors = (
            "the root" if task == specs.NOT_TRAINABLE else task
            for task in lineages.get(name, ())
        )
        line = " <- ".join([name, *ancestors])
        rows.append(
            f"| {name} | {state.published.id} | {line} | {licence(name)} |"
        )
    return [
        "## Where it comes from",
        "",
        "| task | path | descends from | licence of the data |",
        "|---|---|---|---|",
        *rows,
        "",
        *_root(root_source),
    ]


def quality(tasks: Mapping[str, Any], *, calibrate: bool = False) -> list[str]:
    """Returns the measures on test data that tasks' records hold.

    Args:
      tasks: task name -> its published state.
      calibrate: whether logits are divided by their temperatures.
    """
    rows, tables = [], []
    for name, state in tasks.items():
        metrics = state.test_metrics
        if not isinstance(metrics, target_types.SINGLE_LABEL.metrics):
            continue
        low, high = metrics.accuracy_interval
        figures = map(
            _figure,
            [
                metrics.balanced_accuracy,
                metrics.macro_f1,
                metrics.auc,
                metrics.log_loss,
                metrics.top_5_accuracy,
                metrics.calibration_error,
                metrics.calibration_error_scaled,
                metrics.temperature,
            ],
        )
        rows.append(
            f"| {name} | {metrics.num_examples:,} | {low:.4f} to {high:.4f} "
            f"| {' | '.join(figures)} |"
        )
        if state.num_classes <= _NUM_CLASSES_MAX:
            tables += ["", f"### {name}", "", *_per_class(state)]
    if not rows:
        return []
    return [
        "## Quality on test data",
        "",
        "| task | images | 95% interval of the accuracy | balanced accuracy | "
        "macro F1 | AUC | log loss | top-5 accuracy | calibration error | "
        "calibration error, scaled | temperature |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The interval is Wilson's. AUC is the mean of one class against the "
        "others. The expected calibration error has 15 bins; *scaled* is that "
        "of logits divided by the temperature, which validation data give and "
        f"the model {'applies' if calibrate else 'does not apply'}.",
        *tables,
        "",
    ]


def multi_label_quality(
    tasks: Mapping[str, Any], *, calibrate: bool = False
) -> list[str]:
    """Returns the measures of tasks whose images have any number of labels.

    Args:
      tasks: task name -> its published state.
      calibrate: whether logits are divided by their temperatures.
    """
    rows, tables = [], []
    for name, state in tasks.items():
        metrics = state.test_metrics
        if not isinstance(metrics, target_types.MULTI_LABEL.metrics):
            continue
        figures = map(
            _figure,
            [
                metrics.mean_average_precision,
                metrics.macro_f1,
                metrics.micro_f1,
                metrics.exact_match,
                metrics.log_loss,
                metrics.calibration_error,
                metrics.calibration_error_scaled,
                metrics.temperature,
            ],
        )
        rows.append(
            f"| {name} | {metrics.num_examples:,} | {' | '.join(figures)} |"
        )
        if state.num_classes <= _NUM_CLASSES_MAX:
            tables += ["", f"### {name}", "", *_per_label(state)]
    if not rows:
        return []
    return [
        "## Quality on test data, any number of labels",
        "",
        "| task | images | mean average precision | macro F1 | micro F1 | "
        "all labels right | log loss | calibration error | calibration error, "
        "scaled | temperature |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "A picture has every class whose score is at least its threshold, and "
        "may have none. Thresholds have the highest F1 on validation data, or "
        "are 0.5 for classes of fewer than 5 pictures there. The mean average "
        "precision is over the classes that test pictures have. The expected "
        "calibration error, of all decisions about a picture and a class, has "
        "15 bins; *scaled* is that of logits divided by the temperature, which "
        f"the model {'applies' if calibrate else 'does not apply'}.",
        *tables,
        "",
    ]


def _per_label(state: Any) -> list[str]:
    """Returns a table of the measures of each class, with its threshold."""
    metrics = state.test_metrics
    names = state.class_names or map(str, range(state.num_classes))
    rows = zip(
        names,
        metrics.per_class,
        metrics.average_precision,
        metrics.thresholds,
        strict=True,
    )
    return [
        "| class | precision | recall | F1 | images | average precision | "
        "threshold |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {_cell(name)} | {row.precision:.4f} | {row.recall:.4f} | "
            f"{row.f1:.4f} | {row.support:,} | {_figure(precision)} | "
            f"{threshold:.4f} |"
            for name, row, precision, threshold in rows
        ),
    ]


def _per_class(state: Any) -> list[str]:
    """Returns a table of the measures of each class."""
    names = state.class_names or map(str, range(state.num_classes))
    return [
        "| class | precision | recall | F1 | images |",
        "|---|---|---|---|---|",
        *(
            f"| {_cell(name)} | {row.precision:.4f} | {row.recall:.4f} | "
            f"{row.f1:.4f} | {row.support:,} |"
            for name, row in zip(
                names, state.test_metrics.per_class, strict=True
            )
        ),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(name: str) -> str:
    """Returns a class name as text of one cell of a Markdown table."""
    plain = printable.printable(name)
    for char in "\\`*_[]<>|&":
        plain = plain.replace(char, f"\\{char}")
    return plain


def _root(source: str | None) -> list[str]:
    if source is None:
        return []
    return [f"The root, whose components came first: {source}.", ""]


def licence(task_name: str) -> str:
    """Returns what is known of the licence of a task's images."""
    family = task_name.partition("/")[0]
    if task_name == "digits" or family == "glyphs":
        return _EMBEDDED[family]
    task = catalogue.find(task_name)
    source = task.source if task is not None else task_name
    data_source = catalogue_sources.SOURCES.get(source)
    if data_source is None:
        return _UNKNOWN
    return data_source.licence
