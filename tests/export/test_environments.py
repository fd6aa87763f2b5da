"""Exports as programs read them that need an environment of their own.

Their packages do not fit beside the project's, so each test takes the
interpreter of such an environment from a variable.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import export_samples
import numpy as np
import pytest
import tensorflow as tf

_TESTS = pathlib.Path(__file__).resolve().parents[1]
# Without the folders of this environment: others have their own.
_CLEAN = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
_CLEAN["TF_CPP_MIN_LOG_LEVEL"] = "3"
_SECONDS_TO_START = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export; treat it as read-only."""
    path = tmp_path_factory.mktemp("environments")
    system = export_samples.system(path / "system", {"digits": 10, "a/b": 3})
    return pathlib.Path(system.export(path / "served", classify=True))


@pytest.fixture(scope="module")
def recorded(folder):
    """Returns the answers that the export recorded: (signature, output)."""
    with np.load(folder / "canary.npz") as canary:
        outputs = json.loads(canary["index"].tobytes())["outputs"]
        sizes = [np.prod(shape, dtype=int) for *_, shape in outputs]
        values = np.split(canary["values"], np.cumsum(sizes)[:-1])
    return {
        (signature, output): value.reshape(shape)
        for (signature, output, _, shape), value in zip(
            outputs, values, strict=True
        )
    }


@pytest.fixture(scope="module")
def inputs(folder):
    """The inputs of `recorded`, by the names that signatures give them."""
    with np.load(folder / "canary.npz") as canary:
        files = [canary["png"].tobytes(), canary["jpeg"].tobytes()]
        return {"images": canary["images"], "encoded": files}


def _interpreter(variable: str, package: str) -> str:
    """Returns the interpreter that has a package, or skips the test."""
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no interpreter that has {package}")
    return python


def _answers(python, folder):
    """Returns another TensorFlow's version and what it answers."""
    process = subprocess.run(
        [python, _TESTS / "helpers" / "canary_process.py", folder],
        capture_output=True,
        text=True,
        env=_CLEAN,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-1000:]
    reply = json.loads(process.stdout)
    return reply["tensorflow"], reply["values"]


@pytest.mark.slow
def test_an_older_tensorflow_answers_alike(folder, recorded):
    python = _interpreter("KERAS_MUNET_OLD_PYTHON", "an older TensorFlow")
    version, values = _answers(python, folder)
    minor, own = (
        tuple(map(int, v.split(".")[:2])) for v in (version, tf.__version__)
    )
    assert minor <= (own[0], own[1] - 2), f"{version} is not two releases back"
    for key, value in zip(recorded, values, strict=True):
        near = 1e-5 * max(1, np.abs(recorded[key]).max())
        np.testing.assert_allclose(
            value, recorded[key], rtol=0, atol=near, err_msg=f"{key}"
        )


@pytest.mark.slow
def test_the_converter_of_tf_js_reads_the_saved_model_of_fixed_size(tmp_path):
    python = _interpreter("KERAS_MUNET_TFJS_PYTHON", "tensorflowjs")
    system = export_samples.system(tmp_path / "system", {"digits": 10})
    out = system.export(
        tmp_path / "served", formats=["savedmodel", "fixed_size"]
    )
    code = "from tensorflowjs.converters import converter; converter.pip_main()"
    process = subprocess.run(
        [python, "-c", code, f"{out}/fixed_size/digits", tmp_path / "js"],
        capture_output=True,
        text=True,
        env=_CLEAN,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-1000:]
    model = json.loads((tmp_path / "js" / "model.json").read_text())
    outputs = model["signature"]["outputs"].values()
    sizes = [o["tensorShape"]["dim"][-1]["size"] for o in outputs]
    assert sizes == ["10", "10"]
    weights = [w for g in model["weightsManifest"] for w in g["weights"]]
    num_values = sum(np.prod(w["shape"], dtype=int) for w in weights)
    # It folds some, such as a bias into the positions.
    assert num_values > 0.95 * system.tasks["digits"].published.num_params


def _infer(address, model, **inputs):
    """Returns what KServe's server answers over REST."""
    described = [
        {
            "name": name,
            "shape": list(np.shape(value)),
            "datatype": "BYTES" if isinstance(value, list) else "UINT8",
            "data": [base64.b64encode(v).decode() for v in value]
            if isinstance(value, list)
            else value.reshape(-1).tolist(),
        }
        for name, value in inputs.items()
    ]
    request = urllib.request.Request(
        f"{address}/v2/models/{model}/infer",
        json.dumps({"inputs": described}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        outputs = json.load(response)["outputs"]
    return {
        o["name"]: np.float32(o["data"]).reshape(o["shape"]) for o in outputs
    }


@pytest.fixture(scope="module")
def kserve_python():
    """An interpreter that has KServe and TensorFlow."""
    return _interpreter("KERAS_MUNET_KSERVE_PYTHON", "kserve and tensorflow")


@pytest.fixture(scope="module")
def kserve_address(kserve_python, folder, tmp_path_factory):
    """Leads to the example in KServe's own server."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                kserve_python,
                _TESTS.parent / "examples" / "serve_kserve.py",
                f"--model_dir={folder}",
                f"--http_port={port}",
                "--enable_grpc=false",
            ],
            stdout=stream,
            stderr=stream,
            env=_CLEAN,
        )
    address = f"http://localhost:{port}"
    try:
        for _ in range(_SECONDS_TO_START):
            assert process.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/v2/health/ready").close()
                break
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
def test_kserve_answers_bit_equal_to_the_signatures(
    kserve_python, kserve_address, folder, inputs, recorded
):
    _, values = _answers(kserve_python, folder)
    expected = dict(zip(recorded, map(np.float32, values), strict=True))
    for key in ("digits", "a_b"):
        for name, given in (
            ("predict", "images"),
            ("predict_bytes", "encoded"),
        ):
            model = f"{name}_{key}"
            reply = _infer(kserve_address, model, **{given: inputs[given]})
            assert reply.keys() == {"logits", "scores"}
            for output, value in reply.items():
                np.testing.assert_array_equal(value, expected[model, output])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, given",
    [
        ("predict_digits", {"images": np.zeros([24, 20, 3], np.uint8)}),
        ("predict_digits", {"images": np.zeros([1, 0, 20, 3], np.uint8)}),
        ("predict_digits", {"encoded": [b"no picture"]}),
        ("predict_bytes_digits", {"encoded": [b"no picture"]}),
        ("predict_bytes_digits", {"encoded": [b""]}),
        ("predict_bytes_digits", {}),
    ],
)
def test_kserve_refuses_a_wrong_request_and_lives(
    kserve_address, inputs, model, given
):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        _infer(kserve_address, model, **given)
    _infer(kserve_address, "predict_digits", images=inputs["images"])


@pytest.mark.slow
def test_kserve_refuses_protocol_v1_and_names_v2(kserve_address):
    url = f"{kserve_address}/v1/models/predict_digits:predict"
    request = urllib.request.Request(url, b'{"instances": [[[[0, 0, 0]]]]}')
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(request, timeout=60)
    assert b"/v2/models/" in caught.value.read()
