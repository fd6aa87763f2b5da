from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data.tfds import catalogue
from keras_munet.store import layout


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../b",
        "..",
        ".",
        "/a",
        "a/",
        "a//b",
        "",
        "~",
        "a~b",
        "a b",
        "a\n",
        "a\0",
        "C:a",
        "a\\b",
        ".hidden",
        "-flag",
        "x" * 121,
        "d\u0456gits",
        "\uff0e\uff0e/x",
        "a\u202eb",
        "\u00e9",
        "private:",
        "private:private:a",
    ],
    ids=ascii,
)
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(errors.UsageError, match="cannot name a task") as info:
        names.split_private(name)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "name",
    [
        "NOT_TRAINABLE",
        "con",
        "Nul",
        "aux.txt",
        "com1",
        "LPT9.a.b",
        "a/prn",
        "private:con",
        "a.",
        "a./b",
    ],
)
def test_a_reserved_name_is_refused(name):
    with pytest.raises(errors.UsageError, match="it is reserved"):
        names.split_private(name)


@pytest.mark.parametrize(
    "name", ["console", "com10", "null", "a.b", "not_trainable", "acon", "con_"]
)
def test_a_name_that_is_only_like_a_reserved_one_is_allowed(name):
    assert names.split_private(f"private:{name}") == (name, True)


def test_no_published_task_has_a_reserved_name():
    for name in catalogue.tasks():
        assert names.split_private(name) == (name, False)


@hypothesis.given(st.text(max_size=20))
@hypothesis.settings(deadline=None)
def test_any_text_is_refused_or_one_file_below_the_folder(text):
    try:
        name, _ = names.split_private(text)
    except errors.UsageError:
        return
    file = layout.task_file(name)
    folder, _, last = file.partition("/")
    assert (folder, last) == ("tasks", f"{name.replace('/', '~')}.json")
    assert "/" not in last and last.isascii() and last.isprintable()
    assert layout.is_record_file(file, "tasks")
