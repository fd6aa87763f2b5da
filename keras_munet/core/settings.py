"""Everything that defines an experiment, checked once, then frozen.

Invariant: settings that compare equal give the same population. Where data
lie on this machine is not part of an experiment: `to_json` leaves it out.
The keys are the method's own names; section 3 gives the published values.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_munet import errors
from keras_munet.core import class_weights
from keras_munet.core import config_parsing
from keras_munet.core import names

VERSIONS = ("munet", "mu2net")
# `published` is the table of the version.
AUTO_TUNES = ("published", "off", "v1", "v2")
DRAWS = ("stratified", "independent")
COMPUTE_DTYPES = ("auto", "float32", "bfloat16")
# Which new components may be trained as products of factors.
FACTORIZED = ("adapter", "head")
# The method's own way, where a plug-in may be named instead.
PARENT_POLICY = "decay"
SCORER = "size_penalty"
ADAPTER = "residual"
# What an experiment had that was recorded before the key was there.
LATER_KEYS: dict[str, Any] = {
    "compute_dtype": "float32",
    "factorized": [],
    "factor_depth": 1,
    "preset": "",
    "hparams": {
        "opt_name": "sgd",
        "opt_weight_decay": 0.0,
        "opt_label_smoothing": 0.0,
        "ds_shift": 0.0,
        "ds_zoom": 0.0,
        "ds_mixup": 0.0,
    },
    "data": {"antialias": False, "class_weights": class_weights.NONE},
    "search": {
        "mutations": [],
        "parent_policy": PARENT_POLICY,
        "scorer": SCORER,
        "adapter": ADAPTER,
        "first_data": "mutated",
        "first_child": "mutated",
        "quality": "accuracy",
        "data_mu": None,
        "data_draws": "generation",
        "stop_patience": 0,
        "stop_when_solved": False,
        "probe_child": False,
        "rank_parents": "sampled",
        "finetune_all_below": 0.0,
        "finetune_third_above": 0.0,
    },
}
# Policies with a number behind a colon, e.g. `adapters:16`.
NUMBERED_POLICIES = ("freeze_bottom_layers", "adapters")
POLICIES = ("evolve", "finetune_all", "linear_probe", *NUMBERED_POLICIES)

# Section 3, "Published experiment configurations".
DEFAULT_HPARAMS: dict[str, Any] = {
    "mu": 0.2,
    "adapter_dim": 32,
    "opt_name": "sgd",
    "opt_lr": 0.01,
    "opt_lr_schedule": "cosine",
    "opt_lr_warmup_ratio": 0.1,
    "opt_momentum": 0.9,
    "opt_nesterov": False,
    "opt_weight_decay": 0.0,
    "opt_label_smoothing": 0.0,
    "ds_crop": True,
    "ds_flip_left_right": True,
    "ds_area_range_min": 0.05,
    "ds_aspect_ratio_range_min": 0.75,
    "ds_shift": 0.0,
    "ds_zoom": 0.0,
    "ds_mixup": 0.0,
    "ds_brightness_delta": 0.0,
    "ds_contrast_delta": 0.0,
    "ds_saturation_delta": 0.0,
    "ds_hue_delta": 0.0,
}
# Lowest and highest value of each number among them.
HPARAM_BOUNDS: dict[str, tuple[float, float]] = {
    "mu": (0.0, 1.0),
    "num_layers": (0, 1_000),
    "adapter_dim": (1, 65_536),
    "opt_lr": (0.0, 1_000.0),
    "opt_lr_warmup_ratio": (0.0, 1.0),
    "opt_momentum": (0.0, 1.0),
    "opt_weight_decay": (0.0, 1.0),
    "opt_label_smoothing": (0.0, 0.9),
    "ds_image_size": (1, 4_096),
    "ds_area_range_min": (1e-4, 1.0),
    "ds_aspect_ratio_range_min": (1e-2, 1.0),
    "ds_shift": (0.0, 0.5),
    "ds_zoom": (0.0, 0.5),
    "ds_mixup": (0.0, 0.5),
    "ds_brightness_delta": (0.0, 1.0),
    "ds_contrast_delta": (0.0, 1.0),
    "ds_saturation_delta": (0.0, 1.0),
    "ds_hue_delta": (0.0, 0.5),
}
# Lowest and highest value of every other number: beyond the largest published
# experiment, and small enough that no file of a stranger takes all memory.
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (-(2**63), 2**63 - 1),
    # A job lists the task iterations that are left.
    "num_task_iters": (1, 100_000),
    "num_samples_per_task": (0, 1_000_000),
    "children_per_generation": (0, 10_000),
    "num_validations_per_path_training": (0, 100_000),
    "batch_size": (1, 65_536),
    "num_train_examples_between_validations_max": (0, 10**12),
    "num_validation_examples_max": (1, 10**12),
    "factor_depth": (1, 16),
    "search.mutation_prob": (0.0, 1.0),
    "search.data_mu": (0.0, 1.0),
    "search.stop_patience": (0, 1_000_000),
    "search.finetune_all_below": (0.0, 1.0),
    "search.finetune_third_above": (0.0, 1.0),
    "search.score_base": (0.0, 1.0),
    "search.score_num_params": (0, 10**12),
    "root.num_layers": (-1, 1_000),
    "root.image_size": (1, 4_096),
    "root.seed": (-(2**63), 2**63 - 1),
    "root.pixel_min": (-1e6, 1e6),
    "root.pixel_max": (-1e6, 1e6),
}
# Every path shape that a range reaches is laid out before a job begins.
NUM_STEPS_MAX = 1_000
OPTIMIZERS = ("sgd", "adamw")
AUTO_PRESET = "auto"
PRESETS = ("", AUTO_PRESET, "small", "medium", "large")
# The numbers that a preset fills where they are 0; see `core.presets`.
PRESET_KEYS = (
    "num_samples_per_task",
    "children_per_generation",
    "num_validations_per_path_training",
    "num_train_examples_between_validations_max",
)
FIRSTS = ("mutated", "config")
DATA_DRAWS = ("generation", "half")
RANK_PARENTS = ("sampled", "probe")
_NUM_PATTERN_CHARS_MAX = 200
# Of `force_finetune_components`: all, and the last of a path's places.
ALL_PLACES = "*"
UPPER_HALF = "upper_half"
UPPER_THIRD = "upper_third"
SCHEDULES = ("constant", "cosine", "restarts")
# The value of `root.num_layers` that keeps every block.
ALL_LAYERS = -1
# Hyperparameters whose first value comes from the root, not from a default.
ROOT_HPARAMS = ("num_layers", "ds_image_size")


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Sets how children are made and scored.

    Attributes:
      version: `munet` (v1) or `mu2net` (v2).
      policy: `evolve`, or a baseline that trains the root once per task on
        the same budget: `finetune_all`, `linear_probe`,
        `freeze_bottom_layers:K` or `adapters:D`.
      draws: `independent` mutations, as published, or `stratified` ones of
        the same probabilities that spread evenly; see `search.draws`.
      auto_tune: which table of hyperparameter ranges mutates: `published`
        (v1 for `munet`, v2 for `mu2net`), `v1`, `v2` or `off`.
      mutation_prob: the mutation probability of `munet`; `mu2net` uses the
        path's own `mu`.
      mutate_adapters: whether adapters may be inserted.
      remove_adapters: whether they may be removed again.
      force_finetune_components: places that are always cloned, by regular
        expressions of their whole names; `*` stands for all and `upper_half`
        for the second half of a path's components, the head last.
      score_base: score = quality * score_base ** relative size, in (0, 1].
      score_num_params: parameters that make a relative size of 1; 0 for the
        root's own.
      mutations: what changes a child, in order: plug-ins and the method's own
        `hyperparameters`, `adapters`, `clones`; those of the method that are
        not named come first. See docs/plugins.md for these and the next three.
      parent_policy: how parents are chosen: `decay` or a plug-in.
      scorer: what quality is multiplied by: `size_penalty` or a plug-in.
      adapter: the layer in front of a block: `residual` or a plug-in.
      first_data: the data hyperparameters of a task's first generation:
        `mutated` ones, as published, or those of the `config`.
      first_child: a task's first child: `mutated`, as published, or an
        unmutated clone with the hyperparameters of the `config`, or of the
        path of another task that it starts from.
      quality: the measure on validation data that decides snapshots, parents,
        publication and the stop rules: `accuracy`, as published,
        `balanced_accuracy`, `macro_f1`, `auc`, `log_loss`, whose quality is
        exp(-log loss), or a plug-in.
      data_mu: the mutation probability of data hyperparameters; None for
        `hparams.mu` of `mu2net` and `mutation_prob` of `munet`.
      data_draws: which children share drawn data hyperparameters: those of a
        `generation`, as published, or those of each `half` of it.
      stop_patience: generations without a better best score after which a
        task iteration ends; 0 for never, as published.
      stop_when_solved: whether a task iteration ends once the best path has
        at most one validation example wrong.
      probe_child: whether the first generation of a task iteration has one
        more child, which trains nothing: it shares a path's components (the
        root's, or those of the path that ranks first) below a head that is
        solved in closed form. So no task's score is below a linear probe's.
      rank_parents: how paths of other tasks become parents: `sampled` in an
        order by chance, as published, or ranked by a closed-form `probe` on
        the task's own images.
      finetune_all_below: where no path that was ranked (with `sampled`, the
        root) reaches so high a validation accuracy below a solved head, every
        component of a child is trained; 0.0 for never. It is meant for ten
        classes: for K of them it is raised to the power of log10(K).
      finetune_third_above: where one reaches this, `upper_half` is the upper
        third; 0.0 for never.
    """

    version: str = "mu2net"
    policy: str = "evolve"
    draws: str = "stratified"
    auto_tune: str = "published"
    mutation_prob: float = 0.1
    mutate_adapters: bool = False
    remove_adapters: bool = False
    force_finetune_components: tuple[str, ...] = ("encoder_norm",)
    score_base: float = 1.0
    score_num_params: int = 0
    mutations: tuple[str, ...] = ()
    parent_policy: str = PARENT_POLICY
    scorer: str = SCORER
    adapter: str = ADAPTER
    first_data: str = "mutated"
    first_child: str = "mutated"
    quality: str = "accuracy"
    data_mu: float | None = None
    data_draws: str = "generation"
    stop_patience: int = 0
    stop_when_solved: bool = False
    probe_child: bool = False
    rank_parents: str = "sampled"
    finetune_all_below: float = 0.0
    finetune_third_above: float = 0.0

    def __post_init__(self):
        config_parsing.normalize_fields(self, "search.")
        _check_numbers(self, "search.")
        for pattern in self.force_finetune_components:
            _check_pattern(pattern)

    def forces(self, slot: str, places: Sequence[str]) -> bool:
        """Returns whether the component at a place is always cloned.

        Args:
          slot: its name.
          places: the names of all components of the path, input first.
        """
        upper = {
            UPPER_HALF: places[-(-len(places) // 2) :],
            UPPER_THIRD: places[2 * len(places) // 3 :],
        }
        return any(
            pattern == ALL_PLACES
            or slot in upper.get(pattern, ())
            or re.fullmatch(pattern, slot)
            for pattern in self.force_finetune_components
        )

    @property
    def auto_tune_table(self) -> str:
        """The table in force: `off`, `v1` or `v2`."""
        if self.auto_tune == "published":
            return "v1" if self.version == "munet" else "v2"
        return self.auto_tune

    @property
    def policy_parts(self) -> tuple[str, int | None]:
        """The policy's name and its number; None where it takes none."""
        name, colon, number = self.policy.partition(":")
        return name, int(number) if colon else None


@dataclasses.dataclass(frozen=True)
class RootSettings:
    """Names the source of the first components.

    Attributes:
      source: `random`, `packaged`, `npz`, `hub`, `hf`, `keras_hub`, `keras`,
        `keras_applications` or a plug-in; `SOURCE:PATH` gives `path` too.
      variant: the ViT's name, e.g. `Ti/16`, for `random`; `npz` and `hub`
        refuse another, and tell it from the file where this is empty.
      num_layers: how many blocks to keep; -1 keeps all.
      image_size: side of the square input, pixels.
      path: the file, folder, handle, query or preset of the other sources.
      seed: of the random initial values.
      blocks: for `keras`, a regular expression; layers with one match of
        their names become one component. Empty for one per layer.
      features: for `keras`, the layer that a head stands on; empty for the
        model's output.
      pixel_min: for `keras`, the value of a black pixel in the model's input.
      pixel_max: the same of a white one.

    Example:
      >>> RootSettings(source="npz:vit.npz").path
      'vit.npz'
    """

    source: str = "random"
    variant: str = "Ti/16"
    num_layers: int = -1
    image_size: int = 32
    path: str = ""
    seed: int = 0
    blocks: str = ""
    features: str = ""
    pixel_min: float = -1.0
    pixel_max: float = 1.0

    def __post_init__(self):
        config_parsing.normalize_fields(self, "root.")
        source, colon, path = self.source.partition(":")
        if colon:
            if self.path:
                raise errors.UsageError(
                    f"config key root.source is {self.source!r} and root.path "
                    f"{self.path!r}; give what follows the colon alone, or the "
                    "path alone"
                )
            object.__setattr__(self, "source", source)
            object.__setattr__(self, "path", path)
        _check_numbers(self, "root.")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Says where data lie on this machine and how images become inputs.

    Attributes:
      manual_dir: files laid out as `<dataset>/<config>/<file>`.
      data_dir: prepared TFDS data; empty for TFDS's own default. Several
        folders may be named with a comma between: all are read, the first is
        written to.
      antialias: whether an input pixel is the mean of all stored pixels that
        it covers; otherwise it is read between the nearest two, as published.
        Part of the experiment, unlike the folders.
      class_weights: weights of classes in the training loss, part of the
        experiment too: `none`, `auto` for the same sum of weights in each
        class, or weights by class name, kept as JSON text.
    """

    manual_dir: str = ""
    data_dir: str = ""
    antialias: bool = True
    class_weights: str | Mapping[str, float] = class_weights.NONE

    def __post_init__(self):
        config_parsing.normalize_fields(self, "data.")
        weights = class_weights.normalize(self.class_weights)
        object.__setattr__(self, "class_weights", weights)

    @property
    def hparams(self) -> dict[str, Any]:
        """The data hyperparameters that every path gets from here.

        Paths from before the setting have none, as those without it.
        """
        return {"ds_antialias": True} if self.antialias else {}

    def to_json(self) -> dict[str, Any]:
        """Returns what is part of the experiment, as plain JSON values."""
        return {
            "antialias": self.antialias,
            "class_weights": self.class_weights,
        }


_GROUPS: dict[str, type] = {
    "search": SearchSettings,
    "root": RootSettings,
    "data": DataSettings,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment.

    Attributes:
      seed: the root seed of every random choice.
      task_names: tasks in order; `private:` marks a private one.
      num_task_iters: rounds over all tasks.
      num_samples_per_task: children per task iteration.
      children_per_generation: children trained together.
      num_validations_per_path_training: cycles per child.
      batch_size: examples per training step, over all replicas.
      num_train_examples_between_validations_max: bound of one cycle.
      num_validation_examples_max: bound of one validation.
      compute_dtype: what training rounds the factors of products to; `auto`
        is bfloat16 where the device gains by it. Weights, sums and scores
        are float32.
      factorized: whose dense kernels are trained as products of factors and
        published as ordinary ones, `adapter`, `head` or both; see
        docs/overparam.md.
      factor_depth: how many square factors such a product has.
      preset: `small`, `medium` or `large` fills those of the numbers of
        samples, of children a generation, of validations and of examples
        between them that are 0; `auto` chooses by the tasks' data when the
        system is created. Empty where none is 0.
      search: how children are made and judged.
      root: where the first components come from.
      data: where data lie on this machine.
      hparams: first values of the hyperparameters.
      ranges: extra or replaced ranges, e.g. `num_layers: [0, 1, 2, 3]`.

    Example:
      >>> settings = Settings(task_names=("digits",), num_task_iters=1)
      >>> Settings.from_dict(settings.to_json()) == settings
      True
      >>> settings.num_generations
      4
    """

    seed: int = 0
    task_names: tuple[str, ...] = ()
    num_task_iters: int = 2
    num_samples_per_task: int = 32
    children_per_generation: int = 8
    num_validations_per_path_training: int = 4
    batch_size: int = 256
    num_train_examples_between_validations_max: int = 51_200
    num_validation_examples_max: int = 5_120
    compute_dtype: str = "auto"
    factorized: tuple[str, ...] = ()
    factor_depth: int = 1
    preset: str = ""
    search: SearchSettings = dataclasses.field(default_factory=SearchSettings)
    root: RootSettings = dataclasses.field(default_factory=RootSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    hparams: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: dict(DEFAULT_HPARAMS)
    )
    ranges: Mapping[str, tuple[Any, ...]] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self):
        _normalize(self)
        _check(self)

    @property
    def num_generations(self) -> int:
        """Generations per task iteration."""
        return -(-self.num_samples_per_task // self.children_per_generation)

    @property
    def num_layers_max(self) -> int | None:
        """The deepest path the search may make; None for the root's depth."""
        layers = self.ranges.get("num_layers")
        return max(layers) if layers else None

    def to_json(self) -> dict[str, Any]:
        """Returns the experiment as plain JSON values."""
        value = dataclasses.asdict(self)
        value["data"] = self.data.to_json()
        return _listed(value)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Settings:
        """Returns checked settings from nested plain values.

        Raises:
          UsageError: a key is unknown, or a value of the wrong kind or
            outside what is allowed.
        """
        return config_parsing.parse_record(
            cls, config_parsing.checked_mapping("", value), ""
        )


def _normalize(settings: Settings) -> None:
    """Converts what a caller gave to the types that the attributes have.

    Raises:
      UsageError: a key is unknown, or a value of the wrong kind or outside
        what is allowed.
    """
    config_parsing.normalize_fields(settings, "")
    for key, group in _GROUPS.items():
        value = getattr(settings, key)
        if not isinstance(value, group):
            record = config_parsing.parse_record(
                group, config_parsing.checked_mapping(key, value), f"{key}."
            )
            object.__setattr__(settings, key, record)
    hparams = dict(config_parsing.checked_mapping("hparams", settings.hparams))
    config_parsing.refuse_unknown("hparams.", hparams, DEFAULT_HPARAMS)
    hparams = {
        key: _hparam(key, hparams.get(key, default), f"hparams.{key}")
        for key, default in DEFAULT_HPARAMS.items()
    }
    ranges = dict(config_parsing.checked_mapping("ranges", settings.ranges))
    config_parsing.refuse_unknown(
        "ranges.", ranges, [*DEFAULT_HPARAMS, *ROOT_HPARAMS]
    )
    ranges = {key: _steps(key, steps) for key, steps in ranges.items()}
    object.__setattr__(settings, "hparams", hparams)
    object.__setattr__(settings, "ranges", ranges)


def _hparam(key: str, value: Any, label: str) -> Any:
    """Returns a hyperparameter's value if it is of its kind and bounds."""
    default = DEFAULT_HPARAMS.get(key, 0)
    value = config_parsing.convert_value(type(default).__name__, value, label)
    if key == "opt_lr_schedule":
        _one_of(label, value, SCHEDULES)
    if key == "opt_name":
        _one_of(label, value, OPTIMIZERS)
    low, high = HPARAM_BOUNDS.get(key, (value, value))
    if not low <= value <= high:
        raise errors.UsageError(
            f"config key {label} has the value {value}; it must lie between "
            f"{low} and {high}"
        )
    return value


def _steps(key: str, steps: Any) -> tuple[Any, ...]:
    """Returns the values of a range if each is of its kind and bounds."""
    if not isinstance(steps, (list, tuple)) or not steps:
        raise errors.UsageError(
            f"config key ranges.{key} is {steps!r}; it takes a list of the "
            "values in order"
        )
    if len(steps) > NUM_STEPS_MAX:
        raise errors.UsageError(
            f"config key ranges.{key} has {len(steps)} values; it may have at "
            f"most {NUM_STEPS_MAX}"
        )
    return tuple(_hparam(key, step, f"ranges.{key}") for step in steps)


def _check_numbers(group: Any, prefix: str) -> None:
    """Refuses a number of a group of settings that lies out of its bounds."""
    for field in dataclasses.fields(group):
        bounds = BOUNDS.get(prefix + field.name)
        if bounds is None:
            continue
        value = config_parsing.convert_value(
            str(field.type), getattr(group, field.name), prefix + field.name
        )
        if value is None:
            continue
        low, high = bounds
        # Not the other way round: NaN lies nowhere.
        if not low <= value <= high:
            raise errors.UsageError(
                f"config key {prefix}{field.name} is {value}; it must lie "
                f"between {low} and {high}"
            )


def _check(settings: Settings) -> None:
    _check_numbers(settings, "")
    _one_of("preset", settings.preset, PRESETS)
    for key in PRESET_KEYS:
        if not settings.preset and not getattr(settings, key):
            raise errors.UsageError(
                f"config key {key} is 0, which a preset fills; set it to at "
                f"least 1, or preset to one of {', '.join(PRESETS[1:])}"
            )
    bare = list(map(names.bare_name, settings.task_names))
    folded = [b.lower() for b in bare]
    for name in bare:
        if folded.count(name.lower()) > 1:
            raise errors.UsageError(
                f"task {name!r} is named twice in task_names; name it once"
            )
    search = settings.search
    _one_of("compute_dtype", settings.compute_dtype, COMPUTE_DTYPES)
    _check_factors(settings)
    _one_of("search.version", search.version, VERSIONS)
    _one_of("search.auto_tune", search.auto_tune, AUTO_TUNES)
    _one_of("search.draws", search.draws, DRAWS)
    _one_of("search.first_data", search.first_data, FIRSTS)
    _one_of("search.first_child", search.first_child, FIRSTS)
    _one_of("search.data_draws", search.data_draws, DATA_DRAWS)
    _one_of("search.rank_parents", search.rank_parents, RANK_PARENTS)
    _check_ranking(search)
    _check_policy(search.policy)
    if search.score_base == 0.0:
        raise errors.UsageError(
            "config key search.score_base is 0; it must be above 0 and at "
            "most 1"
        )


def _check_ranking(search: SearchSettings) -> None:
    if search.rank_parents == "sampled":
        return
    if search.version == "munet":
        raise errors.UsageError(
            "config key search.rank_parents is 'probe', and search.version "
            "'munet' starts from every path in turn; use 'sampled', or "
            "'mu2net'"
        )
    if search.parent_policy != PARENT_POLICY:
        raise errors.UsageError(
            "config key search.rank_parents is 'probe', and the plug-in "
            f"search.parent_policy {search.parent_policy!a} chooses parents; "
            f"use 'sampled', or the policy {PARENT_POLICY!r}"
        )


def _check_pattern(pattern: str) -> None:
    if pattern == ALL_PLACES:
        return
    try:
        if len(pattern) > _NUM_PATTERN_CHARS_MAX:
            raise re.error(f"longer than {_NUM_PATTERN_CHARS_MAX} characters")
        re.compile(pattern)
    except re.error as error:
        raise errors.UsageError(
            f"config key search.force_finetune_components has {pattern!r}, "
            f"which is no regular expression ({error}); name places such as "
            f"encoder_norm, {UPPER_HALF!r}, or {ALL_PLACES!r} for all"
        ) from error


def _check_factors(settings: Settings) -> None:
    for layer in settings.factorized:
        _one_of("factorized", layer, FACTORIZED)
        if settings.factorized.count(layer) > 1:
            raise errors.UsageError(
                f"{layer!r} is named twice in config key factorized; name it "
                "once"
            )


def _check_policy(policy: str) -> None:
    name, colon, number = policy.partition(":")
    if name in NUMBERED_POLICIES:
        # An adapter has a width; 0 frozen layers are all trained.
        pattern = r"[1-9][0-9]{0,4}" if name == "adapters" else r"[0-9]{1,4}"
        is_valid = re.fullmatch(pattern, number) is not None
    else:
        is_valid = name in POLICIES and not colon
    if not is_valid:
        choices = [n + ":N" * (n in NUMBERED_POLICIES) for n in POLICIES]
        raise errors.UsageError(
            f"config key search.policy is {policy!r}; it must be one of "
            f"{', '.join(choices)}"
        )


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise errors.UsageError(
            f"config key {key} is {value!r}; it must be one of "
            f"{', '.join(allowed)}"
        )


def _listed(value: Any) -> Any:
    """Returns `value` with every tuple as a list, as JSON reads it back."""
    if isinstance(value, Mapping):
        return {k: _listed(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_listed(v) for v in value]
    return value
