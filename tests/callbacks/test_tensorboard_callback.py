"""What a job writes for TensorBoard, read back with TensorBoard's own code."""

from __future__ import annotations

import io
import json
import pathlib
import sys

import pytest
import system_samples as samples
from forked import launch

import keras_munet
from keras_munet import errors
from keras_munet.callbacks import tensorboard_callback as board_lib
from keras_munet.core import child_record
from keras_munet.store import system_dir

tensorboard = pytest.importorskip("tensorboard")

from PIL import Image  # noqa: E402
from tensorboard.backend.event_processing import event_accumulator  # noqa: E402
from tensorboard.backend.event_processing import plugin_event_multiplexer  # noqa: E402
from tensorboard.plugins.hparams import metadata as hparams_lib  # noqa: E402
from tensorboard.plugins.hparams import plugin_data_pb2  # noqa: E402

_CHILD = "digits/round_1/child_000"


@pytest.fixture(scope="module")
def evolved(tmp_path_factory):
    """A system, its folder of event files, and its recorded events."""
    workdir = tmp_path_factory.mktemp("board") / "system"
    settings = samples.settings(
        task_names=["digits"],
        num_task_iters=1,
        num_samples_per_task=6,
        children_per_generation=3,
    )
    system = keras_munet.System.create(workdir, settings)
    folder = board_lib.log_folder(str(workdir), "", True)
    board = board_lib.TensorBoard(folder, settings.num_generations, system.data)
    system.run(
        progress=keras_munet.Progress(workdir, quiet=True, callbacks=[board])
    )
    board.on_run_end()
    text = (workdir / "metrics.jsonl").read_text()
    return workdir, folder, [json.loads(line) for line in text.splitlines()]


def _read(folder, run):
    found = event_accumulator.EventAccumulator(str(pathlib.Path(folder) / run))
    found.Reload()
    return found


def _scalars(folder, run):
    """Returns tag -> [(step, value)] as the scalars page has them."""
    found = _read(folder, run)
    return {
        tag: [
            (e.step, pytest.approx(_number(e.tensor_proto), rel=1e-6))
            for e in found.Tensors(tag)
        ]
        for tag in found.PluginTagToContent("scalars")
    }


def _number(proto):
    from tensorboard.util import tensor_util

    return float(tensor_util.make_ndarray(proto))


def test_a_task_has_its_scores_and_times_by_generation(evolved):
    _, folder, events = evolved
    scalars = _scalars(folder, "digits")
    generations = [e for e in events if e["event"] == "generation"]
    assert scalars["best_score"] == [
        (i, e["best_score"]) for i, e in enumerate(generations, start=1)
    ]
    assert [step for step, _ in scalars["secs/generation"]] == [1, 2]
    (published,) = [e for e in events if e["event"] == "published"]
    metrics = published["path"]["metrics"]
    assert scalars["published/test_quality"] == [(1, metrics["test_quality"])]
    assert scalars["published/num_params"] == [(1, metrics["num_params"])]


def test_a_child_has_its_scores_and_losses_by_cycle(evolved):
    _, folder, events = evolved
    child = events[0]["children"][0]
    scalars = _scalars(folder, _CHILD)
    assert scalars["cycle/score"] == [
        (i, s) for i, s in enumerate(child["scores"], start=1)
    ]
    assert scalars["cycle/loss"] == [
        (i, s) for i, s in enumerate(child["losses"], start=1)
    ]
    assert len(list(pathlib.Path(folder).glob("digits/round_1/child_*"))) == 6


def test_the_hparams_page_has_every_hyperparameter_and_the_score(evolved):
    _, folder, events = evolved
    child = events[0]["children"][0]
    found = _read(folder, _CHILD)
    contents = found.PluginTagToContent("hparams")
    start = hparams_lib.parse_session_start_info_plugin_data(
        contents[hparams_lib.SESSION_START_INFO_TAG]
    )
    shown = {}
    for name, value in start.hparams.items():
        shown[name] = getattr(value, value.WhichOneof("kind"))
    assert shown["opt_lr"] == child["hparams"]["opt_lr"]
    assert shown["ds_crop"] == child["hparams"]["ds_crop"]
    assert shown["parent_task"] == child["parent_task"]
    record = child["record"]
    assert shown["size_factor"] == record["size_factor"]
    assert shown["accounted_params"] == record["accounted_params"]
    inits = [init for _, init, *_ in record["components"]]
    for init in child_record.INITS:
        assert shown[f"num_{init}"] == inits.count(init)
    assert set(shown) == {
        *("task", "parent_task", "num_trained"),
        *("size_factor", "accounted_params", "num_mutations"),
        *(f"num_{init}" for init in child_record.INITS),
        *child["hparams"],
    }
    end = plugin_data_pb2.HParamsPluginData.FromString(
        contents[hparams_lib.SESSION_END_INFO_TAG]
    )
    assert end.session_end_info.status == 1, "a success"
    root = _read(folder, "").PluginTagToContent("hparams")
    config = hparams_lib.parse_experiment_plugin_data(
        root[hparams_lib.EXPERIMENT_TAG]
    )
    tags = [metric.name.tag for metric in config.metric_infos]
    assert tags == ["score"]
    assert _scalars(folder, _CHILD)["score"] == [(0, child["score"])]


