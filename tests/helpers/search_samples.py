"""Paths, settings and counted draws that the search's tests share."""

from __future__ import annotations

import numpy as np

from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import evolution
from keras_munet.search import mutations
from keras_munet.search import plan as plan_lib
from keras_munet.search import plugins
from keras_munet.search import population as population_lib
from keras_munet.search import random_draws

NUM_DRAWS = 4096
NUM_CLASSES = 4
HPARAMS = {
    **settings_lib.DEFAULT_HPARAMS,
    "num_layers": 1,
    "ds_image_size": 32,
}


class TinyFamily:
    """Paths of components of a few numbers, enough to search over."""

    name = "tiny"

    def layout(self, hparams, num_classes, adapters=frozenset()):
        size = hparams["ds_image_size"]
        places = [("embedding", 3), ("posembed_input", size)]
        for i in range(hparams["num_layers"]):
            if i in adapters:
                places.append((f"residual_adapter_{i}", hparams["adapter_dim"]))
            places.append((f"encoderblock_{i}", 5))
        places += [("encoder_norm", 2), ("head", num_classes)]
        return tuple(
            specs.ComponentSpec(name, "Tiny", {}, (("w", (width,)),))
            for name, width in places
        )

    def can_resample(self, spec):
        return spec.name == "posembed_input"

    def initial(self, spec, rng):
        return _component(spec, rng.random(spec.num_params))

    def resample(self, component, spec):
        return _component(
            spec, np.resize(component.weights["w"], spec.num_params)
        )

    def to_json(self):
        return {"family": self.name}


def _component(spec, values):
    return specs.Component(spec, {"w": np.asarray(values, np.float32)})


def refs(layout, tag):
    """References to components that are called after `tag`."""
    return tuple(
        specs.ComponentRef(s.name, f"{tag}.{s.name}", s.spec_id, s.num_params)
        for s in layout
    )


def path(
    task,
    parent=None,
    created_in=(0, 0, 0),
    tag=None,
    score=None,
    components=None,
    adapters=frozenset(),
    **hparams,
):
    """A path of `task`, its components called after `tag`, or the task."""
    hparams = {**HPARAMS, **hparams}
    if components is None:
        layout = TinyFamily().layout(hparams, NUM_CLASSES, adapters)
        components = refs(layout, tag or task)
    made = specs.PathRecord(task, parent, created_in, hparams, components)
    if score is None:
        return made
    return made.with_metrics(score=score, quality=score)


def root(**hparams):
    """A root path."""
    return path(specs.NOT_TRAINABLE, None, (-1, 0, 0), "root", **hparams)


def population(*paths, origin=None, **changes):
    """A population of one root and the published `paths`."""
    return population_lib.Population(
        origin or root(), {p.task: p for p in paths}, **changes
    )


def neighbours(num_paths, origin=None):
    """A root and `num_paths` published paths of tasks t0, t1, ..."""
    origin = origin or root()
    return population(
        *(
            path(f"t{i}", origin.id, (i, 0, 0), score=0.5)
            for i in range(num_paths)
        ),
        origin=origin,
    )


def settings(**changes):
    """Two generations of four children; at most three layers."""
    values = {
        "seed": 3,
        "task_names": ["a", "b"],
        "num_samples_per_task": 8,
        "children_per_generation": 4,
        "ranges": {"num_layers": [0, 1, 2, 3]},
    }
    values.update(changes)
    return settings_lib.Settings.from_dict(values)


def iteration(of, task="a", *, number=0, experiment=None, **kwargs):
    """A task iteration over the population `of`."""
    return evolution.TaskIteration(
        experiment or settings(),
        TinyFamily(),
        of,
        task,
        iteration=number,
        **{"num_classes": NUM_CLASSES, **kwargs},
    )


def tell(search, plan, quality):
    """Answers a plan; `quality(child)` is None where nothing improved."""
    results = []
    for child in plan.children:
        value = quality(child)
        tag = f"{plan.task}{plan.iteration}.{child.index}"
        found = tuple(
            refs([p.spec], tag)[0] if p.is_new else p.source
            for p in child.components
        )
        results.append(
            plan_lib.ChildResult(
                child.index, value, () if value is None else found
            )
        )
    search.tell(results)


def finished(search, quality):
    """Runs every generation that is left and returns the outcome."""
    while not search.is_done:
        tell(search, search.ask(), quality)
    return search.finish()


def many_draws(seed, kind="independent", num_draws=NUM_DRAWS):
    """Yields the numbers of as many children as are counted."""
    for position in range(num_draws):
        yield random_draws.RandomDraws(kind, seed, ("child", "a"), position)


def proposal(hparams, adapters=(), prob=0.0, ranges=None, places=(), **search):
    """Returns what mutations get of a parent of `hparams`."""
    return plugins.Proposal(
        hparams,
        frozenset(adapters),
        lambda place: False,
        prob,
        plugins.SearchSpace(
            settings_lib.SearchSettings(**search),
            ranges or {},
            lambda hparams, adapters: list(places),
        ),
    )


def mutated_hparams(hparams, prob, ranges, draws, **search):
    """Returns a proposal whose hyperparameters the method mutated."""
    return mutations.mutate_hyperparameters(
        proposal(hparams, prob=prob, ranges=ranges, **search),
        root(),
        prob,
        draws,
    )


def check_share(count, expected, num_draws=NUM_DRAWS, sigmas=5):
    """Fails unless `count` of the draws is about `expected` of them."""
    spread = np.sqrt(expected * (1 - expected) / num_draws)
    assert abs(count / num_draws - expected) <= sigmas * spread, (
        count / num_draws,
        expected,
    )
