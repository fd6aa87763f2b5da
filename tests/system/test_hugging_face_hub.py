from __future__ import annotations

import dataclasses
import json

import hugging_face_server
import numpy as np
import pytest
import store_samples
from forked import launch

from keras_munet import errors
from keras_munet.core import classification_metrics
from keras_munet.store import archives
from keras_munet.store import system_dir
from keras_munet.system import hugging_face_hub

pytest.importorskip("huggingface_hub", reason="needs keras_munet[hf]")
# The library's own way of uploading to large-file storage.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")

_NAME = "me/alphabets"
_URL = f"hf://{_NAME}"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hugging_face_server.serving() as (url, hub):
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", hugging_face_server.TOKEN)
        # Its storage protocol needs a second service.
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
        # Read when the library is imported, which an earlier test may do.
        monkeypatch.setattr(
            "huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False
        )
        yield hub


@pytest.fixture
def directory(tmp_path):
    made = store_samples.create(tmp_path / "mine")
    made.publish(_state(made, "digits"))
    made.publish(_state(made, "glyphs/latin"))
    return made


def _state(directory, task, **changes):
    """A state with what a card reads: pixels and test figures."""
    metrics = classification_metrics.measure_classifier(
        np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    )
    state = store_samples.state(
        directory, task=task, test_metrics=metrics, **changes
    )
    path = dataclasses.replace(
        state.published,
        hparams={**state.published.hparams, "ds_image_size": 32},
        metrics={**state.published.metrics, "test_quality": 0.75},
    )
    return dataclasses.replace(state, published=path)


def test_a_pulled_system_is_the_pushed_one(directory, hub, tmp_path):
    commit = hugging_face_hub.push(directory, _URL)
    assert commit.endswith(f"/{_NAME}/commit/{hugging_face_server.oid(0)}")
    pulled = hugging_face_hub.pull(_URL, tmp_path / "theirs")
    assert pulled.tasks() == directory.tasks()
    archives.export_archive(pulled, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == hub.files(_NAME)[
        hugging_face_hub.ARCHIVE_FILE
    ]


def test_a_repository_has_an_archive_and_a_card_in_one_commit(directory, hub):
    hugging_face_hub.push(directory, _URL, license_id="cc-by-4.0")
    (commit,) = hub.repositories[_NAME]
    assert set(commit) == {"README.md", "system.tar"}
    assert not hub.private


def test_a_second_push_is_a_second_commit_and_both_can_be_pulled(
    directory, hub, tmp_path
):
    hugging_face_hub.push(directory, _URL)
    directory.publish(_state(directory, "third"))
    hugging_face_hub.push(directory, _URL)
    old, new = map(hugging_face_server.oid, (0, 1))
    first = hugging_face_hub.pull(f"{_URL}@{old}", tmp_path / "first")
    assert "third" not in first.tasks()
    second = hugging_face_hub.pull(f"{_URL}@{new}", tmp_path / "second")
    assert "third" in second.tasks()


def test_the_card_states_metadata_quality_and_licences(directory, hub):
    hugging_face_hub.push(directory, _URL, license_id="cc-by-4.0")
    card = hub.files(_NAME)["README.md"].decode()
    _, metadata, text = card.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in metadata.splitlines())
    assert json.loads(values["license"]) == "cc-by-4.0"
    assert json.loads(values["library_name"]) == "keras_munet"
    (model,) = json.loads(values["model-index"])
    assert model["name"] == "alphabets"
    assert {r["dataset"]["name"] for r in model["results"]} == set(
        directory.tasks()
    )
    assert {r["metrics"][0]["value"] for r in model["results"]} == {0.75}
    assert "0.3006 to 0.9544" in text
    assert f"keras-munet pull {_URL} --workdir=DIR" in text
    assert "UCI optical digits, CC BY 4.0" in text
    assert "The root, whose components came first" in text
    assert hub.cards == [card]


def test_a_private_task_is_pushed_only_on_request(directory, hub):
    directory.publish(_state(directory, "hidden", private=True))
    with pytest.raises(errors.UsageError, match=r"hidden .* private task"):
        hugging_face_hub.push(directory, _URL)
    assert not hub.requests
    hugging_face_hub.push(directory, _URL, include_private=True, private=True)
    assert hub.private == {_NAME}


@pytest.mark.parametrize("published", [False, True])
def test_a_private_task_of_the_history_is_pushed_only_on_request(
    directory, hub, published
):
    if published:
        directory.publish(_state(directory, "patients", private=True))
    directory.change_experiment(
        {**directory.experiment, "task_names": ["digits", "private:patients"]}
    )
    if published:
        directory.remove("patients")
    with pytest.raises(errors.UsageError, match=r"patients .* history"):
        hugging_face_hub.push(directory, _URL)
    assert not hub.requests
    hugging_face_hub.push(directory, _URL, include_private=True)
    assert _NAME in hub.repositories


