"""One task iteration: where the search meets training and the store.

Invariant: a generation is saved before the next is requested, so a killed job
loses at most the children that were in training.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from keras_munet.callbacks import callback as callback_lib
from keras_munet.callbacks.progress import Progress
from keras_munet.core import child_record
from keras_munet.core import fingerprint as fingerprint_lib
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import types
from keras_munet.search import evolution
from keras_munet.search import plan as plan_lib
from keras_munet.search import plugins
from keras_munet.search import population as population_lib
from keras_munet.search import scoring
from keras_munet.store import system_dir
from keras_munet.system import duplicates
from keras_munet.system import executor
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import trainer as trainer_lib

_Chosen = TypeVar("_Chosen")


def run(
    search: evolution.TaskIteration,
    data: types.TaskData,
    fingerprint: fingerprint_lib.DataFingerprint,
    directory: system_dir.SystemDir,
    crew: executor.Executor,
    settings: settings_lib.Settings,
    progress: Progress,
    newest: Callable[[], population_lib.Population | None],
) -> tuple[specs.PathRecord, evolution.Outcome]:
    """Runs every generation that is left and chooses the best path.

    Args:
      search: the iteration, fresh; it is restored if progress was saved.
      data: the task's data.
      fingerprint: of these data.
      directory: of the system; its job has the task's lease.
      crew: trains generations.
      settings: the experiment.
      progress: gets every event.
      newest: returns the living paths if other jobs have changed them since
        the last call, else None.

    Returns:
      The best path with its test accuracy, and the lineage it leaves.

    Raises:
      DataError: the iteration was begun on other data.
    """
    trainer = crew.trainer
    trainer.stop_when(progress.terminated)
    num_cycles = settings.num_validations_per_path_training
    begun_on = {
        "class_names": list(data.class_names),
        "fingerprint": fingerprint.to_json(),
    }
    _restore(search, directory, (data.class_names, fingerprint))
    progress.begin_task(
        callback_lib.TaskStart(
            task=search.task,
            num_generations_done=search.generation,
            num_generations=settings.num_generations,
            num_children=settings.num_samples_per_task,
        )
    )
    while not search.is_done:
        started, cpu_started = time.perf_counter(), time.process_time()
        trainer.clock.clear()
        _rank(search, data, directory, crew, settings, progress, newest)
        # No object may go between the choice of a parent and its use.
        with trainer.clock.measure("search"):
            with directory.naming():
                plan = _chosen(
                    search, directory, newest, search.ask, _source_tasks
                )
                directory.use(search.task, _sources(plan))
            progress.begin_generation(plan)
        distinct = duplicates.distinct(plan)
        trained = [
            child
            for part in distinct.parts()
            for child in crew.train(
                part,
                data,
                lambda _, scores, __: progress.end_cycle(
                    len(scores), num_cycles
                ),
            )
        ]
        trained = duplicates.spread(plan, trained)
        with trainer.clock.measure("store"), directory.naming():
            results, reports = _store(plan, trained, directory, settings)
            previous_ids = {path.id for path in search.active}
            search.tell(results)
            new = {
                p.created_in[2]: p.id
                for p in search.active
                if p.id not in previous_ids
            }
            refusal = directory.keep_progress(
                search.task, {**search.to_json(), "data": begun_on}
            )
        if refusal is not None:
            progress.warn_once(
                "progress",
                f"the progress of {search.task} cannot be saved; the job goes "
                "on, and if it is stopped before it can be, it makes the "
                f"generations since then again: {refusal}",
            )
        for report in reports:
            # Children of later generations name their parents so.
            report["path_id"] = new.get(report["index"])
        progress.end_generation(
            task=search.task,
            iteration=search.iteration,
            number=search.generation,
            num_generations=settings.num_generations,
            children=reports,
            best_score=search.active[0].score if search.active else None,
            clock=trainer.clock,
            secs=time.perf_counter() - started,
            cpu_secs=time.process_time() - cpu_started
            if crew.is_alone
            else None,
            # What stands for a trainer, as in the soak, has no engine.
            engine=getattr(trainer, "engine_name", ""),
        )
    progress.end_early(
        task=search.task,
        iteration=search.iteration,
        num_left=settings.num_generations - search.generation,
        reason=search.stop_reason,
    )
    outcome = search.finish()
    test_quality = crew.accuracy(outcome.best, data, "test")
    best = outcome.best.with_metrics(test_quality=test_quality)
    progress.line(
        f"{search.task}: path {best.id[:8]}, {best.hparams['num_layers']} "
        f"layers, validation {best.metrics['quality']:.4f}, test "
        f"{test_quality:.4f}"
    )
    progress.event(
        "published",
        task=search.task,
        iteration=search.iteration,
        path=best.to_json(),
    )
    return best, outcome


def measure_path(
    task: str,
    population: population_lib.Population,
    data: types.TaskData,
    settings: settings_lib.Settings,
    crew: executor.Executor,
) -> dict[str, Any]:
    """Returns what `System.evaluate` says of one published task.

    The score is today's: what is shared has changed since the publication.
    """
    path = population.published[task]
    quality = {
        split: crew.accuracy(path, data, split)
        for split in ("validation", "test")
    }
    decides = quality["validation"]
    measure = data.target.quality_of(settings.search.quality, task)
    if measure != "accuracy" and data.target is target_types.SINGLE_LABEL:
        decides = crew.accuracy(path, data, trainer_lib.QUALITY)
    metrics = crew.test_metrics(path, data)
    accounted = population.accounted_params(task, path.components)
    facts = scoring.ScoreInputs(
        task,
        accounted,
        path.num_params,
        settings.search.score_num_params or population.root.num_params,
        settings.search.score_base,
        path.hparams,
    )
    factor = plugins.size_factor(settings.search, facts)
    return {
        "path_id": path.id,
        "validation_accuracy": quality["validation"],
        "test_accuracy": quality["test"],
        "score": decides * factor,
        "num_layers": path.hparams["num_layers"],
        "num_params": path.num_params,
        "accounted_params": accounted,
        "measure": data.target.test_measure(settings.search.quality),
        "test_metrics": None
        if metrics is None
        else metrics.summary(data.class_names),
    }


def _restore(
    search: evolution.TaskIteration,
    directory: system_dir.SystemDir,
    data: tuple[Sequence[str], fingerprint_lib.DataFingerprint],
) -> None:
    """Continues a saved iteration, or forgets one that no longer fits.

    Progress that is damaged, or names an object that is, does not load; then
    that of the generation before does.

    Raises:
      DataError: the iteration was begun on other data.
    """
    state = directory.load_progress(search.task)
    if state is None:
        return
    if search.can_restore(state):
        # Iterations that an earlier version began say nothing of their data.
        begun_on = state.get("data")
        if begun_on is not None:
            before = fingerprint_lib.DataFingerprint.from_json(
                begun_on["fingerprint"]
            )
            fingerprint_lib.refuse_other_data(
                search.task, (begun_on["class_names"], before), data
            )
        search.restore(state)
    else:
        directory.clear_progress(search.task)


def _chosen(
    search: evolution.TaskIteration,
    directory: system_dir.SystemDir,
    newest: Callable[[], population_lib.Population | None],
    choose: Callable[[], _Chosen],
    tasks: Callable[[_Chosen], set[str]],
) -> _Chosen:
    """Returns what is chosen from the newest living paths.

    It is chosen again while the record of a task that it came from turns out
    to be another: the objects of a path that was replaced may be gone.

    Args:
      search: the iteration.
      directory: of the system; no object is collected meanwhile.
      newest: as `run` takes it.
      choose: returns the same for the same living paths.
      tasks: returns the tasks that a choice relies on.
    """
    while True:
        population = newest()
        if population is not None:
            search.renew(population)
        chosen = choose()
        other_tasks = tasks(chosen) - {search.task, specs.NOT_TRAINABLE}
        if not directory.records.look_at(sorted(other_tasks)):
            return chosen


def _rank(
    search: evolution.TaskIteration,
    data: types.TaskData,
    directory: system_dir.SystemDir,
    crew: executor.Executor,
    settings: settings_lib.Settings,
    progress: Progress,
    newest: Callable[[], population_lib.Population | None],
) -> None:
    """Ranks the paths of other tasks for a search that needs it."""
    with directory.naming():
        paths = _chosen(
            search,
            directory,
            newest,
            lambda: search.unranked,
            lambda paths: {path.task for path in paths},
        )
        if not paths:
            return
        directory.use(
            search.task, [ref.id for p in paths for ref in p.components]
        )
    started = time.perf_counter()
    heads = crew.heads(paths, data)
    secs = time.perf_counter() - started
    of_path = {path.id: head for path, head in zip(paths, heads, strict=True)}
    search.rank({key: head.quality for key, head in of_path.items()})
    ranked = [p for p in search.seeds if p.id in of_path]
    ranking = [
        {"path_id": p.id, "task": p.task, "accuracy": of_path[p.id].accuracy}
        for p in ranked
    ]
    scores_text = ", ".join(
        f"{'root' if p.task == specs.NOT_TRAINABLE else p.task} "
        f"{of_path[p.id].quality:.3f}"
        for p in ranked
    )
    quality = data.target.quality_of(settings.search.quality, search.task)
    quality = quality.replace("_", " ")
    consequence = ""
    if search.finetunes_all:
        consequence = "; every component is trained"
    elif search.finetunes_third:
        consequence = "; the upper third is trained"
    progress.line(
        f"{search.task}: a linear head on the frozen features of {scores_text} "
        f"(validation {quality}, {secs:.1f} s){consequence}"
    )
    progress.event(
        "ranked",
        task=search.task,
        iteration=search.iteration,
        num_train_examples=min(len(data.train), closed_form.NUM_EXAMPLES_MAX),
        paths=ranking,
        ranking_secs=round(secs, 3),
    )


def _store(
    plan: plan_lib.GenerationPlan,
    trained: Sequence[child_job.TrainedChild],
    directory: system_dir.SystemDir,
    settings: settings_lib.Settings,
) -> tuple[list[plan_lib.ChildResult], list[dict[str, Any]]]:
    """Stores what improved; returns results, and children of the event."""
    results, reports = [], []
    firsts = duplicates.first_indices(plan)
    for child, result in zip(plan.children, trained, strict=True):
        improved = result.quality is not None
        refs: tuple[specs.ComponentRef, ...] = ()
        if improved:
            refs = tuple(
                directory.objects.put(
                    _stored(result.components[part.spec.name], settings)
                )
                if part.is_new
                else part.known_source()
                for part in child.components
            )
        first = firsts[child.index]
        record = dataclasses.replace(
            child.record,
            quality=result.quality,
            duplicate_of=None if first == child.index else first,
        )
        results.append(plan_lib.ChildResult(child.index, result.quality, refs))
        reports.append(
            {
                "index": child.index,
                "parent": child.parent.id,
                "parent_task": child.parent.task,
                "num_layers": child.hparams["num_layers"],
                "hparams": dict(child.hparams),
                "components": [part.spec.name for part in child.components],
                "trained": [
                    part.spec.name
                    for part in child.components
                    if part.trainable
                ],
                "scores": [_finite(score) for score in result.scores],
                "losses": [_finite(loss) for loss in result.losses],
                "score": max(
                    (s for s in result.scores if s == s), default=None
                ),
                "improved": improved,
                child_record.KEY: record.to_json(),
            }
        )
    return results, reports


def _source_tasks(plan: plan_lib.GenerationPlan) -> set[str]:
    """Returns the tasks whose objects a generation starts from."""
    return {
        part.source_task
        for child in plan.children
        for part in child.components
        if part.source_task is not None
    }


def _sources(plan: plan_lib.GenerationPlan) -> Iterator[str]:
    """Yields the ids of all objects that a generation starts from."""
    for child in plan.children:
        for part in child.components:
            if part.source is not None:
                yield part.source.id


def _stored(
    component: specs.Component, settings: settings_lib.Settings
) -> specs.Component:
    """Returns what is stored of a trained component.

    Only v2 hands the momentum on to clones, so only v2 keeps it.
    """
    if settings.search.version == "mu2net":
        return component
    return dataclasses.replace(component, momentum=None)


def _finite(value: float) -> float | None:
    """Returns `value`, or None where JSON could not hold it."""
    return value if abs(value) < float("inf") else None
