"""What is built from the project: its files, its commands, a quick import."""

from __future__ import annotations

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

import keras_munet.__main__ as command_lib
from keras_munet import version

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / "keras_munet"
_SETUP = configparser.ConfigParser()
_SETUP.read(_ROOT / "setup.cfg")
_LEFT_OUT = shutil.ignore_patterns(
    *(".*", "runs", "build", "dist", "site", "__pycache__", "*.egg-info"),
    *("bazel-*", "goldens"),
)


def _command(*arguments, cwd, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "keras_munet", *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        **kwargs,
    )


def test_importing_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "import keras_munet; secs = time.perf_counter() - start\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'absl'} & set(sys.modules)\n"
        "print(secs, heavy)\n"
    )
    # The least of three: other jobs of the machine only add to it.
    found = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
        )
        secs, _, heavy = done.stdout.strip().partition(" ")
        assert heavy == "set()"
        found.append(float(secs))
    assert min(found) < 1.0, found


def test_type_information_is_part_of_the_package():
    assert (_PACKAGE / "py.typed").exists()
    assert "py.typed" in _SETUP["options.package_data"]["keras_munet"]


def test_every_launcher_is_a_command_with_one_line_about_it(tmp_path):
    done = _command(cwd=tmp_path)
    assert done.returncode == 0
    for path in (_ROOT / "launch").glob("*.py"):
        if 'if __name__ == "__main__":' in path.read_text():
            assert re.search(rf"^  {path.stem} +[A-Z].*\.$", done.stdout, re.M)


