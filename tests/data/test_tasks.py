"""The one door to every kind of task."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_munet import errors
from keras_munet.data import tasks
from keras_munet.data.own import reading
from keras_munet.data.own import store as own_store


def test_embedded_tasks_are_listed_in_order():
    names = tasks.embedded_names()
    assert names == sorted(names)
    assert {"digits", "glyphs/greek", "glyphs/latin"} <= set(names)


def test_a_private_task_has_the_data_of_the_bare_name():
    private, bare = tasks.load("private:digits"), tasks.load("digits")
    assert private.name == bare.name == "digits"
    assert (private.test.images == bare.test.images).all()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("glyphs/grek", "glyphs/greek"), ("mnst", "mnist"), ("digit", "digits")],
)
def test_an_unknown_task_is_answered_with_close_names(wrong, right):
    with pytest.raises(errors.UsageError) as caught:
        tasks.load(wrong)
    message = str(caught.value)
    assert f"did you mean {right}" in message
    assert "glyphs/latin" in message
    assert "\n" not in message


@pytest.mark.parametrize("wrong", ["birds", "bird", "own-birds"])
def test_an_unknown_task_is_answered_with_a_prepared_one(wrong, tmp_path):
    folder = tmp_path / "own" / "birds"
    folder.mkdir(parents=True)
    (folder / reading.INDEX).touch()
    with pytest.raises(errors.UsageError, match="own/birds"):
        tasks.check_name(wrong, data_dir=f"{tmp_path / 'absent'},{tmp_path}")


@pytest.mark.parametrize("name", ["birds", "cats/birds", "own"])
def test_own_images_need_a_name_of_their_own(name, tmp_path):
    with pytest.raises(errors.UsageError, match=r"give e\.g\. own/"):
        own_store.exists(name, str(tmp_path))


def test_an_embedded_task_loads_without_tensorflow():
    code = (
        "import sys; from keras_munet.data import tasks; "
        "tasks.load('glyphs/digits'); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
