"""Children that would become the same are trained once."""

from __future__ import annotations

import pytest
import system_samples as samples

import keras_munet
from keras_munet import twins
from keras_munet.train import trainer as trainer_lib


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(records of a run, of one that trains every child, counts of each)."""
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
                patch.setattr(twins, "distinct", lambda plan: plan)
                patch.setattr(twins, "spread", lambda plan, trained: trained)
            workdir = tmp_path_factory.mktemp(name)
            keras_munet.System.create(workdir, samples.settings(**changes)).run(
                progress=keras_munet.Progress(workdir, quiet=True)
            )
            found.append((samples.digests(workdir), counts))
    return found


def test_training_twins_once_leaves_the_same_bytes(runs):
    (once, fewer), (each, all_of_them) = runs
    assert once == each
    assert sum(fewer) < sum(all_of_them)
