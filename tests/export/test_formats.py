"""Formats beside the SavedModel: their runtimes' answers, and refusals."""

from __future__ import annotations

import pathlib
import sys

import export_samples
import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets
from tensorflow.core.protobuf import saved_model_pb2

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.export import formats
from keras_munet.export import options


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return export_samples.system(folder / "system", {"a/b": 10, "c": 3})


@pytest.fixture(scope="module")
def digits():
    """Real pictures at the model's size, `[64, 16, 16, 3] uint8`."""
    pixels = datasets.load_digits().images[:64].repeat(2, 1).repeat(2, 2)
    grey = np.rint(pixels * 255 / 16).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _expected(system, task, images):
    pixels = preprocessing.evaluation_images(images, 16, True)
    return tf.nn.softmax(system.model(task)(pixels)).numpy()


def test_onnx_runtime_answers_as_the_path(system, digits, tmp_path):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="needs keras_munet[onnx]"
    )
    out = system.export(tmp_path / "out", formats=["savedmodel", "onnx"])
    files = sorted(p.name for p in (pathlib.Path(out) / "onnx").iterdir())
    assert files == ["a_b.onnx", "c.onnx"]
    for file, task in zip(files, ("a/b", "c"), strict=True):
        session = onnxruntime.InferenceSession(
            pathlib.Path(out, "onnx", file).read_bytes(),
            providers=["CPUExecutionProvider"],
        )
        for count in (1, 64):
            logits, scores = session.run(
                ["logits", "scores"], {"images": digits[:count]}
            )
            expected = _expected(system, task, digits[:count])
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def test_a_file_with_other_scores_is_not_written(system, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")

    class Other(runtime.InferenceSession):
        def run(self, *args, **kwargs):
            return [v + 0.01 for v in super().run(*args, **kwargs)]

    monkeypatch.setattr(runtime, "InferenceSession", Other)
    with pytest.raises(errors.StoreError, match=r"scores differ by 0\.01"):
        system.export(tmp_path / "out", formats=["savedmodel", "onnx"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"formats": ["onnx"]}, "leaves out savedmodel"),
        ({"formats": ["savedmodel", "coreml"]}, "unknown export format"),
        ({"formats": "savedmodel"}, "takes a value of type"),
        (
            {"formats": ["savedmodel", "onnx"], "weights": "int8"},
            "weights=int8 cannot be stored in format onnx",
        ),
    ],
)
def test_formats_that_cannot_be_written_are_refused(
    system, tmp_path, given, message
):
    with pytest.raises(errors.UsageError, match=message):
        system.export(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named(system, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    pattern = "onnx.* is absent.*keras_munet.onnx."
    with pytest.raises(errors.UsageError, match=pattern):
        system.export(tmp_path / "out", formats=["savedmodel", "onnx"])
    assert not (tmp_path / "out").exists()


def test_a_format_of_a_plugin_is_written_for_each_task(
    system, tmp_path, monkeypatch
):
    def width(task):
        outputs = task.function.get_concrete_function().structured_outputs
        return str(outputs["scores"].shape[1]).encode()

    shape = formats.ExportFormat(".txt", width, ("float32",))
    monkeypatch.setitem(options.FORMATS._loaded, "width", shape)
    out = system.export(tmp_path / "out", formats=["savedmodel", "width"])
    assert (pathlib.Path(out) / "width" / "a_b.txt").read_text() == "10"
    assert (pathlib.Path(out) / "width" / "c.txt").read_text() == "3"

    def tree(task):
        size = bytearray(str(task.image_size).encode())
        return {"a/size.txt": size, "b.txt": b""}

    folder = formats.ExportFormat("", tree, ("float32",))
    monkeypatch.setitem(options.FORMATS._loaded, "tree", folder)
    out = system.export(tmp_path / "tree", formats=["savedmodel", "tree"])
    assert (
        pathlib.Path(out) / "tree" / "c" / "a" / "size.txt"
    ).read_text() == "16"

    def fail(task):
        raise ZeroDivisionError("no such layer")

    broken = formats.ExportFormat(".txt", fail, ("float32",))
    monkeypatch.setitem(options.FORMATS._loaded, "width", broken)
    with pytest.raises(errors.UsageError, match="'width' failed"):
        system.export(tmp_path / "other", formats=["savedmodel", "width"])
    assert not (tmp_path / "other").exists()


def test_a_saved_model_of_fixed_size_answers_as_the_path(
    system, digits, tmp_path
):
    out = system.export(tmp_path / "out", formats=["savedmodel", "fixed_size"])
    folder = pathlib.Path(out, "fixed_size")
    assert sorted(p.name for p in folder.iterdir()) == ["a_b", "c"]
    for key, task in (("a_b", "a/b"), ("c", "c")):
        loaded = tf.saved_model.load(str(folder / key))
        answer = loaded.signatures["serving_default"](tf.constant(digits))
        expected = _expected(system, task, digits)
        np.testing.assert_allclose(
            answer["scores"], expected, rtol=0, atol=1e-5
        )
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(
        (folder / "c" / "saved_model.pb").read_bytes()
    ).meta_graphs
    nodes = [
        node
        for function in meta_graph.graph_def.library.function
        for node in function.node_def
    ]
    resizes = ("ScaleAndTranslate", "ResizeBilinear", "SpaceToDepth")
    assert not {node.op for node in nodes} & {*resizes}
    # Operations bear the names of their components.
    places = {ref.name for ref in system.tasks["c"].published.components}
    assert places <= {node.name.split("/")[0] for node in nodes}


@pytest.mark.parametrize(
    "converted, message",
    [
        ("text", "a value of type str"),
        (None, "a value of type NoneType"),
        ({"a.txt": 1}, "a value of type int"),
        ({}, "no file"),
        ({"": b""}, "a file ''"),
        ({".": b""}, "a file '.'"),
        ({7: b""}, "a file 7"),
        ({"../../saved_model.pb": b""}, "a file '../../saved_model.pb'"),
        ({"a/../b.txt": b""}, "a file 'a/../b.txt'"),
        ({"/a.txt": b""}, "a file '/a.txt'"),
        ({"a\0": b""}, "a file 'a.+x00'"),
        ({"a": b"", "a/b": b""}, "a file 'a/b'"),
    ],
)
def test_what_a_format_may_not_return_is_refused(
    system, tmp_path, monkeypatch, converted, message
):
    odd = formats.ExportFormat(".txt", lambda task: converted, ("float32",))
    monkeypatch.setitem(options.FORMATS._loaded, "odd", odd)
    with pytest.raises(errors.UsageError, match=f"'odd' returned {message}"):
        system.export(tmp_path / "out", formats=["savedmodel", "odd"])
    assert [p.name for p in tmp_path.iterdir()] == []


def test_weights_of_any_name_are_written():
    rows = (("shift (px)", (3,)), ("_größe", (3,)))
    spec = specs.ComponentSpec("_bloc é/1", "HeadOfTest", {}, rows)

    class Layer:
        mixes_tokens = class_token_only_supported = False

        def compute(self, x, weights):
            first, second = weights
            return tf.reduce_mean(x, [1, 2]) * first + second

    weights = {name: np.ones(shape, np.float32) for name, shape in rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            formats.layer_factory, "make_layer", lambda *a, **k: Layer()
        )
        path = specs.PathRecord(
            *("a", None, (0, 0, 0), {"ds_image_size": 4}),
            (specs.ComponentRef(spec.name, "0" * 64, spec.spec_id, 6),),
        )
        made = formats.classifier(
            path, lambda ref: specs.Component(spec, weights), "float32"
        )
        scores = made.function(tf.zeros([2, 4, 4, 3], tf.uint8))["scores"]
    np.testing.assert_allclose(scores, np.full([2, 3], 1 / 3), atol=1e-6)


@pytest.mark.slow
def test_openvino_reads_the_saved_model_of_fixed_size(system, digits, tmp_path):
    openvino = pytest.importorskip("openvino")
    out = system.export(tmp_path / "out", formats=["savedmodel", "fixed_size"])
    compiled = openvino.compile_model(
        openvino.convert_model(f"{out}/fixed_size/a_b"),
        *("CPU", {"INFERENCE_PRECISION_HINT": "f32"}),
    )
    answer = compiled({"images": digits})
    np.testing.assert_allclose(
        answer["scores"], _expected(system, "a/b", digits), rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_openvino_reads_the_onnx_file(system, digits, tmp_path):
    openvino = pytest.importorskip("openvino")
    out = system.export(tmp_path / "out", formats=["savedmodel", "onnx"])
    compiled = openvino.Core().compile_model(
        # Without it products round to bfloat16 where the CPU can.
        *(f"{out}/onnx/a_b.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    answer = compiled({"images": digits})
    np.testing.assert_allclose(
        answer["scores"], _expected(system, "a/b", digits), rtol=0, atol=1e-4
    )
