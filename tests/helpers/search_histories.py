"""Systems that grow on records and a store in memory: nothing is trained.

A child's values are those of its source plus noise where it trains them, its
quality is drawn. All else is what a real run does.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator

import memory_files
import numpy as np
import search_samples as samples

from keras_munet import errors
from keras_munet.core import names
from keras_munet.core import seeds
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.search import baselines
from keras_munet.search import cloning
from keras_munet.search import evolution
from keras_munet.search import plan as plan_lib
from keras_munet.store import system_dir
from keras_munet.store import task_state
from keras_munet.system import population_view

_SHARE_OF_FAILURES = 0.2
_NUM_QUALITIES = 5


@dataclasses.dataclass(frozen=True)
class Step:
    """One task iteration, or the removal of a task.

    Attributes:
      task: the task, `private:` where its paths stay its own.
      removes: whether the task is removed if the system has it.
    """

    task: str
    removes: bool = False


class History:
    """A system and everything that ever lived in it.

    Attributes:
      files: of the system.
      paths: path id -> every path that was ever active, the root too.
      maker: component id -> the task whose child trained it first.
      ids: ids of paths in the order of their births; twice if not unique.
    """

    def __init__(self, settings: settings_lib.Settings, *, replays=False):
        """Makes a system of a one-layer root.

        Args:
          settings: the experiment.
          replays: whether every generation starts from what was saved.
        """
        self.settings = baselines.budgeted(settings)
        self.family = samples.TinyFamily()
        self.files = memory_files.MemoryFiles()
        self._replays = replays
        hparams = {**settings.hparams, "num_layers": 1, "ds_image_size": 32}
        self.directory = system_dir.SystemDir.create(
            self.files,
            experiment=settings.to_json(),
            family=self.family.to_json(),
            root_components=[
                self.family.initial(spec, seeds.generator(0, spec.name))
                for spec in self.family.layout(hparams, 2)
            ],
            root_hparams=hparams,
            root_source="made up",
        )
        root = self.directory.root
        self.paths = {root.id: root}
        self.maker = {c.id: root.task for c in root.components}
        self.ids = [root.id]
        self.last_plans: list[plan_lib.GenerationPlan] = []

    def play(self, steps) -> Iterator[Step]:
        """Takes step after step; yields each after it was taken."""
        for step in steps:
            self.take(step)
            yield step

    def take(self, step: Step) -> None:
        """Takes one step, as `System.evolve` and `System.remove` would."""
        task, private = names.split_private(step.task)
        self.last_plans = []
        if not step.removes:
            self._evolve(task, private)
        elif task in self.directory.tasks():
            self.directory.remove(task)
        self.directory.clear_progress(task)
        self.directory.collect()

    def population(self):
        """Returns the living paths."""
        return population_view.read_population(self.directory)

    def content(self) -> dict[str, bytes]:
        """Returns every file of the system."""
        return {
            name: self.files.read(name, 1 << 30) for name in self.files.list()
        }

    def _search(self, task: str) -> evolution.TaskIteration:
        states = self.directory.tasks()
        state = states.pop(task, None)
        before = state or self.directory.removed().get(task)
        of_others: dict[str, int] = {}
        for other in states.values():
            for path_id, number in other.child_counts.items():
                of_others[path_id] = of_others.get(path_id, 0) + number
        search = evolution.TaskIteration(
            self.settings,
            self.family,
            self.population(),
            task,
            num_classes=samples.NUM_CLASSES,
            iteration=before.num_iterations_done if before else 0,
            num_children=state.child_counts if state else {},
            num_children_of_others=of_others,
        )
        return search

    def _evolve(self, task: str, private: bool) -> None:
        search = self._search(task)
        while not search.is_done:
            if self._replays and search.generation:
                self.directory = system_dir.SystemDir.open(self.files)
                search = self._search(task)
                with warnings.catch_warnings(action="error"):
                    search.restore(self.directory.load_progress(task))
            self._rank(search)
            plan = search.ask()
            self.last_plans.append(plan)
            known = {path.id for path in search.active}
            search.tell([self._result(plan, child) for child in plan.children])
            for path in search.active:
                if path.id not in known:
                    self.paths[path.id] = path
                    self.ids.append(path.id)
            self.directory.save_progress(task, search.to_json())
        try:
            outcome = search.finish()
        except errors.ChildError:
            return
        states = self.directory.tasks()
        state = states.get(task)
        before = state or self.directory.removed().get(task)
        self.directory.publish(
            task_state.TaskState(
                task=task,
                private=private,
                num_classes=samples.NUM_CLASSES,
                class_names=(),
                num_iterations_done=search.iteration + 1,
                num_iterations_before=(
                    state.num_iterations_before if state else search.iteration
                ),
                published=outcome.best,
                retired={
                    **(before.retired if before else {}),
                    **outcome.retired,
                },
                child_counts=dict(outcome.num_children),
            )
        )

    def _rank(self, search: evolution.TaskIteration) -> None:
        """Ranks paths by accuracies that are drawn, with ties."""
        rng = seeds.generator(self.settings.seed, "ranks", search.task)
        if search.unranked:
            search.rank(
                {
                    path.id: int(rng.integers(_NUM_QUALITIES)) / 4
                    for path in search.unranked
                }
            )

    def _result(
        self, plan: plan_lib.GenerationPlan, child: plan_lib.ChildPlan
    ) -> plan_lib.ChildResult:
        rng = seeds.generator(
            self.settings.seed,
            *("made up", plan.task, plan.iteration, child.index),
        )
        quality = int(rng.integers(_NUM_QUALITIES)) / (_NUM_QUALITIES - 1)
        score = quality * child.size_factor
        beats = score > child.score_to_beat or (
            plan.accept_ties and score == child.score_to_beat
        )
        if not beats or rng.random() < _SHARE_OF_FAILURES:
            return plan_lib.ChildResult(child.index, None)
        refs = tuple(
            self._trained(plan.task, part, rng) for part in child.components
        )
        return plan_lib.ChildResult(child.index, quality, refs)

    def _trained(
        self,
        task: str,
        part: cloning.PlannedComponent,
        rng: np.random.Generator,
    ) -> specs.ComponentRef:
        if not part.is_new:
            return part.known_source()
        if part.source is None:
            component = self.family.initial(part.spec, rng)
        else:
            component = self.directory.objects.get(part.known_source())
        if part.init == cloning.RESAMPLE:
            component = self.family.resample(component, part.spec)
        if part.trainable:
            weights = {
                name: (value + rng.normal(size=value.shape)).astype("f4")
                for name, value in component.weights.items()
            }
            component = specs.Component(part.spec, weights)
        ref = self.directory.objects.put(component)
        self.maker.setdefault(ref.id, task)
        return ref
