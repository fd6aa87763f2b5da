"""Hyperparameters, their ranges and the published values (sections 2 and 3);
see the table of rules in search/test_fidelity.py.
"""

from __future__ import annotations

import collections
import pathlib
import runpy

import pytest
import search_samples as samples

from keras_munet import errors
from keras_munet.core import settings as settings_lib
from keras_munet.search import hparam_ranges
from keras_munet.search import mutations

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
# Section 3, "Auto-tune ranges", written out once more.
_DELTAS = [0, 0.01, 0.02, 0.05, 0.1, 0.2]
_RATES = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
_BOTH = {
    "adapter_dim": [8, 16, 32, 64, 128],
    "opt_lr_warmup_ratio": [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4],
    "opt_nesterov": [True, False],
    "ds_flip_left_right": [True, False],
    "ds_area_range_min": [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "ds_aspect_ratio_range_min": [0.25, 0.5, 0.75, 1.0],
    "ds_brightness_delta": _DELTAS,
    "ds_contrast_delta": _DELTAS,
    "ds_saturation_delta": _DELTAS,
    "ds_hue_delta": _DELTAS,
}
_PUBLISHED_RANGES = {
    "v1": {
        **_BOTH,
        "opt_lr": _RATES,
        "opt_lr_schedule": ["constant", "cosine", "restarts"],
        "opt_momentum": [0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99],
        "ds_image_size": [16 * i for i in range(1, 25)],
    },
    "v2": {
        **_BOTH,
        "mu": [
            *(0.10, 0.12, 0.14, 0.16, 0.18, 0.20),
            *(0.22, 0.24, 0.26, 0.28, 0.30),
        ],
        "opt_lr": [*_RATES, 0.2, 0.5],
        "opt_momentum": [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99],
        "ds_crop": [True, False],
    },
}
# Every hyperparameter in the middle of a range, so that both ways show.
_STEPS = (1, 2, 3)
_KEYS = ("adapter_dim", "opt_lr", "opt_momentum")


@pytest.mark.parametrize("table", ["v1", "v2"])
def test_the_auto_tune_tables_are_the_published_ones(table):
    found = {k: list(v) for k, v in hparam_ranges.TABLES[table].items()}
    assert found == _PUBLISHED_RANGES[table]


def test_the_defaults_are_the_published_ones():
    assert (
        settings_lib.DEFAULT_HPARAMS.items()
        >= {
            "opt_momentum": 0.9,
            "opt_lr": 0.01,
            "opt_lr_schedule": "cosine",
            "opt_lr_warmup_ratio": 0.1,
            "opt_nesterov": False,
            "ds_area_range_min": 0.05,
            "ds_aspect_ratio_range_min": 0.75,
            "ds_flip_left_right": True,
            "ds_brightness_delta": 0.0,
            "ds_contrast_delta": 0.0,
            "ds_saturation_delta": 0.0,
            "ds_hue_delta": 0.0,
            "adapter_dim": 32,
        }.items()
    )
    settings = settings_lib.Settings()
    assert settings.num_train_examples_between_validations_max == 51_200
    assert settings.num_validation_examples_max == 5_120
    assert settings.search.version == "mu2net"
    assert settings.search.force_finetune_components == ("encoder_norm",)
    assert settings.search.mutation_prob == 0.1
    assert not settings.search.remove_adapters


@pytest.mark.parametrize("table", ["v1", "v2"])
def test_munet_takes_one_layer_up_to_all_of_the_root(table):
    settings = samples.settings(search={"auto_tune": table}, ranges={})
    found = hparam_ranges.ranges_in_force(settings, num_root_layers=3).get(
        "num_layers"
    )
    assert found == ((1, 2, 3) if table == "v1" else None)


def _config(name, *options):
    config = runpy.run_path(str(_CONFIGS / f"{name}.py"))["get_config"]
    return settings_lib.Settings.from_dict(config(*options).to_dict())


# Config, root variant and layers, parameters, image, batch, cycles, samples,
# children per generation, rounds, mu, adapters mutate, number of tasks.
@pytest.mark.parametrize(
    ("name", "root", "num_params", "budget", "mu", "adapters", "num_tasks"),
    [
        (
            *("ti3_characters", ("npz", "Ti/16", 3, 32), 1_484_162),
            *((512, 5, 64, 8, 2), 0.1, True, 8),
        ),
        (
            *("base_decathlon", ("npz", "B/16", -1, 80), 85_652_738),
            *((256, 30, 64, 8, 2), 0.1, True, 10),
        ),
        (
            *("ti0_cmaterdb", ("random", "Ti/16", 0, 32), 1_484_162),
            *((512, 4, 32, 8, 2), 0.2, False, 3),
        ),
        (
            *("large", ("npz", "L/16", -1, 384), 303_303_682),
            *((64, 4, 128, 32, 1), 0.2, False, 3),
        ),
    ],
)
def test_a_config_has_the_published_values(
    name, root, num_params, budget, mu, adapters, num_tasks
):
    found = _config(name)
    origin = found.root
    assert root == (
        *(origin.source, origin.variant),
        *(origin.num_layers, origin.image_size),
    )
    assert found.search.score_num_params == num_params
    assert budget == (
        *(found.batch_size, found.num_validations_per_path_training),
        *(found.num_samples_per_task, found.children_per_generation),
        found.num_task_iters,
    )
    assert found.hparams["mu"] == mu
    assert found.search.mutate_adapters == adapters
    assert found.search.version == "mu2net"
    assert len(found.task_names) == num_tasks


def test_what_a_config_differs_in_is_published():
    assert _config("ti0_cmaterdb").ranges == {"num_layers": (0, 1, 2, 3)}
    assert _config("ti0_cmaterdb").task_names == (
        "cmaterdb/bangla",
        "cmaterdb/devanagari",
        "private:cmaterdb/telugu",
    )
    large = _config("large", "vtab_1k")
    assert large.hparams["adapter_dim"] == 16
    assert large.hparams["opt_lr_warmup_ratio"] == 0.05
    assert large.num_train_examples_between_validations_max == 128_116
    assert large.num_validation_examples_max == 10_000
    benchmarks = ("vit", "vtab_full", "vdd", "characters", "vtab_1k")
    num_tasks = [len(_config("large", b).task_names) for b in benchmarks]
    assert num_tasks == [3, 23, 10, 8, 25]


def test_a_step_moves_to_the_neighbour_and_clamps_at_the_ends():
    moved = {
        (value, way): mutations.step(value, _STEPS, way)
        for value in _STEPS
        for way in (-1, 1)
    }
    assert moved == {
        (1, -1): 1,
        (1, 1): 2,
        (2, -1): 1,
        (2, 1): 3,
        (3, -1): 2,
        (3, 1): 3,
    }
    # What the root brings may lie beside the range.
    assert mutations.step(28, (16, 32, 48), 1) == 32


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
def test_each_hyperparameter_mutates_at_the_probability_up_and_down_alike(
    kind,
):
    ranges = dict.fromkeys(_KEYS, _STEPS)
    moved = collections.Counter()
    together = 0
    for draws in samples.many_draws(4, kind):
        child = mutations.mutate_hparams(
            dict.fromkeys(_KEYS, 2), _KEYS, ranges, 0.2, draws
        )
        moved.update(child.items())
        together += child["opt_lr"] != 2 and child["opt_momentum"] != 2
    for key in _KEYS:
        samples.check_share(moved[key, 1], 0.1)
        samples.check_share(moved[key, 3], 0.1)
    samples.check_share(together, 0.2 * 0.2)


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_optimizer_layers_adapter_dim_and_mu_mutate_per_child(version, kind):
    settings = samples.settings(
        search={"version": version, "draws": kind},
        hparams={"opt_lr": 0.01, "mu": 0.2},
        num_samples_per_task=samples.NUM_DRAWS,
        children_per_generation=samples.NUM_DRAWS,
    )
    root = samples.root()
    plan = samples.iteration(
        samples.population(origin=root), experiment=settings
    ).ask()
    prob = {"munet": 0.1, "mu2net": 0.2}[version]
    ranges = hparam_ranges.ranges_in_force(settings, root.hparams["num_layers"])
    own = {key for key in ranges if not key.startswith("ds_")}
    assert own >= {"num_layers", "adapter_dim", "opt_lr", "opt_momentum"}
    assert ("mu" in own) == (version == "mu2net")
    for key in own:
        steps, start = ranges[key], root.hparams[key]
        values = collections.Counter(c.hparams[key] for c in plan.children)
        up, down = (mutations.step(start, steps, way) for way in (1, -1))
        for value in {up, down} - {start}:
            samples.check_share(values[value], prob / 2)
        assert set(values) <= {up, down, start}


def test_the_paths_own_mu_mutates_first_and_rules_the_rest():
    ranges = {"mu": (0.0, 1.0), "opt_lr": (0.005, 0.01, 0.02)}
    seen = collections.Counter()
    for draws in samples.many_draws(5, num_draws=200):
        child = samples.mutated_hparams(
            {**samples.HPARAMS, "mu": 1.0}, 1.0, ranges, draws
        )
        assert child.prob == child.hparams["mu"]
        # At 1.0 everything moves, at 0.0 nothing does.
        moved = child.hparams["opt_lr"] != 0.01
        assert moved == (child.hparams["mu"] == 1.0)
        seen[child.hparams["mu"]] += 1
    assert set(seen) == {0.0, 1.0}


def test_mu2net_clones_components_at_the_paths_own_mu():
    search = samples.iteration(
        samples.population(origin=samples.root(mu=1.0)),
        experiment=samples.settings(
            search={"auto_tune": "off"}, hparams={"mu": 0.1}
        ),
    )
    for child in search.ask().children:
        assert not [p for p in child.components if not p.trainable]


def test_munet_has_one_mutation_probability_for_the_experiment():
    ranges = {"mu": (0.0, 1.0), "opt_lr": (0.005, 0.01, 0.02)}
    for draws in samples.many_draws(5, num_draws=100):
        child = samples.mutated_hparams(
            {**samples.HPARAMS, "mu": 0.0}, 1.0, ranges, draws, version="munet"
        )
        assert (child.hparams["mu"], child.prob) == (0.0, 1.0)
        assert child.hparams["opt_lr"] != 0.01


def test_a_hyperparameter_without_a_range_never_mutates():
    settings = samples.settings(search={"auto_tune": "off"})
    for child in (
        samples.iteration(samples.population(), experiment=settings)
        .ask()
        .children
    ):
        changed = {
            k for k, v in child.hparams.items() if v != samples.HPARAMS[k]
        }
        assert changed <= {"num_layers"}


def test_a_first_value_that_is_not_on_its_range_is_refused():
    settings = samples.settings(hparams={"opt_lr": 0.03})
    with pytest.raises(errors.UsageError, match=r"hparams\.opt_lr is 0\.03"):
        hparam_ranges.ranges_in_force(settings, num_root_layers=1)


def test_data_hyperparameters_are_shared_by_a_generation():
    for version in settings_lib.VERSIONS:
        settings = samples.settings(search={"version": version})
        plan = samples.iteration(
            samples.neighbours(3), experiment=settings
        ).ask()
        assert all(key.startswith("ds_") for key in plan.data_hparams)
        assert "ds_image_size" in plan.data_hparams
        for child in plan.children:
            assert child.hparams.items() >= plan.data_hparams.items()


def test_data_hyperparameters_start_from_the_defaults_then_the_best_path():
    settings = samples.settings(search={"auto_tune": "off"})

    def data(*paths):
        search = samples.iteration(
            samples.population(*paths), number=1, experiment=settings
        )
        return search.ask().data_hparams

    defaults = data()
    assert defaults["ds_area_range_min"] == 0.05
    best = samples.path("a", score=0.5, ds_area_range_min=0.5, ds_image_size=64)
    assert data(best) == {
        **defaults,
        "ds_area_range_min": 0.5,
        "ds_image_size": 64,
    }


@pytest.mark.parametrize("kind", settings_lib.DRAWS)
@pytest.mark.parametrize("version", settings_lib.VERSIONS)
def test_data_hyperparameters_mutate_per_generation(version, kind):
    num_generations = 1024
    settings = samples.settings(
        search={"version": version, "draws": kind},
        hparams={"mu": 0.3, "ds_brightness_delta": 0.02},
        num_samples_per_task=num_generations,
        children_per_generation=1,
    )
    search = samples.iteration(samples.population(), experiment=settings)
    # Of mu2net it is the default `mu`; of munet the experiment's own.
    prob = {"munet": 0.1, "mu2net": 0.3}[version]
    values = collections.Counter()
    while not search.is_done:
        plan = search.ask()
        values.update(plan.data_hparams.items())
        samples.tell(search, plan, lambda child: None)
    for key, start, others in [
        ("ds_brightness_delta", 0.02, (0.01, 0.05)),
        ("ds_area_range_min", 0.05, (0.02, 0.1)),
        ("ds_aspect_ratio_range_min", 0.75, (0.5, 1.0)),
        ("ds_hue_delta", 0.0, (0.01,)),
        ("ds_flip_left_right", True, (False,)),
    ]:
        for value in others:
            samples.check_share(values[key, value], prob / 2, num_generations)
        found = {value for name, value in values if name == key}
        assert found == {start, *others}


def test_munet_does_not_mutate_data_until_every_seed_was_tried():
    settings = samples.settings(
        search={"version": "munet", "mutation_prob": 1.0},
        num_samples_per_task=16,
    )
    search = samples.iteration(samples.neighbours(5), experiment=settings)
    changed = []
    while not search.is_done:
        plan = search.ask()
        changed.append(
            plan.data_hparams
            != {k: samples.HPARAMS[k] for k in plan.data_hparams}
        )
        samples.tell(search, plan, lambda child: None)
    # Six seeds fill the first generation of four and half of the second.
    assert changed == [False, False, True, True]
