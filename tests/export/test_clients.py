"""Exports as other programs meet them: C++, gRPC clients, damaged files."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import c_process
import export_samples
import numpy as np
import pytest
import tensorflow as tf

import keras_munet
from keras_munet.data import preprocessing
from keras_munet.export import output_dir
from keras_munet.export import serving_functions

_TESTS = pathlib.Path(__file__).resolve().parents[1]
_IMAGES = np.random.default_rng(0).integers(0, 256, (64, 20, 24, 3), np.uint8)
_PNG = tf.io.encode_png(_IMAGES[0]).numpy()
_JPEG = tf.io.encode_jpeg(_IMAGES[0]).numpy()
_QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
_INVALID_ARGUMENT = 3


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients") / "system"
    export_samples.system(folder, {"digits": 10}, num_layers=1)
    return folder


@pytest.fixture(scope="module")
def system(workdir):
    return keras_munet.System.open(workdir)


@pytest.fixture(scope="module")
def folder(system, workdir):
    """An export; treat it as read-only."""
    out = workdir.parent / "served"
    return pathlib.Path(system.export(out, classify=True))


@pytest.fixture(scope="module")
def scores(system):
    """What the system itself answers to the images."""
    pixels = preprocessing.evaluation_images(_IMAGES, 16, True)
    return tf.nn.softmax(system.model("digits")(pixels)).numpy()


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def channel(folder):
    """Leads to a process without Keras that serves the export."""
    pytest.importorskip("tensorflow_serving")
    grpc = pytest.importorskip("grpc")
    process = subprocess.Popen(
        [
            sys.executable,
            str(_TESTS / "helpers" / "serving_process.py"),
            folder,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_QUIET,
        text=True,
    )
    address = f"localhost:{int(process.stdout.readline())}"
    with grpc.insecure_channel(address) as channel:
        channel.address = address
        yield channel
    process.stdin.close()
    assert process.wait(120) == 0


def _ask_c(folder, signature, **inputs):
    """Returns what TensorFlow's C library answers, without its Python."""
    library = c_process.library_file()
    if not library.exists():
        pytest.skip("this TensorFlow comes without its C library")
    names = c_process.tensor_names(folder, signature)
    done = subprocess.run(
        [
            sys.executable,
            str(_TESTS / "helpers" / "c_process.py"),
            library,
            folder,
        ],
        input=json.dumps({**names, **inputs}),
        capture_output=True,
        text=True,
        env=_QUIET,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return json.loads(done.stdout)


def test_the_c_library_answers_as_the_system(folder, scores):
    found = _ask_c(folder, "predict_digits", images=_IMAGES.tolist())
    np.testing.assert_allclose(
        np.reshape(found["values"], [64, 10]), scores, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("length", [None, 60])
def test_the_c_library_takes_files_and_names_what_is_wrong(
    folder, scores, length
):
    data = base64.b64encode(_PNG[:length]).decode()
    found = _ask_c(folder, "predict_bytes_digits", encoded=[data])
    if length is None:
        np.testing.assert_allclose(
            found["values"], scores[0], rtol=0, atol=1e-6
        )
    else:
        assert found["code"] == _INVALID_ARGUMENT
        assert "PNG" in found["message"]


def test_a_classification_request_is_answered_with_labels(channel, scores):
    from tensorflow_serving.apis import classification_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "keras_munet"
    request.model_spec.signature_name = "classify_digits"
    for _ in range(2):
        example = tf.train.Example.FromString(serving_functions.example(_PNG))
        request.input.example_list.examples.append(example)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    first, second = stub.Classify(request, timeout=240).result.classifications
    assert first == second
    assert [c.label for c in first.classes] == [str(i) for i in range(10)]
    np.testing.assert_allclose(
        [c.score for c in first.classes], scores[0], rtol=0, atol=1e-6
    )


def test_every_signature_answers_its_own_warm_up_request(folder, loaded):
    pytest.importorskip("tensorflow_serving")
    from tensorflow_serving.apis import prediction_log_pb2

    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    asked = set()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        name = request.model_spec.signature_name
        ((key, value),) = request.inputs.items()
        given = {key: tf.constant(tf.make_ndarray(value))}
        for output in loaded.signatures[name](**given).values():
            assert output.shape[0] == 1
        asked.add(name)
    assert asked == set(loaded.signatures) - {"serving_default"}


def test_the_documented_client_runs(channel, scores, tmp_path, monkeypatch):
    document = (_TESTS.parent / "docs/serving.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", document, re.M | re.S)
    assert "localhost:8500" in code
    (tmp_path / "seven.png").write_bytes(_PNG)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code.replace("localhost:8500", channel.address), names)
    np.testing.assert_allclose(names["scores"], scores[:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("data", [_PNG, _JPEG], ids=["png", "jpeg"])
def test_a_damaged_file_is_refused_or_scored_and_never_more(loaded, data):
    predict = loaded.signatures["predict_bytes_digits"]
    rng = np.random.default_rng(0)
    num_refused = 0
    for _ in range(80):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            damaged[at] = rng.integers(0, 256)
        try:
            found = predict(encoded=tf.constant([bytes(damaged)]))["scores"]
        except tf.errors.InvalidArgumentError:
            num_refused += 1
        else:
            np.testing.assert_allclose(np.sum(found), 1, atol=1e-5)
    assert num_refused > 0


@pytest.mark.parametrize(
    "example",
    [
        b"",
        b"\x0a\x05no",
        tf.train.Example().SerializeToString(),
        serving_functions.example(_JPEG[:100]),
    ],
)
def test_a_wrong_example_is_refused(loaded, example):
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["classify_digits"](inputs=tf.constant([example]))


_MEMORY = (
    "import resource, sys\n"
    "import tensorflow as tf\n"
    "loaded = tf.saved_model.load(sys.argv[1])\n"
    "zeros = tf.zeros([4096, 4096, 3], tf.uint8)\n"
    "data = tf.io.encode_png(zeros, compression=9)\n"
    "predict = loaded.signatures['predict_bytes_digits']\n"
    "for count in (1, 8):\n"
    "    predict(encoded=tf.stack([data] * count))\n"
    "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
)


@pytest.mark.slow
def test_many_large_images_take_the_memory_of_one(folder):
    threads = {"TF_NUM_INTEROP_THREADS": "8", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, folder],
        capture_output=True,
        text=True,
        env={**_QUIET, **threads},
        check=True,
    )
    one, many = map(int, done.stdout.split())
    # An image more is 0.2 GB.
    assert many - one < 150_000


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_version(workdir, system, tmp_path):
    code = (
        "import sys, keras_munet\n"
        "from keras_munet.export import golden_outputs\n"
        "def stop(*arguments):\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()\n"
        "golden_outputs.record = stop\n"
        "system = keras_munet.System.open(sys.argv[1])\n"
        "system.export(sys.argv[2], versioned=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, workdir, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_QUIET,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert list(tmp_path.iterdir())
    assert not output_dir.versions(tmp_path)
    assert system.export(tmp_path, versioned=True) == str(tmp_path / "1")