def test_a_command_is_what_the_launcher_of_that_name_is(tmp_path):
    done = _command("tasks", "show", "digits", cwd=tmp_path)
    launcher = subprocess.run(
        [sys.executable, _ROOT / "launch" / "tasks.py", "show", "digits"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == launcher.stdout
    assert "10: 0, 1, 2" in done.stdout


def test_no_module_comes_from_the_working_folder(tmp_path):
    text = "import pathlib; pathlib.Path(__file__).with_name('RAN').touch()"
    for name in ("json", "ml_collections", "absl", "numpy"):
        (tmp_path / f"{name}.py").write_text(text)
    done = _command("tasks", "show", "digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "RAN").exists()


def test_wrong_commands_are_refused_in_one_line(tmp_path):
    done = _command("evlove", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "evolve" in done.stderr
    refused = _command("tasks", "shw", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: 'shw' is given; give one of list")


def test_the_folder_of_configs_is_printed(tmp_path):
    done = _command("configs", cwd=tmp_path)
    folder = pathlib.Path(done.stdout.strip())
    assert (folder / "quickstart.py").exists()


def test_the_readme_renders_away_from_its_repository():
    text = (_ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)", text)
    links += re.findall(r"(?:src|href)=[\"']([^\"']+)", text)
    links += re.findall(r"^\[[^\]]+\]: *(\S+)", text, re.MULTILINE)
    assert links
    relative = [x for x in links if not re.match(r"https?://|#", x)]
    assert relative == []


def test_the_files_of_a_release_are_of_this_version():
    for name in ("CITATION.cff", "MODULE.bazel"):
        text = (_ROOT / name).read_text(encoding="utf-8")
        (stated,) = re.findall(r"^\s*version\W+([\d.]+)", text, re.MULTILINE)
        assert stated == version.__version__, name
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md"):
        assert (_ROOT / name).stat().st_size > 500
    minor = version.__version__.rpartition(".")[0]
    supported = (_ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"| {minor} | yes |" in supported


def test_classifiers_are_those_that_an_index_knows():
    trove = pytest.importorskip("trove_classifiers")
    named = _SETUP["metadata"]["classifiers"].split("\n")
    assert set(filter(None, named)) <= trove.classifiers


def test_every_requirement_has_a_floor():
    groups = [_SETUP["options"]["install_requires"]]
    groups += dict(_SETUP["options.extras_require"]).values()
    lines = "\n".join(groups).splitlines()
    wanted = [line for line in map(str.strip, lines) if line]
    named = [line for line in wanted if not line.startswith("#")]
    pinned = re.compile(r"[\w\[\]-]+[>=]=\d")
    assert [line for line in named if not pinned.match(line)] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that was made from it."""
    base = tmp_path_factory.mktemp("built")
    source = base / "source"
    # Building leaves files beside the sources.
    shutil.copytree(_ROOT, source, ignore=_LEFT_OUT)
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--no-isolation"),
            *("--outdir", str(base / "dist"), str(source)),
        ],
        check=True,
        capture_output=True,
    )
    return base / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of a new environment that the wheel was installed into.

    What the project requires is read from this environment, whose own link
    to the checkout lies in a .pth file that PYTHONPATH does not read.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install"),
            *("--quiet", "--no-deps", "--no-index", str(wheel)),
        ],
        check=True,
    )
    return python


def _in(installed, *command, cwd):
    """Runs a command of the clean environment, outside of the checkout."""
    return subprocess.run(
        [str(installed.parent / command[0]), *command[1:]],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"]},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = {n for n in names if n.startswith("keras_munet/")}
    # Data too: a page's scripts, the packaged root.
    wanted = {
        path.relative_to(_ROOT).as_posix()
        for path in _PACKAGE.rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for folder in ("launch", "configs"):
        wanted |= {
            f"keras_munet/{folder}/{path.name}"
            for path in (_ROOT / folder).glob("*.py")
        }
    assert packaged == wanted
    others = {n.partition("/")[0] for n in names - packaged}
    assert all(n.endswith(".dist-info") for n in others)


@pytest.mark.slow
def test_the_sdist_holds_the_tests_and_what_they_read(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {n.partition("/")[2] for n in tar.getnames()}
    for name in (
        *("setup.cfg", "setup.py", "pyproject.toml", "LICENSE", "README.md"),
        *("tests/run.sh", "tests/test_walls.py", "launch/evolve.py"),
        *("configs/quickstart.py", "docs/plugins.md", "launch/environment.sh"),
    ):
        assert name in names, name
    assert not [n for n in names if "__pycache__" in n or ".venv" in n]


@pytest.mark.slow
def test_an_installed_wheel_evolves_reports_and_exports(installed, tmp_path):
    where = _in(
        installed,
        *("python", "-c", "import keras_munet; print(keras_munet.__file__)"),
        cwd=tmp_path,
    )
    assert where.stdout.startswith(str(installed.parent.parent)), where
    done = _in(installed, "keras-munet", "configs", cwd=tmp_path)
    config = pathlib.Path(done.stdout.strip()) / "quickstart.py"
    assert str(config).startswith(str(installed.parent.parent))
    tiny = [
        f"--config.{key}={value}"
        for key, value in {
            "num_task_iters": 1,
            "num_samples_per_task": 2,
            "children_per_generation": 2,
            "num_validations_per_path_training": 1,
            "num_train_examples_between_validations_max": 64,
            "num_validation_examples_max": 64,
        }.items()
    ]
    # A path, and below a name of what comes with the project.
    assert config.is_file()
    done = _in(
        installed,
        *("keras-munet", "evolve", "--config=quickstart"),
        *("--workdir=system", *tiny),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for command in (
        ("report", "--workdir=system"),
        ("system", "check", "--workdir=system"),
        ("evaluate", "--workdir=system", "--out=metrics.json"),
        ("export", "--workdir=system", "--out=served"),
    ):
        done = _in(installed, "keras-munet", *command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        assert ".part" not in done.stdout + done.stderr
    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert set(measured) == {"digits", "glyphs/greek", "glyphs/cyrillic"}
    assert (tmp_path / "served" / "saved_model.pb").exists()


@pytest.mark.slow
def test_messages_of_a_wheel_name_commands_that_it_has(installed, tmp_path):
    code = "from keras_munet.core import commands; print(commands.command('x'))"
    done = _in(installed, "python", "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "keras-munet x"
    done = _in(installed, "keras-munet", "evolve", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout
    assert "keras-munet evolve --config=" in done.stdout
    assert "launch/" not in done.stdout.replace("keras_munet/launch/", "")


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "-h"])
def test_asking_for_help_is_no_failure(flag, tmp_path):
    done = _command("tasks", flag, cwd=tmp_path)
    assert done.returncode == 0
    assert "--data_dir" in done.stdout


@pytest.mark.parametrize(
    "config", ["quickstart", "configs/quickstart.py", "quickstart.py"]
)
def test_a_config_of_the_project_is_named_from_anywhere(config, tmp_path):
    done = _command(
        *("evolve", f"--config={config}", "--config.nothing=1"),
        f"--workdir={tmp_path}/s",
        cwd=tmp_path,
    )
    # The config was read; the key is none of its.
    assert done.returncode == 2
    assert "nothing" in done.stderr and "no such file" not in done.stderr
    done = _command("evolve", "--config=quickstrat", cwd=tmp_path)
    assert "quickstrat: there is no such file" in done.stderr


def test_modules_are_reached_by_dots(tmp_path):
    code = (
        "import keras_munet as k\n"
        "print(k.core.devices.Devices.__name__, k.report.write.__name__)\n"
        "print(hasattr(k, 'nothing'), hasattr(k.core, '_nothing'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["Devices", "write", "False", "False"]


def test_the_version_is_the_packages():
    assert command_lib.installed("launch") == _ROOT / "launch"
    done = _command("--version", cwd=_ROOT)
    version = (_PACKAGE / "version.py").read_text()
    assert done.stdout.split()[1] in version
