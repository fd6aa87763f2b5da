"""Steps compiled for TPUs by the real compiler; and what is said without it."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from keras_munet import errors
from keras_munet.aot import compiler
from keras_munet.aot import dry_run
from keras_munet.aot import lowering
from keras_munet.core import settings as settings_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SMALL = """
from keras_munet import config as config_lib

def get_config():
    config = config_lib.base()
    config.task_names = ["digits"]
    config.children_per_generation = 2
    config.batch_size = 64
    config.root.source = "random"
    config.root.variant = "mu"
    return config
"""
_needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the TPU compiler: bash launch/tpu_env.sh DIR tpu-aot",
)


def _dry_run(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    (cwd / "small.py").write_text(_SMALL)
    return subprocess.run(
        [
            *(sys.executable, str(_ROOT / "launch" / "dry_run.py")),
            *(f"--config={cwd / 'small.py'}", *arguments),
        ],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None,
    reason="the TPU compiler is installed here",
)
def test_without_the_compiler_one_line_says_how_to_have_it(tmp_path):
    done = _dry_run("--topology=v3-8", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "tensorflow-tpu" in line
    assert "bash launch/tpu_env.sh DIR tpu-aot" in line


def test_a_refusal_for_memory_tells_how_much_there_is(monkeypatch):
    # As libtpu 0.0.30 writes it.
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of "
        "memory in memory space hbm. Used 29.65G of 15.48G hbm. Exceeded hbm "
        "capacity by 14.17G."
    )
    monkeypatch.setattr(compiler, "_ask", lambda *_: {"error": message})
    figures = compiler.compile_module(
        b"", {}, compiler.Slice("v3-8", ((0, 0, 0, 0),))
    )
    assert not figures.fits
    assert figures.peak_bytes == int(29.65 * 2**30)
    assert figures.limit_bytes == int(15.48 * 2**30)


def test_an_array_that_is_larger_than_the_memory_is_a_misfit(monkeypatch):
    message = (
        "RESOURCE_EXHAUSTED: Allocation (size=25769803776) would exceed memory "
        "(size=17179869184) :: #allocation168"
    )
    monkeypatch.setattr(compiler, "_ask", lambda *_: {"error": message})
    figures = compiler.compile_module(
        b"", {}, compiler.Slice("v3-8", ((0, 0, 0, 0),))
    )
    assert not figures.fits
    assert (figures.peak_bytes, figures.limit_bytes) == (24 * 2**30, 2**34)


def test_another_refusal_is_told_in_its_first_line(monkeypatch):
    answer = {"error": "INTERNAL: RET_CHECK failure (x.cc:9)\nand much more"}
    monkeypatch.setattr(compiler, "_ask", lambda *_: answer)
    with pytest.raises(errors.UsageError, match=r"refuses .*x\.cc:9\)$"):
        compiler.compile_module(
            b"", {}, compiler.Slice("v3-8", ((0, 0, 0, 0),))
        )


def test_an_operation_that_no_tpu_has_is_named():
    # As TensorFlow 2.20 writes it.
    said = lowering._refusal(
        "Failed getting HLO text: 'Detected unsupported operations when trying "
        "to compile graph __inference_f_43[] on XLA_TPU_JIT: EagerPyFunc (No "
        "registered 'EagerPyFunc' OpKernel for XLA_TPU_JIT devices compatible "
        "with node {{node EagerPyFunc}}){{node EagerPyFunc}}\nOne approach"
    )
    assert said.startswith("a TPU cannot run EagerPyFunc (at EagerPyFunc);")
    assert "\n" not in said


@pytest.mark.slow
@_needs_compiler
def test_a_small_config_fits_and_its_figures_are_whole(tmp_path):
    done = _dry_run("--topology=v4-8", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["fits"] and not done.stderr
    names = [part["name"] for part in report["compiled"]]
    assert names[0] == "program" and len(set(names)) == 5
    for part in report["compiled"]:
        figures = part["figures"]
        assert 0 < figures["peak_bytes"] < figures["limit_bytes"]
        assert figures["limit_bytes"] == pytest.approx(30.75 * 2**30)
        assert figures["code_bytes"] > 0
        assert part["bound"]["compute_secs"] > 0
        # Two children have two of four chips each, which add gradients up.
        assert bool(figures["collectives"]) == (part["name"] == "program")
    assert report["num_programs"] == 1
    assert report["cores_per_child"] == 2
    assert 0 < report["compile_share"] < 1


def test_a_way_out_is_named_only_after_it_was_compiled(monkeypatch):
    # Stands in for the compiler, which has room for 16 examples a core.
    shares = []

    def compile_module(hlo, aliases, where):
        share = int(hlo)
        shares.append(share)
        peak = 10**9 + share * 10**6
        return compiler.Figures(peak, 10**9 + 16 * 10**6, share <= 16)

    monkeypatch.setattr(compiler, "compile_module", compile_module)
    monkeypatch.setattr(
        lowering,
        "lower_program",
        # Indices are the only whole numbers of two dimensions.
        lambda program: next(
            str(spec.shape[1]).encode()
            for spec in program.arguments
            if len(spec.shape) == 2 and spec.dtype.name == "int32"
        ),
    )
    settings = settings_lib.Settings.from_dict(
        {
            "task_names": ["digits"],
            "children_per_generation": 8,
            "batch_size": 128,
            "root": {"source": "random", "variant": "mu"},
        }
    )
    report = dry_run.compile_program(settings, "v3-8")
    assert not report.fits
    found = dry_run.way_out(settings, report)
    assert found is not None
    what, other = found
    assert what == "--config.batch_size=16"
    assert other.fits and other.batch_size == 16
    # The estimate knows nothing of what does not grow with the batch.
    assert shares == [128, 64, 32, 16]


@pytest.mark.slow
@_needs_compiler
def test_a_step_with_python_in_it_is_refused_by_name(tmp_path):
    code = """
import tensorflow as tf
from keras_munet.aot import lowering
from keras_munet.aot import programs

program = programs.Program(
    lambda x: [tf.py_function(lambda y: y, [x], tf.float32)],
    (tf.TensorSpec([], tf.float32),), {}, 0, 0)
lowering.lower_program(program)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "TPU_LOAD_LIBRARY": "0",
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "UsageError: a TPU cannot run EagerPyFunc" in done.stderr
