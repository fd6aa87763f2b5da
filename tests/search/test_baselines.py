"""What each baseline trains of the root, and with which budget."""

from __future__ import annotations

import pytest
import search_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.search import baselines
from keras_munet.search import cloning
from keras_munet.search import hparam_ranges

_NUM_LAYERS = 3
_ALL = ["embedding", "posembed_input"]
_BLOCKS = [f"encoderblock_{i}" for i in range(_NUM_LAYERS)]


def _plan(policy, version="mu2net", population=None, **changes):
    settings = samples.settings(
        search={"version": version, "policy": policy}, **changes
    )
    population = population or samples.population(
        origin=samples.root(num_layers=_NUM_LAYERS)
    )
    return samples.iteration(
        population, experiment=baselines.budgeted(settings)
    ).ask()


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
@pytest.mark.parametrize(
    ("policy", "trained"),
    [
        ("finetune_all", [*_ALL, *_BLOCKS, "encoder_norm", "head"]),
        ("linear_probe", []),
        ("freeze_bottom_layers:0", [*_BLOCKS, "encoder_norm", "head"]),
        ("freeze_bottom_layers:1", [*_BLOCKS[1:], "encoder_norm", "head"]),
        ("freeze_bottom_layers:3", ["encoder_norm", "head"]),
    ],
)
def test_a_baseline_trains_these_places_and_shares_the_rest(
    policy, trained, version
):
    child = _plan(policy, version).children[0]
    assert [p.spec.name for p in child.components if p.trainable] == trained
    for part in child.components:
        if not part.trainable:
            solved = policy == "linear_probe" and part.spec.name == "head"
            assert part.init == (cloning.SOLVED if solved else cloning.SHARE)
            assert solved or part.source.id == f"root.{part.spec.name}"
    assert not [p for p in child.components if "adapter" in p.spec.name]


@pytest.mark.parametrize("adapter_dim", [8, 512])
def test_adapters_stand_before_every_layer_and_are_trained(adapter_dim):
    child = _plan(f"adapters:{adapter_dim}").children[0]
    adapters = {
        p.spec.name: p for p in child.components if "adapter" in p.spec.name
    }
    assert list(adapters) == [
        f"residual_adapter_{i}" for i in range(_NUM_LAYERS)
    ]
    for part in adapters.values():
        assert (part.init, part.trainable) == (cloning.FRESH, True)
        assert part.spec.num_params == adapter_dim
    assert child.hparams["adapter_dim"] == adapter_dim
    trained = [p.spec.name for p in child.components if p.trainable]
    assert trained == [*adapters, "encoder_norm", "head"]


@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_the_first_child_of_a_baseline_is_the_root_by_the_config(version):
    root = samples.root(num_layers=_NUM_LAYERS)
    others = samples.population(
        samples.path("a", root.id, score=0.9),
        samples.path("b", root.id, score=0.9),
        origin=root,
    )
    for seed in range(20):
        plan = _plan("finetune_all", version, population=others, seed=seed)
        assert all(child.parent == root for child in plan.children)
        assert dict(plan.children[0].hparams) == dict(root.hparams)


def test_the_other_children_differ_in_learning_rate_and_data():
    plans = [
        _plan("finetune_all", seed=seed, ranges={"ds_image_size": [16, 32]})
        for seed in range(20)
    ]
    for plan in plans:
        rates = [child.hparams["opt_lr"] for child in plan.children]
        assert rates == [0.01, 0.02, 0.005, 0.05]
        for child in plan.children:
            differing = {
                key
                for key, value in child.hparams.items()
                if value != samples.HPARAMS[key]
                and key not in ("opt_lr", "num_layers")
            }
            assert all(key.startswith("ds_") for key in differing)
            assert child.hparams["ds_image_size"] == 32
    later = [child for plan in plans for child in plan.children[1:]]
    changed = [
        c for c in later if c.hparams["ds_crop"] != samples.HPARAMS["ds_crop"]
    ]
    # By a probability of 0.2, the config's `mu`.
    assert 3 <= len(changed) <= 24


def test_the_learning_rates_next_to_the_configs_come_first():
    steps = (1, 2, 3, 4, 5)
    for value, order in ((3, (3, 4, 2, 5, 1)), (5, (5, 4, 3, 2, 1))):
        found = [hparam_ranges.neighbours(value, steps, n) for n in range(6)]
        assert tuple(found) == (*order, value)


@pytest.mark.parametrize(
    ("policy", "num_samples", "per_generation", "num_children", "num_cycles"),
    [
        ("finetune_all", 64, 8, 8, 2 * 8 * 5),
        ("adapters:8", 32, 8, 8, 2 * 4 * 5),
        ("finetune_all", 10, 4, 4, 2 * 10 * 5 // 4),
        ("freeze_bottom_layers:1", 2, 8, 2, 2 * 5),
        ("linear_probe", 64, 8, 1, 2 * 8 * 5),
    ],
)
def test_a_baseline_has_the_cycles_of_all_children_in_one_generation(
    policy, num_samples, per_generation, num_children, num_cycles
):
    settings = samples.settings(
        search={"policy": policy},
        num_task_iters=2,
        num_samples_per_task=num_samples,
        children_per_generation=per_generation,
        num_validations_per_path_training=5,
    )
    found = baselines.budgeted(settings)
    assert found.num_validations_per_path_training == num_cycles
    assert (found.num_task_iters, found.num_generations) == (1, 1)
    assert found.num_samples_per_task == num_children
    assert found.hparams == settings.hparams
    # A system opens as what it was created as.
    assert found == baselines.budgeted(settings)


def test_the_search_itself_keeps_its_settings():
    settings = samples.settings()
    assert settings.search.policy == "evolve"
    assert baselines.budgeted(settings) is settings
    assert baselines.parse_baseline(settings.search) is None


@pytest.mark.parametrize(
    "policy",
    [
        "finetune",
        "adapters",
        "adapters:0",
        "freeze_bottom_layers:x",
        "evolve:1",
    ],
)
def test_an_unknown_policy_is_refused_with_those_there_are(policy):
    with pytest.raises(errors.UsageError, match=r"adapters:N"):
        samples.settings(search={"policy": policy})
