"""One task iteration as a conversation: ask for children, tell what they did.

Invariant: everything a draw depends on is in the iteration's state, which
`to_json` writes and `from_json` reads; a resumed iteration continues with the
same draws (section 2).
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import seeds as seeds_lib
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import child_factory
from keras_munet.search import plan as plan_lib
from keras_munet.search import plugins
from keras_munet.search import population as population_lib
from keras_munet.search import sampling

# A ranking tries the root and so many paths of other tasks.
NUM_RANKED_MAX = 15


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a finished task iteration.

    Attributes:
      best: the task's best path.
      retired: dead path id -> its parent, to be added to the lineage.
      num_children: path id -> children sampled from it for this task.
    """

    best: specs.PathRecord
    retired: Mapping[str, str | None]
    num_children: Mapping[str, int]


class TaskIteration:
    """All the generations that are spent on one task before the next."""

    def __init__(
        self,
        settings: settings_lib.Settings,
        family: architecture.Family,
        population: population_lib.Population,
        task: str,
        *,
        num_classes: int,
        iteration: int,
        num_children: Mapping[str, int] | None = None,
        num_children_of_others: Mapping[str, int] | None = None,
        num_validation_examples: int | None = None,
        quality_name: str | None = None,
    ):
        """Starts an iteration: the task's own lock is off, its seeds known.

        Args:
          settings: the experiment.
          family: what paths of the root look like.
          population: the living paths.
          task: the task's bare name.
          num_classes: the width of its head.
          iteration: how many iterations the task has behind it.
          num_children: path id -> children of this task sampled from it.
          num_children_of_others: the same for all other tasks; only `munet`
            counts these too.
          num_validation_examples: that a score counts; None where they are
            unknown, and no task counts as solved.
          quality_name: of the measure that decides; None for the setting.
        """
        self._settings = settings
        self._population = population
        self._breeder = child_factory.ChildFactory(
            settings,
            family,
            task,
            num_classes=num_classes,
            iteration=iteration,
            num_root_layers=int(population.root.hparams["num_layers"]),
        )
        self._num_classes = num_classes
        self._is_v1 = settings.search.version == "munet"
        self._choose = plugins.parent_policy(settings.search)
        self._num_validation_examples = num_validation_examples
        self._quality_name = quality_name or settings.search.quality
        self.task = task
        self.iteration = iteration
        self.generation = 0
        self._num_children = dict(num_children or {})
        self._of_others = dict(num_children_of_others or {})
        if not self._is_v1:
            self._of_others = {}
        own = population.published.get(task)
        self._active = [own] if own is not None else []
        self._own_id = None if own is None else own.id
        # Path id -> validation quality of a solved head on its features.
        self._ranking: dict[str, float] | None = None
        self._ordered = self._ordered_seeds()
        self._seeds = self._ordered
        self._untried = [path.id for path in self._seeds] if self._is_v1 else []

    @property
    def is_done(self) -> bool:
        """Returns whether all results are in or a stop rule holds."""
        return (
            self.generation >= self._settings.num_generations
            or self.stop_reason is not None
        )

    @property
    def stop_reason(self) -> str | None:
        """The stop rule that holds, in words; None without one.

        It follows from the state alone, so a resumed iteration ends alike.
        """
        if not self._active:
            return None
        search = self._settings.search
        best = self.active[0]
        first_generation = min(
            -1 if path.id == self._own_id else path.created_in[1]
            for path in self._active
            if path.score == best.score
        )
        num_without = self.generation - first_generation - 1
        if search.stop_patience and num_without >= search.stop_patience:
            return f"no better score in {num_without} generations"
        num = self._num_validation_examples
        quality = best.metrics["quality"]
        if (
            search.stop_when_solved
            and num
            and round((1.0 - quality) * num) <= 1
        ):
            name = self._quality_name.replace("_", " ")
            return f"validation {name} {quality:.4f} of {num} examples"
        return None

    @property
    def active(self) -> tuple[specs.PathRecord, ...]:
        """The task's active paths, best first."""
        return tuple(sampling.rank_paths(self._active))

    @property
    def finetunes_all(self) -> bool:
        """Returns whether no ranked path suits the task enough to be shared."""
        limit = self._settings.search.finetune_all_below
        suitability = self._suitability
        return suitability is not None and limit > suitability

    @property
    def finetunes_third(self) -> bool:
        """Returns whether a ranked path suits so well that a third will do."""
        limit = self._settings.search.finetune_third_above
        suitability = self._suitability
        return suitability is not None and 0 < limit <= suitability

    @property
    def _suitability(self) -> float | None:
        """The accuracy of the best ranked path, as if of ten classes.

        To tell K classes apart takes log10(K) times the bits: equally good
        features reach that power of the accuracy.
        """
        if self._ranking is None:
            return None
        exponent = math.log10(max(self._num_classes, 2))
        return max(self._ranking.values()) ** (1.0 / exponent)

    @property
    def _search_in_force(self) -> settings_lib.SearchSettings:
        """The settings, with what is always trained by how well a path suits.

        It follows from the ranking, so from the state.
        """
        search = self._settings.search
        patterns: tuple[str, ...]
        if self.finetunes_all:
            patterns = (settings_lib.ALL_PLACES,)
        elif self.finetunes_third:
            patterns = tuple(
                settings_lib.UPPER_THIRD
                if pattern == settings_lib.UPPER_HALF
                else pattern
                for pattern in search.force_finetune_components
            )
        else:
            return search
        return dataclasses.replace(search, force_finetune_components=patterns)

    @property
    def unranked(self) -> tuple[specs.PathRecord, ...]:
        """The paths that `rank` needs before the first `ask`.

        None where the search samples them, or where nothing follows from a
        single one. Of many paths some by chance, and the root.
        """
        search = self._settings.search
        if self.generation or self._ranking is not None:
            return ()
        root = self._population.root
        other_seeds = [path for path in self._seeds if path.id != root.id]
        if search.rank_parents == "sampled":
            other_seeds = []
        follows = search.finetune_all_below or search.finetune_third_above
        if other_seeds or follows:
            return (root, *other_seeds[:NUM_RANKED_MAX])
        return ()

    def rank(self, accuracies: Mapping[str, float]) -> None:
        """Orders the seed paths from best to worst; others come last.

        Args:
          accuracies: path id -> validation accuracy of a solved head on its
            features, for every path of `unranked`.
        """
        self._ranking = dict(accuracies)
        self._order_seeds(0, len(self._untried))

    def ask(self) -> plan_lib.GenerationPlan:
        """Returns the next generation's children.

        Asking twice without telling gives the same children.
        """
        search = self._search_in_force
        data_hparams = self._sample_data_hparams()
        first = self.generation * self._settings.children_per_generation
        last = min(
            first + self._settings.children_per_generation,
            self._settings.num_samples_per_task,
        )
        counts = collections.Counter(self._num_children)
        totals = counts + collections.Counter(self._of_others)
        seeds = list(self._seeds)
        untried = list(self._untried)
        children = []
        for index in range(first, last):
            rng = self._rng("child", self.generation, index)
            mutates = not untried and not (
                search.first_child == "config" and self.iteration == index == 0
            )
            if search.policy != "evolve":
                parent = self._population.root
            elif untried:
                parent = self._population.living[untried.pop(0)]
            elif self._choose is not None:
                parent = self._choose(self.active, seeds, totals, rng)
            else:
                parent, seeds = sampling.sample_parent(
                    self._active,
                    seeds,
                    totals,
                    rng,
                    walk_seeds=not self._is_v1,
                    is_ranked=self._orders_by_rank,
                )
            counts[parent.id] += 1
            totals[parent.id] += 1
            children.append(
                self._breeder.child(
                    index,
                    [parent, *self._ancestors(parent)],
                    data_hparams[
                        (index - first) * len(data_hparams) // (last - first)
                    ],
                    self._population,
                    mutates=mutates,
                    search=search,
                )
            )
        if search.probe_child and self.generation == 0:
            # One more, beside those that a search without it has.
            children.append(
                self._breeder.solved_child(
                    self._settings.num_samples_per_task,
                    self._population.root
                    if not self._orders_by_rank
                    else self._ordered[0],
                    data_hparams[0],
                    self._population,
                )
            )
        self._pending = dict(counts), seeds, untried, children
        return plan_lib.GenerationPlan(
            task=self.task,
            iteration=self.iteration,
            generation=self.generation,
            data_hparams=data_hparams[0],
            children=tuple(children),
            accept_ties=not self._is_v1,
        )

    def tell(self, results: list[plan_lib.ChildResult]) -> None:
        """Takes the improved children of the asked generation in.

        Raises:
          ValueError: the results are not those of the asked children.
        """
        counts, seeds, untried, children = self._pending
        if [r.index for r in results] != [c.index for c in children]:
            raise ValueError("results do not belong to the asked children")
        for child, result in zip(children, results, strict=True):
            if result.quality is not None:
                self._active.append(
                    self._record(child, result.quality, result.components)
                )
        self._num_children, self._seeds = counts, seeds
        self._untried = untried
        self.generation += 1

    def finish(self) -> Outcome:
        """Returns the best path and the lineage that its choice leaves.

        Raises:
          ChildError: no child of the task ever had a usable score.
        """
        if not self._active:
            raise errors.ChildError(
                f"no child of task {self.task!r} reached a finite score in "
                f"{self.generation} generations; lower hparams.opt_lr or give "
                "it more samples"
            )
        # v1 keeps the first of equals; rank() puts the newest first.
        best = sampling.rank_paths(self._active)[0]
        if self._is_v1:
            best = max(
                self._active,
                key=lambda p: (p.score, tuple(-b for b in p.created_in)),
            )
        dead = {p.id: p for p in self._active if p.id != best.id}
        retired: dict[str, str | None] = {}
        own = self._population.published.get(self.task)
        if own is not None and own.id in dead:
            retired[own.id] = own.parent
        if best.parent in dead and best.parent not in retired:
            retired[best.parent] = self._nearest_living(best, dead)
        living = {self._population.root.id, best.id} | {
            p.id
            for t, p in self._population.published.items()
            if t != self.task
        }
        counts = {k: n for k, n in self._num_children.items() if k in living}
        return Outcome(best=best, retired=retired, num_children=counts)

    def to_json(self) -> dict[str, Any]:
        """Returns the state between two generations as plain JSON values."""
        return {
            "task": self.task,
            "iteration": self.iteration,
            "generation": self.generation,
            "num_children": dict(self._num_children),
            "active": [path.to_json() for path in self._active],
            "num_seeds_passed": self._num_seeds_passed(),
            "num_untried": len(self._untried),
            "ranking": self._ranking,
        }

    @property
    def seeds(self) -> tuple[specs.PathRecord, ...]:
        """The seed paths in their current order."""
        return tuple(self._seeds)

    def can_restore(self, state: Mapping[str, Any]) -> bool:
        """Returns whether `state` is of this very iteration.

        It is not if the iteration was published since. Over the same living
        paths the iteration goes on as if it had never stopped; if another job
        published a path in between, with the seeds and locks of now.
        """
        return (
            state["task"] == self.task and state["iteration"] == self.iteration
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `can_restore`."""
        assert self.can_restore(state)
        self.generation = state["generation"]
        self._num_children = dict(state["num_children"])
        self._active = [specs.PathRecord.from_json(p) for p in state["active"]]
        self._ranking = state.get("ranking")
        self._order_seeds(state["num_seeds_passed"], state["num_untried"])

    def renew(self, population: population_lib.Population) -> None:
        """Takes over what other jobs have published since, as new seeds.

        The task itself must not have been published.
        """
        num_passed, num_untried = self._num_seeds_passed(), len(self._untried)
        self._population = population
        self._order_seeds(num_passed, num_untried)

    def _order_seeds(self, num_passed: int, num_untried: int) -> None:
        """Puts the seeds in the order that a number of steps led to."""
        seeds = self._ordered = self._ordered_seeds()
        start = num_passed % len(seeds)
        self._seeds = seeds[start:] + seeds[:start]
        num_tried = max(0, len(seeds) - num_untried)
        self._untried = [path.id for path in seeds[num_tried:]]

    def _num_seeds_passed(self) -> int:
        """Returns how far the seeds were rotated: all that their order is."""
        first_id = self._seeds[0].id
        return next(i for i, p in enumerate(self._ordered) if p.id == first_id)

    def _rng(self, *event: str | int) -> np.random.Generator:
        return seeds_lib.generator(
            self._settings.seed, *event, self.task, self.iteration
        )

    @property
    def _orders_by_rank(self) -> bool:
        is_sampled = self._settings.search.rank_parents == "sampled"
        return self._ranking is not None and not is_sampled

    def _ordered_seeds(self) -> list[specs.PathRecord]:
        seeds = self._population.seeds(self.task)
        if self._is_v1:
            return sorted(seeds, key=lambda p: p.created_in, reverse=True)
        order = self._rng("seeds").permutation(len(seeds)).tolist()
        seeds = [seeds[i] for i in order]
        if self._orders_by_rank:
            ranking = self._ranking or {}
            # The unranked, which may be thousands, stay as they are.
            ids = {*ranking, self._population.root.id}
            ranked = [path for path in seeds if path.id in ids]
            unranked = [path for path in seeds if path.id not in ids]
            # Of equals the root, whose components most tasks can share.
            ranked.sort(
                key=lambda path: (-ranking.get(path.id, -1.0), not path.is_root)
            )
            seeds = ranked + unranked
        return seeds

    def _sample_data_hparams(self) -> list[dict[str, Any]]:
        """Returns the generation's, or those of each of its halves."""
        has_halves = self._settings.search.data_draws == "half"
        return [
            self._breeder.data_hparams(
                self.generation,
                self.active[0] if self._active else None,
                self._population.root,
                # v1 mutates nothing until every seed was tried.
                mutates=not self._untried,
                half=half,
            )
            for half in range(2 if has_halves else 1)
        ]

    def _record(
        self,
        child: plan_lib.ChildPlan,
        quality: float,
        components: tuple[specs.ComponentRef, ...],
    ) -> specs.PathRecord:
        created_in = (
            self._population.num_iterations_done,
            self.generation,
            child.index,
        )
        record = specs.PathRecord(
            task=self.task,
            parent=child.parent.id,
            created_in=created_in,
            hparams=child.hparams,
            components=components,
        )
        return record.with_metrics(
            quality=quality,
            score=quality * child.size_factor,
            accounted_params=child.accounted_params,
            num_params=record.num_params,
        )

    def _ancestors(self, path: specs.PathRecord) -> list[specs.PathRecord]:
        return self._population.ancestors(path, {p.id: p for p in self._active})

    def _nearest_living(
        self, best: specs.PathRecord, dead: Mapping[str, specs.PathRecord]
    ) -> str | None:
        for ancestor in self._ancestors(best):
            if ancestor.id not in dead:
                return ancestor.id
        return None
