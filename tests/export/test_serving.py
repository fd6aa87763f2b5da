"""Exports as servers and clients meet them: requests, files, versions."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import export_samples
import numpy as np
import pytest
import tensorflow as tf

import keras_munet
from keras_munet import errors
from keras_munet.data import picture_decoder
from keras_munet.data import preprocessing
from keras_munet.export import golden_outputs
from keras_munet.export import output_dir
from keras_munet.export import serving
from keras_munet.roots import root as root_lib

_TESTS = pathlib.Path(__file__).resolve().parents[1]
_MANY = np.random.default_rng(0).integers(0, 256, (64, 20, 24, 3), np.uint8)
_IMAGES = _MANY[:3]
_PNG = tf.io.encode_png(_IMAGES[0]).numpy()
_JPEG = tf.io.encode_jpeg(_IMAGES[0]).numpy()
_QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A folder of two versions; the second has a task more."""
    folder = tmp_path_factory.mktemp("serving")
    workdir = folder / "system"
    system = export_samples.system(workdir, {"digits": 10, "b": 3})
    out = folder / "served"
    system.export(out, versioned=True, tflite=True)
    root = root_lib.random("mu", num_layers=2, image_size=16)
    own = ("encoderblock_1", "encoder_norm", "head")
    export_samples.publish(workdir, root, "c", 5, own)
    keras_munet.System.open(workdir).export(out, versioned=True)
    return out


@pytest.fixture(scope="module")
def system(versions):
    return keras_munet.System.open(versions.parent / "system")


@pytest.fixture(scope="module")
def signatures(versions):
    return tf.saved_model.load(str(versions / "1")).signatures


@pytest.fixture(scope="module")
def predict(versions):
    """Sends a PredictRequest to a process without Keras."""
    pytest.importorskip("tensorflow_serving")
    grpc = pytest.importorskip("grpc")
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    process = subprocess.Popen(
        [
            sys.executable,
            str(_TESTS / "helpers" / "serving_process.py"),
            versions / "1",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_QUIET,
        text=True,
    )
    port = int(process.stdout.readline())
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call(signature, **inputs):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "keras_munet"
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            answer = stub.Predict(request, timeout=240)
            return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}

        yield call
    process.stdin.close()
    assert process.wait(120) == 0


def test_a_server_without_keras_answers_prediction_requests(predict, system):
    pixels = preprocessing.evaluation_images(_MANY, 16, True)
    expected = tf.nn.softmax(system.model("digits")(pixels))
    for batch_size in (1, 7, 64):
        images, scores = _MANY[:batch_size], expected[:batch_size]
        found = predict("predict_digits", images=images)
        np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-6)
        found = predict("all_tasks", images=images)
        np.testing.assert_allclose(
            found["digits_scores"], scores, rtol=0, atol=1e-6
        )
    found = predict("predict_bytes_digits", encoded=[_PNG, _PNG])
    np.testing.assert_allclose(
        found["scores"][1], expected[0], rtol=0, atol=1e-6
    )


_BOMB = _PNG[:16] + (60_000).to_bytes(4, "big") * 2 + _PNG[24:]


@pytest.mark.parametrize(
    "signature, inputs",
    [
        ("predict_digits", {"images": _IMAGES[0]}),
        ("predict_digits", {"images": _IMAGES[..., :1]}),
        ("predict_digits", {"images": _IMAGES[:, :0]}),
        ("predict_digits", {"images": np.full((1, 8, 8, 3), np.nan, "f4")}),
        ("predict_digits", {"images": ["text"]}),
        ("predict_digits", {"image": _IMAGES}),
        ("predict_digits", {}),
        ("predict_bytes_digits", {"encoded": [_JPEG[:-200]]}),
        ("predict_bytes_digits", {"encoded": [_JPEG[:20]]}),
        ("predict_bytes_digits", {"encoded": [_PNG, _PNG[:-60]]}),
        ("predict_bytes_digits", {"encoded": [_PNG[:12]]}),
        ("predict_bytes_digits", {"encoded": [b""]}),
        ("predict_bytes_digits", {"encoded": [b"GIF89a" + b"\0" * 50]}),
        ("predict_bytes_digits", {"encoded": [_BOMB]}),
        ("predict_bytes_digits", {"encoded": [[_PNG]]}),
    ],
)
def test_a_wrong_request_is_refused_and_the_server_lives(
    predict, signature, inputs
):
    grpc = pytest.importorskip("grpc")
    with pytest.raises(grpc.RpcError) as caught:
        predict(signature, **inputs)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert predict("predict_digits", images=_IMAGES)["scores"].shape == (3, 10)


