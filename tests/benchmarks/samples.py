"""Generations as the real search asks for them, with made-up accuracies.

The search is told a random accuracy for every child, so that later generations
have parents of their own task, and later tasks those of others. Nothing is
stored: a component that would have been trained is a name with fresh values.
"""

from __future__ import annotations

import numpy as np
import ours

from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.roots import root as root_lib
from keras_munet.search import cloning
from keras_munet.search import evolution
from keras_munet.search import plan as plan_lib
from keras_munet.search import population as population_lib
from keras_munet.train import child_job

_NUM_CLASSES = 10
NUM_CHILDREN = 8


class Search:
    """A system that grows task by task, without training."""

    def __init__(
        self,
        num_layers: int,
        mu: float,
        *,
        num_children: int = NUM_CHILDREN,
        num_generations: int = 5,
        image_size: int = 32,
    ):
        """Prepares a random Ti/16 root and a search without auto-tuning.

        Args:
          num_layers: of every path.
          mu: the mutation probability of every path.
          num_children: per generation.
          num_generations: per task.
          image_size: of every path, pixels.
        """
        self._settings = settings_lib.Settings.from_dict(
            {
                "num_samples_per_task": num_children * num_generations,
                "children_per_generation": num_children,
                "hparams": {"mu": mu},
                "search": {"auto_tune": "off"},
            }
        )
        self._root = root_lib.random(
            "Ti/16", num_layers=num_layers, image_size=image_size
        )
        path = specs.PathRecord(
            task=specs.NOT_TRAINABLE,
            parent=None,
            created_in=(-1, 0, 0),
            hparams={**self._settings.hparams, **self._root.hparams},
            components=tuple(
                _ref(c.spec, "root") for c in self._root.components
            ),
        )
        self._population = population_lib.Population(path)
        self._rng = seeds.generator(0, "accuracies")
        self._values = {c.spec.spec_id: c for c in self._root.components}

    def task(self, name: str) -> list[list[child_job.ChildJob]]:
        """Returns the generations of a new task, which is then published.

        Args:
          name: of the task; its draws depend on it.
        """
        published = self._population.published
        iteration = evolution.TaskIteration(
            self._settings,
            self._root.family,
            self._population,
            name,
            num_classes=_NUM_CLASSES,
            iteration=0,
        )
        generations = []
        while not iteration.is_done:
            plan = iteration.ask()
            generations.append([self._job(child) for child in plan.children])
            iteration.tell([self._told(name, child) for child in plan.children])
        best = iteration.finish().best
        self._population = population_lib.Population(
            self._population.root,
            {**published, name: best},
            num_iterations_done=len(published) + 1,
        )
        return generations

    def _told(self, task: str, child: plan_lib.ChildPlan):
        refs = tuple(
            _ref(part.spec, f"{task} {child.index}")
            if part.is_new
            else part.known_source()
            for part in child.components
        )
        quality = float(self._rng.uniform(0.3, 0.9))
        return plan_lib.ChildResult(child.index, quality, refs)

    def _job(self, child: plan_lib.ChildPlan) -> child_job.ChildJob:
        parts = tuple(
            child_job.JobComponent(
                part.spec,
                lambda part=part: self._component(part),
                None if part.is_new else part.known_source().id,
                part.trainable,
            )
            for part in child.components
        )
        return ours.child(child.index, parts, child.hparams)

    def _component(self, part: cloning.PlannedComponent) -> specs.Component:
        spec = part.spec
        if spec.spec_id not in self._values:
            rng = np.random.default_rng(0)
            self._values[spec.spec_id] = self._root.family.initial(spec, rng)
        return self._values[spec.spec_id]


def _ref(spec: specs.ComponentSpec, maker: str) -> specs.ComponentRef:
    name = f"{maker} {spec.name}"
    return specs.ComponentRef(spec.name, name, spec.spec_id, spec.num_params)
