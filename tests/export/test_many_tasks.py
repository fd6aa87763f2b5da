"""Exports of many tasks: copied signatures, sampled goldens, their sizes."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import export_samples
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_munet import errors
from keras_munet.core import multi_label_metrics
from keras_munet.core import target_types
from keras_munet.export import golden_outputs
from keras_munet.export import options as options_lib
from keras_munet.export import saved_model
from keras_munet.export import saved_model_reader

_IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), np.uint8)
_PNG = tf.io.encode_png(_IMAGES[0]).numpy()


def _export(out, states, components, **options):
    return pathlib.Path(
        saved_model.export(
            out,
            states,
            lambda ref: components[ref.id],
            options_lib.Options(**options),
        )
    )


@pytest.fixture(scope="module")
def stand_in():
    return export_samples.stand_in(12)


@pytest.fixture(scope="module")
def folder(stand_in, tmp_path_factory):
    """An export of twelve tasks of three structures."""
    return _export(tmp_path_factory.mktemp("many") / "out", *stand_in)


def _answers(folder, key):
    kinds = ("predict", "predict_bytes", "classify")
    signatures = saved_model_reader.load_saved_model(
        folder, [f"{kind}_{key}" for kind in kinds]
    ).signatures
    answers = {
        **signatures[f"predict_{key}"](images=tf.constant(_IMAGES)),
        "from_bytes": signatures[f"predict_bytes_{key}"](
            encoded=tf.constant([_PNG])
        )["logits"],
    }
    if f"classify_{key}" in signatures:
        example = saved_model.serving_functions.example(_PNG)
        answers.update(
            signatures[f"classify_{key}"](inputs=tf.constant([example] * 2))
        )
    return {name: value.numpy() for name, value in answers.items()}


@pytest.mark.parametrize(
    "weights", ["float32", pytest.param("int8", marks=pytest.mark.slow)]
)
def test_a_copied_signature_answers_as_the_one_that_was_traced(
    stand_in, tmp_path, weights, monkeypatch
):
    monkeypatch.setattr(golden_outputs, "_NUM_SAMPLED", 1)
    states, components = stand_in
    # Of one structure, so that the second is a copy.
    names = ["task/1", "task/4"]
    chosen = {name: states[name] for name in names}
    given = {"weights": weights, "classify": True}
    together = _export(tmp_path / "out", chosen, components, **given)
    distinct = set()
    for number, name in enumerate(names):
        alone = _export(
            tmp_path / str(number), {name: states[name]}, components, **given
        )
        key = name.replace("/", "_")
        expected = _answers(alone, key)
        answers = _answers(together, key)
        assert answers.keys() == expected.keys() >= {"classes", "logits"}
        for output, value in expected.items():
            assert answers[output].tolist() == value.tolist()
        distinct.add(expected["logits"].tobytes())
    assert len(distinct) == 2


def test_a_copy_answers_with_its_own_labels(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(golden_outputs, "_NUM_SAMPLED", 1)
    states, components = stand_in
    chosen = {"a": states["task/0"], "a_call": states["task/3"]}
    for name, labels in (("a", "wxyz"), ("a_call", "éñüß")):
        chosen[name] = chosen[name].__class__(
            **{**vars(chosen[name]), "class_names": tuple(labels)}
        )
    out = _export(tmp_path / "out", chosen, components, classify=True)
    for name, labels in (("a", "wxyz"), ("a_call", "éñüß")):
        classes = _answers(out, name)["classes"]
        assert [c.decode() for c in classes[1]] == list(labels)


def test_a_copy_has_its_own_thresholds_and_kind_of_score(
    stand_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(golden_outputs, "_NUM_SAMPLED", 1)
    states, components = stand_in
    thresholds = {"a": (0.1, 0.2, 0.3, 0.4), "b": (0.5, 0.6, 0.7, 0.8)}
    # The third has the same layers, and one label a picture.
    chosen = {"c": states["task/6"]}
    for name, row in thresholds.items():
        counts = (1,) * 4
        metrics = multi_label_metrics.MultiLabelMetrics(
            *(4, 4, row, counts, counts, counts, (0.5,) * 4, 0.5, 1)
        )
        chosen[name] = dataclasses.replace(
            states["task/0" if name == "a" else "task/3"],
            target=target_types.MULTI_LABEL,
            test_metrics=metrics,
        )
    out = _export(tmp_path / "out", chosen, components)
    for name, row in thresholds.items():
        answers = _answers(out, name)
        np.testing.assert_allclose(answers["thresholds"], [row] * 5)
        np.testing.assert_allclose(
            answers["scores"], tf.sigmoid(answers["logits"]), atol=1e-6
        )
    scores = _answers(out, "c")["scores"]
    np.testing.assert_allclose(scores.sum(1), 1.0, atol=1e-6)


def test_the_loader_of_version_1_reads_every_signature(folder, stand_in):
    # It reads the graph, as a server does; Python's reads the objects.
    answers = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        for number in (0, 3, 10, 11):
            definition = meta.signature_def[f"predict_task_{number}"]
            answers[f"task_{number}"] = session.run(
                definition.outputs["scores"].name,
                {definition.inputs["images"].name: _IMAGES},
            )
        default = meta.signature_def["serving_default"]
    assert len(default.outputs) == 2 * len(stand_in[0])
    for key, scores in answers.items():
        expected = _answers(folder, key)["scores"]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_functions_are_made_for_structures_and_not_for_tasks(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(golden_outputs, "_NUM_SAMPLED", 1)
    larger = _export(tmp_path / "out", *export_samples.stand_in(24))
    small, large = (_graph(path) for path in (folder, larger))
    names = [
        [f.signature.name for f in graph.graph_def.library.function]
        for graph in (small, large)
    ]
    assert len(names[1]) - len(names[0]) == 2 * 12
    # Of a task: two functions of a constant and a call, their entries in the
    # tables, and its part of `all_tasks` and `features`.
    assert large.ByteSize() - small.ByteSize() < 12 * 9 * 2**10


def _graph(folder):
    saved = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    (graph,) = saved.meta_graphs
    return graph


def test_no_text_of_the_graph_has_other_characters_than_ascii(folder):
    # Some converters take every string constant for UTF-8.
    values = [
        value
        for function in _graph(folder).graph_def.library.function
        for node in function.node_def
        if node.op == "Const"
        for value in node.attr["value"].tensor.string_val
    ]
    assert values
    assert all(value.isascii() for value in values)


@pytest.mark.parametrize(
    "num_tasks, structures, sampled",
    [
        (8, 1, range(8)),
        (9, 1, range(0, 9, 2)),
        (40, 3, [0, 1, 2, 5, 10, 15, 20, 25, 30, 35]),
        # Every graph at least once, however many there are.
        (20, 20, range(20)),
    ],
)
def test_the_sample_has_every_structure_and_some_tasks(
    num_tasks, structures, sampled
):
    tasks = {str(i): i % structures for i in range(num_tasks)}
    assert golden_outputs.sample(tasks, "sample") == list(map(str, sampled))
    assert golden_outputs.sample(tasks, "all") == list(tasks)


def test_a_sample_is_recorded(folder):
    # `all_tasks`, and both signatures of 6 of 12 tasks.
    sampled = golden_outputs.replay(folder, folder)
    assert sampled == golden_outputs.Replay(2 * 12 + 2 * 2 * 7, 0)


@pytest.mark.slow
def test_all_are_recorded_and_what_was_not_is_compared(
    folder, stand_in, tmp_path
):
    sampled = golden_outputs.replay(folder, folder)
    beyond = golden_outputs.replay(folder, folder, "all")
    assert beyond == golden_outputs.Replay(sampled.num_outputs, 0, 2 * 5)
    whole = _export(tmp_path / "out", *stand_in, verify="all")
    assert golden_outputs.replay(whole, whole, "all") == golden_outputs.Replay(
        2 * 12 + 2 * 2 * 12 + 12, 0
    )


@pytest.mark.slow
def test_an_export_of_another_graph_is_compared_within_a_tolerance(
    folder, tmp_path
):
    copied = pathlib.Path(shutil.copytree(folder, tmp_path / "out"))
    with np.load(copied / golden_outputs.FILE) as recorded:
        arrays = dict(recorded)
    index = json.loads(arrays["index"].tobytes())
    # As exports of before 2026-12 recorded it.
    del index["graph"]
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    for apart, near in ((2e-6, True), (1e-3, False)):
        changed = {**arrays, "values": arrays["values"] + np.float32(apart)}
        np.savez(copied / golden_outputs.FILE, **changed)
        if near:
            replayed = golden_outputs.replay(folder, copied)
            assert replayed == golden_outputs.Replay(0, 0, 2 * 12 + 2 * 2 * 7)
            continue
        with pytest.raises(errors.StoreError, match="are not what"):
            golden_outputs.replay(folder, copied)


@pytest.mark.slow
def test_a_wrong_copy_that_no_sample_has_is_found_by_all(folder, tmp_path):
    copied = pathlib.Path(shutil.copytree(folder, tmp_path / "out"))
    saved = saved_model_pb2.SavedModel.FromString(
        (copied / "saved_model.pb").read_bytes()
    )
    (graph,) = saved.meta_graphs
    # Task 9 gets the weights of task 3, of its structure.
    constants = {
        function.signature.name: node
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.name == "offsets" and "predict_task_" in function.signature.name
    }
    constants["__inference_predict_task_9_copy"].CopyFrom(
        constants["__inference_predict_task_3_copy"]
    )
    (copied / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert golden_outputs.replay(copied, folder).num_outputs
    with pytest.raises(errors.StoreError, match="scores of predict_task_9 of"):
        golden_outputs.replay(copied, folder, "all")


@pytest.mark.parametrize("verify", ["some", "", "SAMPLE"])
def test_another_way_to_verify_is_refused(folder, stand_in, tmp_path, verify):
    with pytest.raises(errors.UsageError, match="use sample or all"):
        golden_outputs.replay(folder, folder, verify)
    with pytest.raises(errors.UsageError, match="use sample or all"):
        _export(tmp_path / "out", *stand_in, verify=verify)
    assert not (tmp_path / "out").exists()


def test_some_signatures_can_be_loaded_alone(folder):
    loaded = saved_model_reader.load_saved_model(
        folder, ["predict_task_5", "no such one"]
    )
    assert list(loaded.signatures) == ["predict_task_5"]
    answer = loaded.signatures["predict_task_5"](images=tf.constant(_IMAGES))
    expected = _answers(folder, "task_5")
    assert answer["logits"].numpy().tobytes() == expected["logits"].tobytes()