def test_a_private_task_that_a_job_publishes_meanwhile_is_not_pushed(
    directory, hub, monkeypatch
):
    export = archives.export_archive

    def exported(*args):
        directory.publish(_state(directory, "hidden", private=True))
        return export(*args)

    monkeypatch.setattr(archives, "export_archive", exported)
    with pytest.raises(errors.UsageError, match=r"hidden .* private task"):
        hugging_face_hub.push(directory, _URL)
    assert not hub.requests


def test_a_private_push_never_goes_to_a_public_repository(directory, hub):
    hugging_face_hub.push(directory, _URL)
    with pytest.raises(errors.UsageError, match="is public"):
        hugging_face_hub.push(directory, _URL, private=True)
    assert len(hub.repositories[_NAME]) == 1
    hub.private.add(_NAME)
    hugging_face_hub.push(directory, _URL, private=True)
    assert len(hub.repositories[_NAME]) == 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "me/alphabets",
        "hf://",
        "hf://alphabets",
        "hf://me/a/b",
        "hf://me/../b",
        "hf://me/a@",
        "hf://me/a@../b",
        "hf://-me/a",
        "hf://me/a b",
        "hf://me/a\n",
    ],
)
def test_what_names_no_repository_is_refused(url, directory, hub, tmp_path):
    for act in (
        lambda: hugging_face_hub.push(directory, url),
        lambda: hugging_face_hub.pull(url, tmp_path / "new"),
    ):
        with pytest.raises(errors.UsageError, match="hf://OWNER/NAME"):
            act()
    assert not hub.requests


def test_a_licence_is_an_identifier(directory, hub):
    with pytest.raises(errors.UsageError, match=r"apache-2\.0"):
        hugging_face_hub.push(directory, _URL, license_id="Do: what\nyou like")
    assert not hub.requests


def test_a_system_without_tasks_is_not_pushed(hub, tmp_path):
    empty = store_samples.create(tmp_path / "empty")
    with pytest.raises(errors.UsageError, match="no published task"):
        hugging_face_hub.push(empty, _URL)


def test_a_wrong_token_is_one_line(directory, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(errors.StoreError, match="HF_TOKEN") as info:
        hugging_face_hub.push(directory, _URL)
    assert "\n" not in str(info.value)
    assert _NAME not in hub.repositories


def test_an_absent_repository_or_archive_is_one_line(hub, tmp_path):
    hub.repositories["me/other"] = [{"README.md": b"a"}]
    for url in (_URL, "hf://me/other", "hf://me/other@main"):
        with pytest.raises(errors.StoreError, match="cannot be pulled") as info:
            hugging_face_hub.pull(url, tmp_path / "new")
        assert "\n" not in str(info.value)
    assert not (tmp_path / "new").exists()


def test_no_network_is_one_line(directory, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", hugging_face_server.TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    with pytest.raises(errors.StoreError, match="the network") as info:
        hugging_face_hub.push(directory, _URL)
    assert "\n" not in str(info.value)


def _flipped(data, number):
    return data[:number] + bytes([data[number] ^ 1]) + data[number + 1 :]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_a_changed_archive_leaves_nothing(directory, hub, tmp_path, share):
    hugging_face_hub.push(directory, _URL)
    files = hub.files(_NAME)
    data = files[hugging_face_hub.ARCHIVE_FILE]
    files[hugging_face_hub.ARCHIVE_FILE] = _flipped(
        data, int(share * len(data))
    )
    with pytest.raises(errors.StoreError, match=r"imported|damaged"):
        hugging_face_hub.pull(_URL, tmp_path / "new")
    assert not system_dir.SystemDir.is_system(tmp_path / "new")


def test_a_used_folder_is_refused_before_the_download(directory, hub):
    hugging_face_hub.push(directory, _URL)
    hub.requests.clear()
    with pytest.raises(errors.UsageError, match="already holds a system"):
        hugging_face_hub.pull(_URL, directory.files)
    assert not hub.requests


def test_the_commands_push_and_pull(directory, hub, tmp_path):
    workdir = str(tmp_path / "mine")
    pushed = launch("push", _URL, f"--workdir={workdir}", "--license=mit")
    assert (pushed.returncode, pushed.stderr) == (0, "")
    assert pushed.stdout.startswith(f"pushed {workdir}: http://")
    pulled = launch("pull", _URL, f"--workdir={tmp_path / 'new'}")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert pulled.stdout == f"made {tmp_path / 'new'}: 2 tasks\n"
    again = launch("pull", _URL, f"--workdir={tmp_path / 'new'}")
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert again.stderr.count("\n") == 1
    no_url = launch("push", f"--workdir={workdir}")
    assert no_url.returncode == 2
    assert "hf://OWNER/NAME" in no_url.stderr
