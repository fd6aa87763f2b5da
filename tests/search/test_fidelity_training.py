"""What a training keeps and how long it is (section 2, "Training a child");
see the table of rules in search/test_fidelity.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import search_samples as samples

from keras_munet.train import child_job


@pytest.mark.parametrize(
    ("num_train", "num_steps"), [(1, 1), (512, 1), (513, 2), (60_000, 100)]
)
def test_a_cycle_is_the_bounded_train_split_over_the_batch_size(
    num_train, num_steps
):
    budget = child_job.Budget(
        num_cycles=5,
        batch_size=512,
        num_train_examples_max=51_200,
        num_validation_examples_max=5_120,
    )
    assert budget.num_steps_per_cycle(num_train) == num_steps


@pytest.mark.parametrize(
    ("version", "keeps"), [("munet", False), ("mu2net", True)]
)
def test_only_mu2net_keeps_the_momentum(version, keeps):
    # The one place of these files that needs what trains.
    from keras_munet.system import task_iteration

    family = samples.TinyFamily()
    spec = family.layout(samples.HPARAMS, samples.NUM_CLASSES)[0]
    trained = dataclasses.replace(
        family.initial(spec, np.random.default_rng(0)),
        momentum={"w": np.full(spec.num_params, 7, np.uint16)},
    )
    settings = samples.settings(search={"version": version})
    kept = task_iteration._stored(trained, settings)
    assert (kept.momentum is not None) == keeps
    assert kept.weights is trained.weights
