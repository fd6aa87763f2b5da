"""Config files that are programs: what they may return, and how they fail."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import ml_collections
import pytest

from keras_munet import config as config_lib
from keras_munet import errors
from keras_munet.core import settings as settings_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "launch"))

import config_program  # noqa: E402

_HEAD = (
    "import numpy as np\n"
    "from keras_munet import config as config_lib\n"
    "def get_config(argument=''):\n"
    "    config = config_lib.base()\n"
)


def _made(tmp_path, body, argument=""):
    path = tmp_path / "mine.py"
    path.write_text(_HEAD + "".join(f"    {line}\n" for line in body))
    return config_program.get_config(f"{path}{argument}")


def _settings(tmp_path, *body):
    made = _made(tmp_path, body)
    return settings_lib.Settings.from_dict(made.to_dict())


@pytest.mark.parametrize(
    "line",
    [
        "return config",
        "return config.to_dict()",
        "return {}",
        "return {'seed': 0, 'search': {}}",
        "import ml_collections; return ml_collections.FrozenConfigDict(config)",
    ],
)
def test_a_config_or_a_dict_may_be_returned(tmp_path, line):
    assert _settings(tmp_path, line) == settings_lib.Settings.from_dict({})


@pytest.mark.parametrize(
    "line", ["return 3", "return None", "pass", "return [('seed', 1)]"]
)
def test_another_return_value_is_refused(tmp_path, line):
    with pytest.raises(errors.UsageError, match="must return a ConfigDict"):
        _made(tmp_path, [line])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hparams.opt_lr", "np.float64(0.1)", 0.1),
        ("hparams.mu", "np.float32(0.25)", 0.25),
        ("seed", "np.int64(7)", 7),
        ("batch_size", "np.uint8(9)", 9),
        ("hparams.ds_crop", "np.bool_(False)", False),
    ],
)
def test_numbers_of_numpy_are_numbers(tmp_path, key, value, expected):
    group, _, name = key.rpartition(".")
    made = f"{{{name!r}: {value}}}"
    made = f"{{{group!r}: {made}}}" if group else made
    found = _settings(tmp_path, f"return {made}")
    if group:
        assert found.hparams[name] == expected
        assert type(found.hparams[name]) is type(expected)
    else:
        assert getattr(found, name) == expected
        assert type(getattr(found, name)) is type(expected)


def test_lists_may_be_replaced_by_flags(tmp_path):
    made = _made(
        tmp_path,
        [
            "config.task_names = ['digits']",
            "config.ranges.num_layers = [0, 1]",
            "return config",
        ],
    )
    assert made.task_names == ("digits",)
    assert made.ranges.num_layers == (0, 1)
    assert made.search.mutations == ()


def test_lists_of_the_base_are_tuples_for_every_config():
    base = config_lib.base()
    base.task_names = ["digits", "glyphs/greek"]
    assert base.task_names == ("digits", "glyphs/greek")
    with pytest.raises(TypeError):
        base.task_names = 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "raise RuntimeError('x' * 2000 + ' THE END')",
            "RuntimeError.*THE END",
        ),
        ("config.batch_size = 'many'", "TypeError.*many"),
        ("import nothing_of_this_name", "ModuleNotFoundError.*nothing_of_this"),
        ("raise SystemExit('I stop')", "SystemExit: I stop"),
        ("assert False, 'two\\nlines'", "AssertionError: two lines"),
        ("return [][3]", "IndexError"),
        ("open('/nowhere/at/all')", "FileNotFoundError.*/nowhere/at/all"),
        ("raise OSError", "OSError"),
    ],
)
def test_a_failure_is_told_in_one_line_with_its_kind_and_place(
    tmp_path, line, words
):
    with pytest.raises(errors.UsageError, match=words) as caught:
        _made(tmp_path, [line, "return config"])
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert f"mine.py, line {5 + line.startswith('import x')}" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:\n", "line 1: SyntaxError"),
        ("x = 1\n", "has no function get_config"),
        ("def get_config(a, b): pass\n", "TypeError"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(errors.UsageError, match=words):
        config_program.get_config(str(path))
    with pytest.raises(errors.UsageError, match="no such file"):
        config_program.get_config(f"{path}x")


def test_the_argument_behind_a_colon_is_passed_on(tmp_path):
    body = ["return {'task_names': argument.split(',')}"]
    assert _made(tmp_path, body, ":a,b").task_names == ("a", "b")


def test_a_config_s_own_refusal_is_left_as_it_is(tmp_path):
    body = [
        "from keras_munet import errors",
        "raise errors.UsageError('the only option is small')",
    ]
    with pytest.raises(errors.UsageError, match=r"^the only option is small$"):
        _made(tmp_path, body)


@pytest.mark.parametrize("path", sorted(_ROOT.glob("configs/*.py")))
def test_every_config_of_the_project_is_read(path):
    made = config_program.get_config(str(path))
    assert isinstance(made, ml_collections.ConfigDict)


def test_a_launcher_starts_without_packages_that_it_does_not_need():
    code = (
        "import sys\n"
        "import launching\n"
        "launching.quiet_tensorflow()\n"
        "for name in ('sklearn', 'matplotlib', 'pandas', 'tensorboard',\n"
        "             'tensorflow_datasets'):\n"
        "    assert name not in sys.modules, name\n"
        # An import afterwards works.
        "import sklearn.datasets\n"
        "assert 'sklearn' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'launch'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