def test_a_task_has_images_of_its_classes(evolved):
    _, folder, _ = evolved
    found = _read(folder, "digits")
    tags = list(found.PluginTagToContent("images"))
    assert "samples/0" in tags
    images = sum(
        len(found.Tensors(tag)[0].tensor_proto.string_val) - 2 for tag in tags
    )
    assert images == 12
    width, height, first, *_ = found.Tensors("samples/0")[
        0
    ].tensor_proto.string_val
    image = Image.open(io.BytesIO(first))
    assert image.size == (int(width), int(height)) == (64, 64)


def test_a_generation_has_its_graph_of_components(evolved):
    workdir, folder, _ = evolved
    found = _read(folder, "digits/round_1/generation_1").Graph()
    nodes = {node.name: node for node in found.node}
    assert len(nodes) == len(found.node)
    for node in found.node:
        assert all(name in nodes for name in node.input)
    for index in range(3):
        # Every child's logits lead back to the images.
        node, places = nodes[f"child_{index}/logits"], []
        while node.input:
            node = nodes[node.input[0]]
            places.append(node.op)
        assert places[0] == "Head"
        assert places[-2:] == ["PatchEmbedding", "Images"]
    root = system_dir.SystemDir.open(workdir).root
    shared = root.component("embedding").id[:8]
    first = nodes.get(f"shared/embedding_{shared}")
    if first is not None:
        assert not first.attr["trained"].b


def test_tensorboard_itself_finds_all_runs(evolved):
    _, folder, _ = evolved
    found = plugin_event_multiplexer.EventMultiplexer()
    found.AddRunsFromDirectory(folder)
    found.Reload()
    runs = set(found.Runs())
    assert {".", "digits", _CHILD, "digits/round_1/generation_2"} <= runs
    assert len(runs) == 1 + 1 + 6 + 2


def test_a_system_with_event_files_in_it_is_whole(evolved):
    workdir, folder, _ = evolved
    assert system_dir.SystemDir.open(workdir).check() == []
    keras_munet.System.open(workdir).collect()
    assert list(pathlib.Path(folder).rglob("events.*"))


def test_the_command_to_type_quotes_the_folder():
    assert board_lib.log_folder("runs/a b", "", False) is None
    folder = board_lib.log_folder("runs/a b", "", True)
    assert board_lib.tensorboard_command(folder) == (
        "tensorboard --logdir='runs/a b/tensorboard'"
    )
    assert board_lib.log_folder("runs/mine", "elsewhere", False) == "elsewhere"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreError, match="tensorboard_dir"):
        board_lib.TensorBoard(str(tmp_path / "file"), 1)


def test_without_the_package_the_flag_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(errors.UsageError, match=r"keras_munet\[tensorboard\]"):
        board_lib.require_tensorboard()


def test_a_job_that_goes_on_counts_on(evolved, tmp_path):
    _, _, events = evolved
    generation = next(e for e in events if e["event"] == "generation")
    for iteration in (0, 1):
        board = board_lib.TensorBoard(str(tmp_path), 4)
        board.on_generation_end(
            {**generation, "iteration": iteration, "number": 2}
        )
        board.on_run_end()
    steps = [step for step, _ in _scalars(tmp_path, "digits")["best_score"]]
    assert steps == [2, 6]


@pytest.mark.slow
def test_the_launcher_prints_the_command_that_shows_its_files(tmp_path):
    config = tmp_path / "config.json"
    settings = samples.settings(
        task_names=["digits"], num_task_iters=1, num_samples_per_task=2
    )
    config.write_text(json.dumps(settings.to_json()))
    folder = tmp_path / "board"
    done = launch(
        *("evolve", f"--config={config}", f"--workdir={tmp_path / 'system'}"),
        f"--tensorboard_dir={folder}",
    )
    assert done.returncode == 0, done.stderr
    assert f"tensorboard --logdir={folder}" in done.stdout
    assert "best_score" in _scalars(folder, "digits")
    assert _read(folder, "digits/round_1/generation_1").Graph().node
