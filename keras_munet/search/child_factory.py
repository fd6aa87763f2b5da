"""Makes one child from its parent (section 2, "Cloning and mutation").

Invariant: a child depends on its parent's records, the living paths and the
draws of its position alone, never on the children made before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet.core import adapters as adapters_lib
from keras_munet.core import architecture
from keras_munet.core import child_record
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import baselines
from keras_munet.search import cloning
from keras_munet.search import hparam_ranges
from keras_munet.search import mutations
from keras_munet.search import plan as plan_lib
from keras_munet.search import plugins
from keras_munet.search import population as population_lib
from keras_munet.search import random_draws
from keras_munet.search import scoring


class ChildFactory:
    """Makes the children of one task iteration."""

    def __init__(
        self,
        settings: settings_lib.Settings,
        family: architecture.Family,
        task: str,
        *,
        num_classes: int,
        iteration: int,
        num_root_layers: int,
    ):
        """Prepares the ranges in force.

        Args:
          settings: the experiment.
          family: what paths look like.
          task: the task's bare name.
          num_classes: the width of its head.
          iteration: how many iterations the task has behind it.
          num_root_layers: see `hparam_ranges.ranges_in_force`.
        """
        self._settings = settings
        self._family = family
        self._task = task
        self._num_classes = num_classes
        self._iteration = iteration
        self._is_v1 = settings.search.version == "munet"
        self._baseline = baselines.parse_baseline(settings.search)
        ranges = hparam_ranges.ranges_in_force(settings, num_root_layers)
        self._ranges: hparam_ranges.Ranges = {} if self._baseline else ranges
        self._space = plugins.SearchSpace(
            settings.search,
            self._ranges,
            lambda hparams, adapters: [
                spec.name
                for spec in family.layout(hparams, num_classes, adapters)
            ],
        )
        # What a baseline is tuned by.
        self._tuned_ranges = {
            key: steps
            for key, steps in ranges.items()
            if key == "opt_lr" or hparam_ranges.is_data(key)
            if key not in settings_lib.ROOT_HPARAMS
        }

    def data_hparams(
        self,
        generation: int,
        best: specs.PathRecord | None,
        root: specs.PathRecord,
        *,
        mutates: bool,
        half: int = 0,
    ) -> dict[str, Any]:
        """Returns the data hyperparameters that a generation, or half, shares.

        Args:
          generation: its number within the iteration.
          best: the task's best path so far.
          root: the root path.
          mutates: whether v1 mutates them; v2 always does.
          half: 1 for the second half of a generation, whose draws differ.
        """
        prob = self._data_prob
        is_first = self._iteration == generation == 0
        if (self._is_v1 and not mutates) or (
            is_first and self._settings.search.first_data == "config"
        ):
            prob = 0.0
        num_before = self._iteration * self._settings.num_generations
        return mutations.mutate_data(
            {**root.hparams, **self._settings.hparams},
            None if best is None else best.hparams,
            self._ranges,
            prob,
            self._draws(
                "data of second half" if half else "data",
                num_before + generation,
            ),
        )

    def child(
        self,
        index: int,
        lineage: Sequence[specs.PathRecord],
        data_hparams: Mapping[str, Any],
        population: population_lib.Population,
        *,
        mutates: bool,
        search: settings_lib.SearchSettings,
    ) -> plan_lib.ChildPlan:
        """Returns one child.

        Args:
          index: its number within the iteration.
          lineage: its parent, then the parent's living ancestors.
          data_hparams: those of its generation.
          population: who lives and relies on what.
          mutates: False for an unmutated clone (v1's first ones).
          search: the settings in force; what is always trained may follow
            from how well a path suits the task.
        """
        parent = lineage[0]
        if self._baseline is not None and self._baseline.is_solved:
            return self.solved_child(index, parent, data_hparams, population)
        change = self._mutated if self._baseline is None else self._fixed
        proposal = change(index, parent, mutates, search)
        hparams = {**proposal.hparams, **data_hparams}
        if self._baseline is not None and index:
            hparams = self._tuned(index, hparams)
        layout = self._family.layout(
            hparams, self._num_classes, proposal.adapters
        )
        components = cloning.plan_components(
            layout,
            lineage,
            self._task,
            is_locked=lambda c: population.is_locked(c.id, without=self._task),
            trains=proposal.clones,
            can_resample=self._family.can_resample,
            train_resampled=not self._is_v1,
        )
        return self._plan(index, parent, hparams, components, population)

    def solved_child(
        self,
        index: int,
        parent: specs.PathRecord,
        data_hparams: Mapping[str, Any],
        population: population_lib.Population,
    ) -> plan_lib.ChildPlan:
        """Returns the child that is its parent below a solved head.

        Args:
          index: its number within the iteration.
          parent: a path of another task, or the root.
          data_hparams: of its generation; the size of its input is the
            parent's.
          population: who lives and relies on what.
        """
        size = {"ds_image_size": parent.hparams["ds_image_size"]}
        hparams = {**parent.hparams, **data_hparams, **size}
        layout = self._family.layout(
            hparams, self._num_classes, mutations.adapters_of(parent)
        )
        components = cloning.plan_solved(layout, parent)
        return self._plan(index, parent, hparams, components, population)

    def _plan(
        self,
        index: int,
        parent: specs.PathRecord,
        hparams: dict[str, Any],
        components: tuple[cloning.PlannedComponent, ...],
        population: population_lib.Population,
    ) -> plan_lib.ChildPlan:
        """Returns the plan of a child whose components are chosen."""
        search = self._settings.search
        layout = [part.spec for part in components]
        accounted = population.accounted_params(
            self._task,
            [c.known_source() for c in components if not c.is_new],
            sum(c.spec.num_params for c in components if c.is_new),
        )
        same_task = parent.task == self._task
        size_factor = plugins.size_factor(
            search,
            scoring.ScoreInputs(
                self._task,
                accounted,
                sum(spec.num_params for spec in layout),
                search.score_num_params or population.root.num_params,
                search.score_base,
                hparams,
            ),
        )
        before = _adapters(ref.name for ref in parent.components)
        after = _adapters(spec.name for spec in layout)
        return plan_lib.ChildPlan(
            index=index,
            parent=parent,
            hparams=hparams,
            components=components,
            size_factor=size_factor,
            score_to_beat=parent.score if same_task else -float("inf"),
            accounted_params=accounted,
            record=child_record.ChildRecord(
                components=tuple(part.origin for part in components),
                mutations=child_record.mutations_between(
                    parent.hparams, hparams
                ),
                adapters_inserted=tuple(n for n in after if n not in before),
                adapters_removed=tuple(n for n in before if n not in after),
                size_factor=size_factor,
                accounted_params=accounted,
            ),
        )

    def _mutated(
        self,
        index: int,
        parent: specs.PathRecord,
        mutates: bool,
        search: settings_lib.SearchSettings,
    ) -> plugins.Proposal:
        """Returns what the search makes of `parent`."""
        num_before = self._iteration * self._settings.num_samples_per_task
        prob = self._settings.search.mutation_prob
        if not self._is_v1:
            prob = float(parent.hparams["mu"])
        proposal = plugins.Proposal(
            dict(parent.hparams),
            mutations.adapters_of(parent),
            lambda name: False,
            prob if mutates else 0.0,
            dataclasses.replace(self._space, search=search),
        )
        draws = self._draws("child", num_before + index)
        return plugins.apply_mutations(proposal, parent, draws)

    def _fixed(
        self,
        index: int,
        parent: specs.PathRecord,
        mutates: bool,
        search: settings_lib.SearchSettings,
    ) -> plugins.Proposal:
        """Returns what a baseline makes of the root, before it is tuned."""
        del index, mutates, search
        assert self._baseline is not None
        hparams = dict(parent.hparams)
        adapters: frozenset[int] = frozenset()
        if self._baseline.adapter_dim is not None:
            hparams["adapter_dim"] = self._baseline.adapter_dim
            adapters = frozenset(range(hparams["num_layers"]))
        return plugins.Proposal(
            hparams, adapters, self._baseline.should_clone, 0.0, self._space
        )

    def _tuned(self, index: int, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the hyperparameters of a later child of a baseline.

        The learning rate is the next one to the config's; data
        hyperparameters are as those of a generation of the search.
        """
        tuned = mutations.mutate_data(
            hparams,
            None,
            {k: v for k, v in self._tuned_ranges.items() if k != "opt_lr"},
            self._data_prob,
            self._draws("data", index),
        )
        if "opt_lr" in self._tuned_ranges:
            tuned["opt_lr"] = hparam_ranges.neighbours(
                hparams["opt_lr"], self._tuned_ranges["opt_lr"], index
            )
        return {**hparams, **tuned}

    @property
    def _data_prob(self) -> float:
        """The mutation probability of data hyperparameters."""
        search = self._settings.search
        if search.data_mu is not None:
            return search.data_mu
        if self._is_v1:
            return search.mutation_prob
        return float(self._settings.hparams["mu"])

    def _draws(self, purpose: str, position: int) -> random_draws.RandomDraws:
        settings = self._settings
        return random_draws.RandomDraws(
            settings.search.draws,
            settings.seed,
            (purpose, self._task),
            position,
        )


def _adapters(places: Iterable[str]) -> list[str]:
    return [name for name in places if name.startswith(adapters_lib.PREFIX)]
