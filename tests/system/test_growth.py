"""A system that goes on: new tasks, more rounds, a task removed; baselines."""

from __future__ import annotations

import shutil

import pytest
import system_samples

from keras_munet import errors
from keras_munet.store import system_dir
from keras_munet.system import system as system_lib

_ONE_TASK = {"task_names": ["digits"], "num_task_iters": 1}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("growth") / "system"
    settings = system_samples.settings(**_ONE_TASK)
    system_lib.System.create(workdir, settings).run()
    return workdir


def _copied(first, tmp_path):
    return shutil.copytree(first, tmp_path / "system")


def _continued(workdir, **changes):
    settings = system_samples.settings(**{**_ONE_TASK, **changes})
    system = system_lib.System.create_or_open(workdir, settings)
    assert system.run()
    return system


def test_a_new_task_leaves_every_published_file_as_it_was(first, tmp_path):
    workdir = _copied(first, tmp_path)
    before = system_samples.digests(workdir)
    system = _continued(workdir, task_names=["digits", "glyphs/digits"])
    after = system_samples.digests(workdir)
    assert sorted(system.tasks) == ["digits", "glyphs/digits"]
    changed = {name for name in before if after.get(name) != before[name]}
    # system.json says which tasks are to come, and nothing else of it changed.
    assert changed == {"system.json"}
    reopened = system_lib.System.open(workdir)
    assert not reopened.run()
    assert reopened.settings.task_names == ("digits", "glyphs/digits")


def test_more_rounds_never_publish_a_worse_path(first, tmp_path):
    workdir = _copied(first, tmp_path)
    old = system_lib.System.open(workdir).tasks["digits"]
    new = _continued(workdir, num_task_iters=3).tasks["digits"]
    assert new.num_iterations_done == 3
    assert new.published.score >= old.published.score
    assert system_lib.System.open(workdir).check() == []


def test_the_old_path_is_served_while_a_better_one_is_sought(first, tmp_path):
    workdir = _copied(first, tmp_path)
    served = []

    class Reader:
        """Looks at the system from outside whenever the job reports."""

        def __getattr__(self, name):
            def look(*args, **kwargs):
                state = system_lib.System.open(workdir).tasks["digits"]
                served.append((state.num_iterations_done, state.published.id))

            return look

    settings = system_samples.settings(**{**_ONE_TASK, "num_task_iters": 2})
    system = system_lib.System.create_or_open(workdir, settings)
    old = system.tasks["digits"].published.id
    system.run(progress=Reader())
    assert set(served) == {(1, old)}
    assert system.tasks["digits"].num_iterations_done == 2


@pytest.mark.parametrize("changes", [{"seed": 6}, {"batch_size": 32}])
def test_what_the_system_is_cannot_change_on_the_way(first, changes):
    settings = system_samples.settings(**{**_ONE_TASK, **changes})
    with pytest.raises(errors.UsageError, match="another experiment"):
        system_lib.System.create_or_open(first, settings)


def test_an_unknown_new_task_leaves_the_system_as_it_was(first, tmp_path):
    workdir = _copied(first, tmp_path)
    before = system_samples.digests(workdir)
    settings = system_samples.settings(
        **{**_ONE_TASK, "task_names": ["digits", "glyphs/klingon"]}
    )
    with pytest.raises(errors.UsageError, match="klingon"):
        system_lib.System.create_or_open(workdir, settings)
    assert system_samples.digests(workdir) == before


def test_a_removed_task_is_gone_and_the_others_answer_as_before(
    first, tmp_path
):
    workdir = _copied(first, tmp_path)
    system = _continued(workdir, task_names=["digits", "glyphs/digits"])
    before = system.evaluate(["glyphs/digits"])
    own = {ref.id for ref in system.tasks["digits"].published.components} - {
        ref.id for ref in system.tasks["glyphs/digits"].published.components
    }
    system.remove("digits")
    system = system_lib.System.open(workdir)
    assert sorted(system.tasks) == ["glyphs/digits"]
    assert system.check() == []
    kept = {ref.id for ref in system.root.components}
    stored = {path.stem for path in workdir.rglob("*.safetensors")}
    assert own - kept and not (own - kept) & stored
    after = system.evaluate()
    for key in ("path_id", "test_accuracy", "validation_accuracy"):
        assert after["glyphs/digits"][key] == before["glyphs/digits"][key]
    with pytest.raises(errors.UsageError, match="digits"):
        system.remove("digits")


def test_a_removed_task_can_come_back_for_as_many_rounds(first, tmp_path):
    workdir = _copied(first, tmp_path)
    old = system_lib.System.open(workdir).tasks["digits"].published.id
    system_lib.System.open(workdir).remove("digits")
    system = system_lib.System.open(workdir)
    assert system.run()
    state = system.tasks["digits"]
    assert (state.num_iterations_before, state.num_iterations_done) == (1, 2)
    # Another task iteration draws other children.
    assert state.published.id != old
    assert old in state.retired
    assert not system_lib.System.open(workdir).run()


@pytest.mark.parametrize(
    "policy, trained",
    [
        ("linear_probe", {"head"}),
        ("freeze_bottom_layers:1", {"encoder_norm", "head"}),
        ("freeze_bottom_layers:0", {"encoderblock_0", "encoder_norm", "head"}),
        ("adapters:4", {"residual_adapter_0", "encoder_norm", "head"}),
        (
            "finetune_all",
            {
                *("embedding", "cls", "posembed_input"),
                *("encoderblock_0", "encoder_norm", "head"),
            },
        ),
    ],
)
def test_a_baseline_trains_its_places_on_the_whole_budget_at_once(
    policy, trained, tmp_path
):
    settings = system_samples.settings(
        task_names=["digits"], search={"policy": policy}
    )
    system = system_lib.System.create(tmp_path / "system", settings)
    # 2 cycles of 2 rounds of 2 generations, for each child of one generation.
    assert system.settings.num_validations_per_path_training == 8
    assert system.run()
    path = system.tasks["digits"].published
    kept = {ref.id for ref in system.root.components}
    own = {ref.name for ref in path.components if ref.id not in kept}
    assert own == trained
    assert system.tasks["digits"].num_iterations_done == 1
    assert path.parent == system.root.id
    assert not system_lib.System.open(tmp_path / "system").run()


def test_a_system_from_before_a_key_was_there_goes_on_as_it_was(
    first, tmp_path
):
    workdir = _copied(first, tmp_path)
    directory = system_dir.SystemDir.open(workdir)
    recorded = directory.experiment
    del recorded["compute_dtype"]
    directory.change_experiment(recorded)
    assert "compute_dtype" not in (workdir / "system.json").read_text()
    assert system_lib.System.open(workdir).settings.compute_dtype == "float32"
    with pytest.raises(errors.UsageError, match='compute_dtype is "float32"'):
        _continued(workdir, compute_dtype="bfloat16")
    _continued(workdir, compute_dtype="float32", num_task_iters=2)
    record = system_lib.System.open(workdir).settings
    assert (record.compute_dtype, record.num_task_iters) == ("float32", 2)
