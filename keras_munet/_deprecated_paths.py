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
    "overparam.losses": "overparam.experiments.losses",
    "overparam.metrics": "overparam.experiments.metrics",
    "overparam.networks": "overparam.experiments.networks",
    "overparam.nyuv2": "overparam.experiments.datasets.nyuv2",
    "overparam.resnet": "overparam.experiments.resnet",
    "overparam.rewriting": "overparam.model_transform",
    "overparam.segnet": "overparam.experiments.segnet",
    "overparam.sources": "overparam.experiments.datasets.sources",
    "overparam.tasks": "overparam.experiments.tasks",
    "overparam.unpooling": "overparam.experiments.unpooling",
    "overparam.weighting": "overparam.experiments.weighting",
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
    "train.clock": "train.timing",
    "train.cluster": "train.devices.cluster",
    "train.coordinator": "train.distributed.coordinator",
    "train.dataflow": "train.layerwise.task_graph",
    "train.factors": "train.weight_factors",
    "train.features": "train.layerwise.feature_cache",
    "train.halves": "train.layerwise.layer_functions",
    "train.jobs": "train.child_job",
    "train.kinds": "train.layerwise.layer_signature",
    "train.layer_steps": "train.layerwise.steps",
    "train.places": "train.layerwise.layer_plan",
    "train.precision": "train.matmul_precision",
    "train.rewrites": "train.grappler",
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
# Module -> its public names of 0.1 -> today's.
RENAMED = {
    "aot.bounds": {"bound": "program_bound"},
    "aot.chips": {"chip": "chip_of"},
    "aot.compiler": {"Place": "CoreCoordinates"},
    "aot.dry_run": {"Report": "DryRunReport", "run": "compile_program"},
    "aot.lowering": {"lower": "lower_program"},
    "callbacks.progress_bar": {"reporter": "make_reporter"},
    "callbacks.tensorboard_callback": {
        "command": "tensorboard_command",
        "folder_of": "log_folder",
        "require": "require_tensorboard",
    },
    "compare.markdown": {"render": "render_markdown"},
    "compare.page": {"render": "render_page"},
    "compare.plot": {"render": "render_plot"},
    "compare.results": {"read": "read_results"},
    "core.canonical_json": {"digest": "json_digest"},
    "core.classification_metrics": {"measure": "measure_classifier"},
    "core.config_parsing": {
        "converted": "convert_value",
        "mapping": "checked_mapping",
        "normalize": "normalize_fields",
        "record": "parse_record",
    },
    "core.fingerprint": {"difference": "data_difference"},
    "core.guarded_file": {
        "opened": "open_regular",
        "read": "read_file",
        "shown": "show",
    },
    "core.guarded_json": {"nesting": "nesting_depth"},
    "core.int8": {"quantized": "quantize_kernel"},
    "core.plugins": {
        "checked": "plugins_by_name",
        "installed": "installed_plugins",
        "naming": "name_errors",
    },
    "core.presets": {
        "recorded": "recorded_settings",
        "resolved": "resolve_preset",
    },
    "core.unfinished": {"writer": "new_writer_id"},
    "data.builtin.digits": {"load": "load_digits"},
    "data.builtin.glyphs": {"load": "load_glyphs"},
    "data.fingerprints": {"digest": "digest_split"},
    "data.input_share": {"text": "share_text"},
    "data.own.layout": {"read": "read_layout"},
    "data.own.prepare": {"prepare": "prepare_task"},
    "data.own.reading": {"load": "load_arrays"},
    "data.own.store": {"load": "load_task"},
    "data.own.tasks": {"build": "build_data"},
    "data.tfds.array_files": {"digest": "file_digest"},
    "data.tfds.arrays": {"load": "load_parts", "prepare": "prepare_parts"},
    "data.tfds.offline": {"prepare": "prepare_data_set"},
    "data.tfds.reading": {"read": "read_examples"},
    "data.tfds.tasks": {"load": "load_task", "prepare": "prepare_task"},
    "export.model_card": {"text": "card_text"},
    "export.saved_model_reader": {"load": "load_saved_model"},
    "export.warmup": {"write": "write_warmup"},
    "export.weight_buffer": {"Place": "Offsets"},
    "jobs.supervisor": {"Restarts": "Supervisor"},
    "jobs.tpu_pod.control": {"Control": "PodControl"},
    "jobs.tpu_pod.remote": {
        "environment": "tpu_environment",
        "logs": "logs_command",
        "setup": "setup_command",
        "start": "start_command",
        "status": "status_command",
        "stop": "stop_command",
    },
    "jobs.tpu_pod.source_archive": {"make": "write_archives"},
    "models.keras_blocks.layers": {"template": "block_template"},
    "models.keras_blocks.slicing": {"blocks": "cut_blocks"},
    "models.layer_factory": {
        "assign": "assign_values",
        "unbuilt": "unbuilt_layer",
        "values": "layer_values",
    },
    "models.path_model": {
        "accepted": "as_layer_input",
        "build": "build_model",
        "check": "check_layers",
        "narrowed": "class_token_flags",
        "narrowing": "call_options",
    },
    "models.vit.flops": {
        "forward": "forward_costs",
        "training": "training_cost",
    },
    "models.vit.functions": {"apart": "noinline"},
    "models.vit.keras_state": {"shielded": "default_keras_state"},
    "models.vit.variants": {"names": "plain_names"},
    "overparam.experiments.datasets.camvid": {"load": "load_camvid"},
    "overparam.experiments.datasets.coco": {"load": "load_coco"},
    "overparam.experiments.datasets.nyuv2": {"load": "load_nyuv2"},
    "overparam.experiments.datasets.sources": {"load": "load_source"},
    "overparam.experiments.metrics": {"make": "make_metric"},
    "overparam.experiments.run": {"measure": "measure_network"},
    "report.comparison_points": {"read": "read_points"},
    "report.events": {"read": "read_history"},
    "report.formatting": {"kind": "work_type"},
    "report.measure_predictions": {"measure": "measure_predictions"},
    "report.page": {"render": "render_page"},
    "report.page_data": {"build": "build_page_data"},
    "report.plain_text": {"render": "render_text"},
    "report.plotly_js": {"digest": "script_digest"},
    "report.predictions": {
        "read": "read_predictions",
        "write": "write_predictions",
    },
    "report.sharing": {"Place": "Slot"},
    "report.summary": {"read": "read_summary"},
    "roots.inspection": {"text": "root_text"},
    "roots.pretraining.characters": {"load": "load_characters"},
    "roots.vit_loader": {"load": "load_vit"},
    "search.baselines": {"of": "parse_baseline"},
    "search.child_factory": {"Breeder": "ChildFactory"},
    "search.hparam_ranges": {
        "nearby": "neighbours",
        "ranges": "ranges_in_force",
    },
    "search.mutations": {"mutate": "mutate_hparams"},
    "search.plugins": {"load": "load_plugins", "mutate": "apply_mutations"},
    "search.random_draws": {"Draws": "RandomDraws"},
    "search.sampling": {
        "parent": "sample_parent",
        "rank": "rank_paths",
        "take": "first_passing",
    },
    "search.scoring": {"Facts": "ScoreInputs"},
    "store.archive_format": {
        "members": "read_members",
        "refused": "archive_error",
    },
    "store.check": {
        "broken_rules": "record_problems",
        "problems": "find_problems",
    },
    "store.creation": {"create": "create_system", "locked": "creation_lock"},
    "store.event_log": {"append": "append_lines", "lines": "read_lines"},
    "store.files": {
        "LocalFiles": "LocalStorage",
        "Place": "Location",
        "at": "open_storage",
        "local_only": "require_local",
    },
    "store.garbage_collection": {"collect": "collect_garbage"},
    "store.gcs.bucket": {"Found": "ObjectInfo", "parse": "parse_url"},
    "store.gcs.files": {"GcsFiles": "GcsStorage"},
    "store.layout": {"Progress": "ProgressRecord"},
    "store.leases": {"Job": "JobLeases", "jobs": "list_jobs"},
    "store.local_lock": {"take": "acquire_lock"},
    "store.os_errors": {"named": "as_store_errors", "shown": "show"},
    "store.progress_files": {
        "encode": "encode_progress",
        "load": "load_progress",
        "used": "used_object_ids",
    },
    "store.storage": {"Files": "Storage", "wait_for": "wait_for_lock"},
    "system.executor": {"Crew": "Executor", "make": "make_executor"},
    "system.population_view": {"read": "read_population"},
    "system.task_iteration": {"measure": "measure_path"},
    "train.batches": {
        "Ahead": "Prefetcher",
        "counted": "evaluation_batches",
        "num_ahead": "num_prefetched",
        "shuffled": "shuffled_indices",
    },
    "train.child_job": {"fullest": "largest_child"},
    "train.closed_form": {"solve": "solve_head"},
    "train.devices.cluster": {
        "connect": "connect_coordinator",
        "serve": "serve_worker",
        "workers_of": "parse_workers",
    },
    "train.devices.cpu_threads": {"share_cores": "divide_cores"},
    "train.devices.strategy": {
        "make": "make_strategy",
    },
    "train.devices.topology": {
        "named": "named_topology",
    },
    "train.devices.workers": {
        "described": "error_to_json",
        "failure": "error_from_json",
        "of": "strategy_workers",
    },
    "train.frozen_features": {"logits": "path_logits", "read": "read_features"},
    "train.generation_structure": {"Structure": "GenerationStructure"},
    "train.grappler": {"plain_graphs": "disable_grappler"},
    "train.layer_pool": {"Slot": "PooledLayer", "SlotPool": "LayerPool"},
    "train.layerwise.feature_cache": {
        "Features": "FeatureCache",
        "OfBatch": "BatchFeatures",
    },
    "train.layerwise.generation": {"Part": "BatchSums"},
    "train.layerwise.layer_functions": {
        "Call": "TracedCall",
        "Halves": "ForwardBackward",
    },
    "train.layerwise.layer_plan": {
        "Place": "PlannedLayer",
        "cut": "split_at_trained",
        "places": "planned_layers",
        "prefixes": "prefix_keys",
    },
    "train.layerwise.layer_signature": {"Kind": "LayerSignature"},
    "train.layerwise.shared_prefix": {"Stems": "SharedPrefixes"},
    "train.layerwise.task_graph": {
        "Dataflow": "TaskGraph",
        "Promise": "Future",
    },
    "train.losses": {
        "losses": "cross_entropy",
        "right": "num_correct",
        "scored": "scored_outputs",
    },
    "train.matmul_precision": {
        "Products": "MatmulPrecision",
        "products": "choose_precision",
    },
    "train.memory": {
        "Need": "MemoryNeed",
        "bytes_of": "joint_bytes",
        "need": "child_need",
        "passes": "divide_into_passes",
    },
    "train.schedules": {"rates": "rate_table"},
    "train.weight_factors": {"Layout": "FactorLayout"},
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
        package, _, name = fullname.partition(".")
        if package == _NAME and name in RENAMED:
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
