"""Options of the search that the published method has not; off by default."""

from __future__ import annotations

import pytest
import search_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.search import plan as plan_lib


def _first_data(**search):
    """Returns the data hyperparameters of the first two generations."""
    search_of = samples.iteration(
        samples.population(),
        experiment=samples.settings(
            search=search, hparams={"mu": 1.0}, ranges={"mu": [1.0]}
        ),
    )
    plans = []
    for _ in range(2):
        plan = search_of.ask()
        plans.append(plan.data_hparams)
        search_of.tell(
            [
                plan_lib.ChildResult(child.index, None, ())
                for child in plan.children
            ]
        )
    return plans


def test_the_first_generation_may_have_the_configs_data_hyperparameters():
    own = settings_lib.Settings().hparams
    first, second = _first_data(first_data="config")
    assert all(first[k] == v for k, v in own.items() if k.startswith("ds_"))
    assert any(second[k] != v for k, v in own.items() if k in second)
    first, _ = _first_data()
    assert any(first[k] != v for k, v in own.items() if k in first)


def test_data_may_have_a_mutation_probability_of_their_own():
    own = settings_lib.Settings().hparams
    for plan in _first_data(data_mu=0.0):
        assert all(plan[k] == v for k, v in own.items() if k in plan)


@pytest.mark.parametrize(
    ("patterns", "forced", "free"),
    [
        (["*"], ["cls", "head", "encoderblock_11"], []),
        (["encoder_norm"], ["encoder_norm"], ["encoder_norm2", "cls"]),
        (["encoderblock_[01]", "cls"], ["encoderblock_1", "cls"], ["head"]),
        ([], [], ["encoder_norm"]),
    ],
)
def test_places_are_forced_by_patterns_of_their_names(patterns, forced, free):
    search = settings_lib.SearchSettings(force_finetune_components=patterns)
    assert all(search.forces(place) for place in forced)
    assert not any(search.forces(place) for place in free)


@pytest.mark.parametrize("pattern", ["(", "a" * 300])
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(errors.UsageError, match="force_finetune_components"):
        settings_lib.SearchSettings(force_finetune_components=[pattern])