def test_what_is_unusual_has_a_defined_answer(predict):
    assert predict("predict_digits", images=_IMAGES[:0])["scores"].shape == (
        0,
        10,
    )
    huge = np.zeros((1, 4000, 3000, 3), np.uint8)
    scores = predict("predict_digits", images=huge)["scores"]
    assert np.isclose(scores.sum(), 1.0)


def test_a_huge_file_is_refused_before_it_is_decoded(signatures):
    assert picture_decoder.NUM_PIXELS_MAX < 60_000**2
    with pytest.raises(tf.errors.InvalidArgumentError, match="60000"):
        signatures["predict_bytes_digits"](encoded=tf.constant([_BOMB]))


def test_warm_up_requests_are_those_of_the_serving_library(versions):
    pytest.importorskip("tensorflow_serving")
    from tensorflow_serving.apis import prediction_log_pb2

    file = versions / "1" / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        # Nothing is left over, and the library would write the same bytes.
        assert log.SerializeToString(deterministic=True) == record
        request = log.predict_log.request
        assert request.model_spec.name == "keras_munet"
        asked.append(request.model_spec.signature_name)
        (key,) = request.inputs
        assert tf.make_ndarray(request.inputs[key]).shape[0] == 1
    assert sorted(asked) == sorted(
        ["all_tasks", "features"]
        + [
            f"predict{kind}_{t}"
            for kind in ("", "_bytes")
            for t in ["b", "digits"]
        ]
    )


@pytest.mark.slow
def test_saved_model_cli_runs_a_signature(versions, system, tmp_path):
    np.save(tmp_path / "images.npy", _IMAGES)
    command = [
        *(sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"),
        *("run", "--dir", versions / "1", "--tag_set", "serve"),
        *("--signature_def", "predict_digits"),
        *("--inputs", f"images={tmp_path}/images.npy"),
        *("--outdir", tmp_path),
    ]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=_QUIET,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    pixels = preprocessing.evaluation_images(_IMAGES, 16, True)
    np.testing.assert_allclose(
        np.load(tmp_path / "scores.npy"),
        tf.nn.softmax(system.model("digits")(pixels)),
        rtol=0,
        atol=1e-6,
    )


def test_a_lite_file_answers_as_the_path(versions, system):
    file = versions / "1" / "tflite" / "digits.tflite"
    runner = tf.lite.Interpreter(str(file)).get_signature_runner()
    images = _MANY[:, :16, :16]
    pixels = preprocessing.evaluation_images(images, 16, True)
    expected = tf.nn.softmax(system.model("digits")(pixels))
    for batch_size in (1, 7, 64):
        found = runner(images=images[:batch_size])
        np.testing.assert_allclose(
            found["scores"], expected[:batch_size], rtol=0, atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights, tolerance, share",
    [("bfloat16", 2e-3, 0.65), ("int8", 2e-2, 0.45)],
)
def test_a_smaller_lite_file_answers_nearly_the_same(
    versions, system, weights, tolerance, share, tmp_path
):
    out = system.export(tmp_path / weights, ["b"], weights=weights, tflite=True)
    small, exact = (
        pathlib.Path(folder) / "tflite" / "b.tflite"
        for folder in (out, versions / "1")
    )
    assert small.stat().st_size < share * exact.stat().st_size
    found, expected = (
        tf.lite.Interpreter(str(file)).get_signature_runner()(
            images=_MANY[:7, :16, :16]
        )
        for file in (small, exact)
    )
    apart = np.abs(found["scores"] - expected["scores"]).max()
    assert 0 < apart < tolerance


def test_a_later_version_answers_every_bit_as_the_one_before(versions):
    newest, oldest = versions / "2", versions / "1"
    assert golden_outputs.replay(newest, newest).num_skipped == 0
    replayed = golden_outputs.replay(newest, oldest)
    # predict and predict_bytes, all_tasks, features of both tasks.
    assert replayed == golden_outputs.Replay(2 * (2 + 2 + 2 + 1), 0)


def test_a_version_with_one_other_bit_is_found(versions, tmp_path):
    copied = pathlib.Path(shutil.copytree(versions / "1", tmp_path / "1"))
    (file,) = (copied / "variables").glob("*.data*")
    data = bytearray(file.read_bytes())
    # The weights are at the end.
    data[-200] ^= 1
    file.write_bytes(data)
    # TensorFlow's own checksum finds it before the canary does.
    with pytest.raises(errors.StoreError, match="cannot be loaded"):
        golden_outputs.replay(copied, copied)
    shutil.copytree(versions / "2", tmp_path / "2")
    with np.load(versions / "2" / golden_outputs.FILE) as kept:
        arrays = dict(kept)
    arrays["values"] = arrays["values"].copy()
    arrays["values"][0] = np.nextafter(arrays["values"][0], np.float32(9))
    np.savez(tmp_path / "2" / golden_outputs.FILE, **arrays)
    with pytest.raises(errors.StoreError, match="1 of 21 outputs"):
        golden_outputs.replay(tmp_path / "2", tmp_path / "2")


def test_a_path_that_changed_is_not_compared(versions, tmp_path):
    copied = pathlib.Path(shutil.copytree(versions / "2", tmp_path / "2"))
    described = json.loads((copied / "signatures.json").read_text())
    described["tasks"]["c"]["path_id"] = "other"
    (copied / "signatures.json").write_text(json.dumps(described))
    assert golden_outputs.replay(
        copied, versions / "2"
    ) == golden_outputs.Replay(14, 7)


@pytest.mark.slow
def test_features_of_another_component_are_not_compared(versions, system):
    other = system.export(
        versions.parent / "blocks", feature_component="encoderblock_0"
    )
    replayed = golden_outputs.replay(pathlib.Path(other), versions / "1")
    assert replayed == golden_outputs.Replay(2 * (2 + 2 + 2), 2)


def test_what_is_no_export_or_damaged_is_named(versions, tmp_path):
    with pytest.raises(errors.StoreError, match=r"signatures\.json"):
        golden_outputs.record(tmp_path, [])
    with pytest.raises(errors.StoreError, match="is no export"):
        golden_outputs.replay(versions / "1", tmp_path)
    copied = pathlib.Path(shutil.copytree(versions / "1", tmp_path / "1"))
    (file,) = (copied / "variables").glob("*.data*")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(errors.StoreError, match="cannot be loaded"):
        golden_outputs.replay(copied, copied)


def test_versions_are_numbered_after_the_last(versions, tmp_path):
    assert [p.name for p in output_dir.versions(versions)] == ["1", "2"]
    (tmp_path / "9").mkdir()
    (tmp_path / "10").mkdir()
    (tmp_path / "models.config").touch()
    # What a killed export leaves is no version and in nobody's way.
    (tmp_path / ".11.5.part").mkdir()
    assert output_dir.next_version(tmp_path).name == "11"


def test_an_export_that_fails_leaves_no_version(tmp_path):
    with (
        pytest.raises(errors.StoreError, match="no space"),
        output_dir.written_whole(tmp_path / "1") as part,
    ):
        (part / "file").write_text("half")
        raise OSError(28, "no space")
    assert not list(tmp_path.iterdir())


def test_two_exports_of_one_version_do_not_mix(tmp_path):
    with (
        pytest.raises(errors.StoreError, match="another export wrote"),
        output_dir.written_whole(tmp_path / "1") as part,
    ):
        (part / "file").write_text("late")
        with output_dir.written_whole(tmp_path / "early") as other:
            (other / "file").write_text("early")
        (tmp_path / "early").rename(tmp_path / "1")
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "file").read_text() == "early"


