"""Children that would become the same are trained once."""

from __future__ import annotations

import pytest
import system_samples as samples

import keras_munet
from keras_munet.report import events
from keras_munet.system import duplicates
from keras_munet.train import trainer as trainer_lib


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(records, counts, history) of a run, and of one that trains all."""
    changes = {
        # Few mutations, so that some children of a parent are equal.
        "hparams": {"opt_lr": 0.1, "ds_crop": False, "mu": 0.02},
        "ranges": {"num_layers": [0, 1], "mu": [0.02]},
        "task_names": ["digits"],
        "children_per_generation": 4,
        "num_samples_per_task": 8,
    }
    found = []
    for name in ("once", "each"):
        with pytest.MonkeyPatch.context() as patch:
            counts = []
            train = trainer_lib.Trainer.train

            def counted(self, children, *rest, to=train, counts=counts, **kw):
                counts.append(len(children))
                return to(self, children, *rest, **kw)

            patch.setattr(trainer_lib.Trainer, "train", counted)
            if name == "each":
                patch.setattr(duplicates, "distinct", lambda plan: plan)
                patch.setattr(
                    duplicates, "spread", lambda plan, trained: trained
                )
            workdir = tmp_path_factory.mktemp(name)
            keras_munet.System.create(workdir, samples.settings(**changes)).run(
                progress=keras_munet.Progress(workdir, quiet=True)
            )
            history = events.read_history(workdir)
            found.append((samples.digests(workdir), counts, history))
    return found


def test_the_events_tell_whose_training_a_child_shares(runs):
    (_, counts, history), _ = runs
    assert history.notes == ()
    assert history.num_children - history.num_duplicates == sum(counts)
    for generation in history.generations:
        of_index = {child["index"]: child for child in generation.children}
        for child in generation.children:
            record = child["record"]
            if record.duplicate_of is not None:
                first = of_index[record.duplicate_of]
                assert record.duplicate_of < child["index"]
                assert first["scores"] == child["scores"]
                assert first["record"].components == record.components
                assert first["record"].duplicate_of is None


def test_the_events_tell_what_a_child_reached(runs):
    (_, _, history), _ = runs
    for generation in history.generations:
        for child in generation.children:
            record = child["record"]
            assert (record.quality is None) == (not child["improved"])
            if record.quality is not None:
                score = record.quality * record.size_factor
                assert child["score"] == pytest.approx(score)


def test_training_twins_once_leaves_the_same_bytes(runs):
    (once, fewer, _), (each, all_of_them, _) = runs
    assert once == each
    assert sum(fewer) < sum(all_of_them)
