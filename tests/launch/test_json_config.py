from __future__ import annotations

import json
import pathlib
import random
import sys

import fuzz_mutations
import pytest
from forked import launch

from keras_munet import config as config_lib
from keras_munet import errors
from keras_munet.core import settings as settings_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "launch"))

import json_config  # noqa: E402


def _read(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return json_config.get_config(str(path))


def test_what_is_left_out_has_its_default(tmp_path):
    found = _read(tmp_path, "{}").to_dict()
    assert found == config_lib.base().to_dict()


def test_every_setting_can_be_given(tmp_path):
    value = {
        "seed": 3,
        "task_names": ["digits", "private:glyphs/greek"],
        "search": {"version": "munet", "score_base": 0.9},
        "root": {"variant": "mu", "num_layers": 1},
        "data": {"data_dir": "/data"},
        "hparams": {"opt_lr": 0.5},
        "ranges": {"num_layers": [0, 1, 2]},
    }
    config = _read(tmp_path, json.dumps(value))
    found = settings_lib.Settings.from_dict(config.to_dict())
    assert found == settings_lib.Settings.from_dict(value)
    config.seed = 4
    config.search.score_base = 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON object"),
        ("[]", "list, not an object"),
        ("null", "NoneType, not an object"),
        ('{"seed": 1,}', "no JSON object"),
        ('{"seed": 1, "seed": 2}', "one key twice"),
        ('{"hparams": {"mu": 0.1, "mu": 0.2}}', "one key twice"),
        ('{"hparams": {"mu": NaN}}', "NaN"),
        ('{"hparams": {"mu": Infinity}}', "Infinity"),
        ('{"hparams": {"mu": 1e999}}', "between"),
        ("[" * 100_000, "no JSON object"),
        ('{"a":' * 5_000, "no JSON object"),
        ('{"seed": ' + "9" * 10_000 + "}", "no JSON object"),
        (b'{"seed": 1}\xff', "no JSON object"),
        (b"\x80\x04}q\x00.", "no JSON object"),
        ('{"sede": 1}', "did you mean seed"),
        ('{"seed": "1"}', "seed"),
        ('{"seed": true}', "seed"),
        ('{"search": 1}', "by name"),
        ('{"search": {"__class__": "x"}}', "__class__"),
        ('{"__init__": 1}', "__init__"),
        ('{"task_names": "digits"}', "list of strings"),
        ('{"task_names": ["../x"]}', "cannot name a task"),
        ('{"task_names": ["con"]}', "reserved"),
        ('{"task_names": 1}', "list of strings"),
        ('{"ranges": {"num_layers": []}}', "ranges.num_layers"),
        ('{"hparams": []}', "by name"),
        ('{"hparams": 1}', "by name"),
    ],
    ids=range(27),
)
def test_what_is_no_config_is_refused_in_one_line(text, words, tmp_path):
    with pytest.raises(errors.UsageError, match=words) as info:
        _read(tmp_path, text)
    assert "\n" not in str(info.value)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(errors.UsageError, match="at most 1048576 are"):
        json_config.get_config(str(path))


def _evolve(tmp_path, *flags):
    flags = [*flags, f"--workdir={tmp_path}/system"]
    return launch("evolve", *flags, cwd=tmp_path)


@pytest.mark.parametrize(
    "flags",
    [
        ["--config=x.json"],
        ["-config=x.json"],
        ["--config", "x.json"],
        ["--config=x.JSON"],
        ["--config=x.json:argument"],
        ["--config=./x.json"],
        ["--flagfile=flags"],
        ["--config=x.json", "--config=x.json"],
        ["--config=x.json", "--config.seed=1"],
    ],
    ids=" ".join,
)
def test_a_json_config_is_never_run(flags, tmp_path):
    program = (
        "import pathlib\n"
        "pathlib.Path('was_run').touch()\n"
        "def get_config(argument=None):\n"
        "    return 1\n"
    )
    for name in ("x.json", "x.JSON"):
        (tmp_path / name).write_text(program)
    (tmp_path / "flags").write_text("--config=x.json\n")
    done = _evolve(tmp_path, *flags)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: --config=")
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "system").exists()


def test_a_json_config_is_what_is_evolved(tmp_path):
    """As far as needs no training: an unknown task, with a value changed."""
    (tmp_path / "x.json").write_text('{"task_names": ["digitz"]}')
    done = _evolve(tmp_path, "--config=x.json", "--config.seed=2")
    assert done.returncode == 2 and "'digitz'" in done.stderr
    (tmp_path / "x.json").write_text("{}")
    done = _evolve(tmp_path, "--config=x.json")
    assert "--config=x.json: task_names is empty" in done.stderr
    done = _evolve(tmp_path, "--config=y.json")
    assert "y.json cannot be read" in done.stderr
    (tmp_path / "x.json").write_text('{"task_names": ["digits"]}')
    done = _evolve(tmp_path, "--config=x.json", "--config.sede=2")
    assert done.returncode == 2 and "sede" in done.stderr


@pytest.mark.parametrize("seed", range(60))
def test_json_and_the_constructor_refuse_the_same_values(seed, tmp_path):
    rng = random.Random(seed)
    whole = settings_lib.Settings().to_json()
    value = fuzz_mutations.json_like(whole, rng)
    told = []
    for door in (
        lambda: _read(tmp_path, json.dumps(value)),
        lambda: settings_lib.Settings.from_dict(value),
        lambda: settings_lib.Settings(**value),
    ):
        try:
            door()
        except errors.UsageError as error:
            assert "\n" not in str(error)
            told.append("refused")
        except TypeError:
            # Python's own word for a keyword that no constructor has.
            assert set(value) - set(whole)
            told.append("refused")
        else:
            told.append("taken")
    assert len(set(told)) == 1, (value, told)
