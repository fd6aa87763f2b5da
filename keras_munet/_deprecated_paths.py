"""Forwards imports of what moved or was renamed, with a warning, until 0.3.

Invariant: an old path gives the very module of its new path, never a second
copy, and warns once a process.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

_NAME = "keras_munet"
_SourceFileLoader = importlib.machinery.SourceFileLoader
# Old path -> new path, below keras_munet; of a package, its modules too.
MOVED = {
    "agents": "jobs.agents",
    "comparison": "compare",
    "core.canonical": "core.canonical_json",
    "core.eight_bits": "core.int8",
    "core.family": "core.architecture",
    "core.plain": "core.config_parsing",
    "crew": "system.executor",
    "data.array_files": "data.tfds.array_files",
    "data.catalogue": "data.tfds.catalogue",
    "data.catalogue_sources": "data.tfds.catalogue_sources",
    "data.digits": "data.builtin.digits",
    "data.distortion": "data.builtin.distortion",
    "data.glyphs": "data.builtin.glyphs",
    "data.own_examining": "data.own.scan",
    "data.own_images": "data.own.images",
    "data.own_layout": "data.own.layout",
    "data.own_notices": "data.own.notices",
    "data.own_pairs": "data.own.pairs",
    "data.own_preparing": "data.own.prepare",
    "data.own_reading": "data.own.reading",
    "data.own_requests": "data.own.requests",
    "data.own_sources": "data.own.sources",
    "data.own_store": "data.own.store",
    "data.own_tasks": "data.own.tasks",
    "data.places": "data.folders",
    "data.records": "data.types",
    "data.storage": "data.image_storage",
    "data.tfds_arrays": "data.tfds.arrays",
    "data.tfds_builders": "data.tfds.builders",
    "data.tfds_guard": "data.tfds.guard",
    "data.tfds_offline": "data.tfds.offline",
    "data.tfds_reading": "data.tfds.reading",
    "data.tfds_tasks": "data.tfds.tasks",
    "export.canary": "export.golden_outputs",
    "export.card": "export.model_card",
    "export.folders": "export.output_dir",
    "export.lite": "export.tflite",
    "export.pool": "export.weight_buffer",
    "export.served": "export.serving_functions",
    "functional": "models.keras_blocks",
    "functional.family": "models.keras_blocks.architecture",
    "functional.initial": "models.keras_blocks.initializers",
    "graph": "models",
    "graph.builder": "models.path_model",
    "graph.nodes": "models.layer_factory",
    "inference": "system.inference",
    "iteration": "system.task_iteration",
    "living": "system.population_view",
    "opened": "system.system",
    "overparam.arguments": "overparam.validation",
    "overparam.camvid": "overparam.experiments.datasets.camvid",
    "overparam.coco": "overparam.experiments.datasets.coco",
    "overparam.dense_data": "overparam.experiments.datasets.dense_data",
    "overparam.detection": "overparam.experiments.detection",
    "overparam.detection_metrics": "overparam.experiments.detection_metrics",
    "overparam.experiment_settings": "overparam.experiments.settings",
    "overparam.first_values": "overparam.initializers",
    "overparam.metrics": "overparam.experiments.metrics",
    "overparam.networks": "overparam.experiments.networks",
    "overparam.nyuv2": "overparam.experiments.datasets.nyuv2",
    "overparam.resnet": "overparam.experiments.resnet",
    "overparam.rewriting": "overparam.model_transform",
    "overparam.room_furniture": "overparam.experiments.datasets.room_furniture",
    "overparam.room_geometry": "overparam.experiments.datasets.room_geometry",
    "overparam.rooms": "overparam.experiments.datasets.rooms",
    "overparam.rooms_data": "overparam.experiments.datasets.rooms_data",
    "overparam.running": "overparam.fit",
    "overparam.segnet": "overparam.experiments.segnet",
    "overparam.sources": "overparam.experiments.datasets.sources",
    "overparam.tasks": "overparam.experiments.tasks",
    "overparam.unpooling": "overparam.experiments.unpooling",
    "pods": "jobs.tpu_pod",
    "pods.parcel": "jobs.tpu_pod.source_archive",
    "predictions": "report.measure_predictions",
    "preflight": "system.validation",
    "pretraining": "roots.pretraining",
    "progress": "callbacks.progress",
    "registration": "_keras_registration",
    "rehearsal": "aot.tracing",
    "report.baselines": "report.comparison_points",
    "report.comparison": "compare",
    "report.comparison.records": "report.comparison_records",
    "report.comparison.statistics": "compare.significance",
    "report.comparison.wording": "compare.statements",
    "report.formats": "report.formatting",
    "report.markup": "report.html_elements",
    "report.payload": "report.page_data",
    "report.points": "report.history_table",
    "report.wording": "report.phrases",
    "restarts": "jobs.supervisor",
    "roots.archive": "data.npz_reader",
    "roots.augreg": "roots.augreg_names",
    "roots.checkpoint": "roots.saved_model_variables",
    "roots.strict": "roots.vit_loader",
    "search.autotune": "search.hparam_ranges",
    "search.breeding": "search.child_factory",
    "search.draws": "search.random_draws",
    "search.extensions": "search.plugins",
    "store.checking": "store.check",
    "store.collecting": "store.garbage_collection",
    "store.comparison": "store.settings_diff",
    "store.gcs_bucket": "store.gcs.bucket",
    "store.gcs_files": "store.gcs.files",
    "store.gcs_locks": "store.gcs.locks",
    "store.interface": "store.storage",
    "store.merging": "store.merge",
    "store.repairing": "store.repair",
    "store.running": "store.progress_files",
    "store.sealed": "store.checksummed_json",
    "store.task_records": "store.task_record_cache",
    "task_data": "system.task_data",
    "tensorboard": "callbacks.tensorboard_callback",
    "terminal": "callbacks.progress_bar",
    "train.answers": "train.losses",
    "train.borrowed": "train.generation_base",
    "train.child_program": "train.distributed.child_program",
    "train.clock": "train.timing",
    "train.cluster": "train.devices.cluster",
    "train.coordinator": "train.distributed.coordinator",
    "train.dataflow": "train.layerwise.task_graph",
    "train.factors": "train.weight_factors",
    "train.features": "train.layerwise.feature_cache",
    "train.generation": "train.graph.generation",
    "train.graph_steps": "train.graph.steps",
    "train.halves": "train.layerwise.layer_functions",
    "train.jobs": "train.child_job",
    "train.kinds": "train.layerwise.layer_signature",
    "train.layer_steps": "train.layerwise.steps",
    "train.placement": "train.devices.placement",
    "train.places": "train.layerwise.layer_plan",
    "train.precision": "train.matmul_precision",
    "train.rewrites": "train.grappler",
    "train.shares": "train.devices.replica_inputs",
    "train.slices": "train.distributed.sliced_trainer",
    "train.slots": "train.layer_pool",
    "train.stems": "train.layerwise.shared_prefix",
    "train.strategy": "train.devices.strategy",
    "train.structures": "train.generation_structure",
    "train.synthetic": "train.devices.fake_tpu",
    "train.threads": "train.devices.cpu_threads",
    "train.topology": "train.devices.topology",
    "train.workers": "train.devices.workers",
    "twins": "system.duplicates",
    "vit": "models.vit",
    "vit.compiled": "models.vit.xla_ops",
    "vit.family": "models.vit.architecture",
    "vit.initial": "models.vit.initializers",
    "vit.multiply_adds": "models.vit.flops",
    "vit.quantizing": "models.vit.quantization",
    "vit.resample": "models.vit.position_embedding",
}
# Module -> its names of 0.1 that the documentation gave -> today's.
RENAMED = {
    "search.hparam_ranges": {"ranges": "ranges_in_force"},
    "search.random_draws": {"Draws": "RandomDraws"},
    "search.scoring": {"Facts": "ScoreInputs"},
    "train.devices.cpu_threads": {"share_cores": "divide_cores"},
    "train.devices.strategy": {"make": "make_strategy"},
}
# `from keras_munet.vit import family` looks for it below the new package.
_ALL = {
    **MOVED,
    **{
        f"{MOVED[package]}.{name}": new
        for package, _, name, new in (
            (*old.rpartition("."), new) for old, new in MOVED.items()
        )
        if package in MOVED
    },
}


def install() -> None:
    """Has `import` find modules at their old paths."""
    # Before the finder of files, which would load a second copy of a module
    # below an old package.
    sys.meta_path.insert(0, _Finder())


def new_path(old: str) -> str | None:
    """Returns the full new path of a full old one; None if it never moved."""
    package, _, path = old.partition(".")
    if package != _NAME:
        return None
    head, tail = path, ""
    while head and head not in _ALL:
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return f"{_NAME}.{_ALL[head]}{tail}" if head else None


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[2] in RENAMED:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec and isinstance(spec.loader, _SourceFileLoader):
                spec.loader = _RenamedLoader(spec.loader.name, spec.loader.path)
            return spec
        new = new_path(fullname)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(new))


class _RenamedLoader(_SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        vars(module)["__getattr__"] = functools.partial(_renamed, module)


def _renamed(module: types.ModuleType, old: str) -> Any:
    """Returns what `old` is called today in a module."""
    names = RENAMED[module.__name__.partition(".")[2]]
    if old not in names:
        raise AttributeError(
            f"module {module.__name__!r} has no attribute {old!r}"
        )
    warnings.warn(
        f"{module.__name__}.{old} is now {names[old]}; the old name is removed "
        "in 0.3",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(module, names[old])


class _Loader(importlib.abc.Loader):
    def __init__(self, new: str):
        self._new = new

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__
        warnings.warn(
            f"{old} is now {self._new}; the old path is removed in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        # What `import` returns is what stands here when it is done.
        sys.modules[old] = importlib.import_module(self._new)