def _batching_parameters():
    """Returns TensorFlow Serving's message as its .proto file declares it.

    The package of its other messages lacks it: session_bundle_config.proto.
    """
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory
    from google.protobuf import wrappers_pb2

    wrappers = wrappers_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", package="test", syntax="proto3"
    )
    file.dependency.append(wrappers.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, name in enumerate(
        [
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
        ],
        1,
    ):
        message.field.add(
            name=name,
            number=number,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            type_name=".google.protobuf.Int64Value",
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("test.BatchingParameters")
    )()


def test_the_configuration_is_what_the_server_reads():
    pytest.importorskip("tensorflow_serving")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = serving.models_config({"munet": "/models/munet", "b": '/odd "x"'}, 3)
    parsed = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    )
    first, second = parsed.model_config_list.config
    assert (first.name, first.base_path) == ("munet", "/models/munet")
    assert first.model_platform == "tensorflow"
    assert first.model_version_policy.latest.num_versions == 3
    assert second.base_path == '/odd "x"'
    batching = text_format.Parse(
        serving.batching_config(32, 500, 4), _batching_parameters()
    )
    assert {
        field.name: value.value for field, value in batching.ListFields()
    } == {
        "max_batch_size": 32,
        "batch_timeout_micros": 500,
        "num_batch_threads": 4,
        "max_enqueued_batches": 100,
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda: serving.models_config({"a b": "/x"}),
        lambda: serving.models_config({"a": "/x"}, 0),
        lambda: serving.models_config({"a": "models/x"}),
        lambda: serving.batching_config(0),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(make):
    with pytest.raises(errors.UsageError):
        make()
