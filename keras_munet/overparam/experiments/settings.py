"""Defines one experiment on dense tasks: data, network, method, training.

Invariant: settings that compare equal give the same networks. Where data lie
(`data_dir`) is no part of that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_munet import errors
from keras_munet.core import config_parsing
from keras_munet.overparam import factorization
from keras_munet.overparam import schedule

DATA = ("overlaid", "camvid", "nyuv2", "coco")
NETWORKS = ("segnet", "resnet")
OPTIMIZERS = ("adamw", "sgd")


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train networks for several tasks.

    Attributes:
      summary: what it is, in a few words.
      is_joint: one network for all tasks, or one network for each.
      is_factorized: kernels are trained as products.
      has_task_factors: each task trains a factor of its own in every product.
      combiner: `equal`, `uncertainty` or `pcgrad`.
    """

    summary: str
    is_joint: bool = True
    is_factorized: bool = False
    has_task_factors: bool = False
    combiner: str = "equal"


METHODS = {
    "single_task": Method("a network per task", is_joint=False),
    "hard_sharing": Method("one plain network, losses summed"),
    "uncertainty": Method(
        "one plain network, learned weights of losses", combiner="uncertainty"
    ),
    "pcgrad": Method(
        "one plain network, conflicting gradients projected",
        combiner="pcgrad",
    ),
    "overparam": Method(
        "one network of products, a factor per task",
        is_factorized=True,
        has_task_factors=True,
    ),
    "overparam_common": Method(
        "one network of products, no factor of a task's own",
        is_factorized=True,
    ),
    "overparam_single": Method(
        "a network of products per task, no factor shared",
        is_joint=False,
        is_factorized=True,
        has_task_factors=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
      data: one of `DATA`.
      data_dir: where its files are; empty for what needs none.
      overlaid: of `overlaid`: two tasks of `keras_munet.data.tasks`, whose
        images lie over each other.
      task_names: those to learn; empty for all that the data have.
      image_height: pixels.
      image_width: pixels.
      num_train: images; 0 for all.
      num_test: images; 0 for all.
      network: one of `NETWORKS`.
      width: channels of the first stage.
      num_stages: of the network; each halves the image.
      method: one of `METHODS`.
      norm: whether the network has batch norms.
      depth: square factors between the outer two.
      task_factor: `full` or `diagonal`.
      shared_steps: batches for the shared factors in a cycle.
      task_steps: batches for each task's factors in a cycle.
      num_epochs: of every network, whichever factors a batch trains.
      batch_size: images.
      optimizer: one of `OPTIMIZERS`; `sgd` has a Nesterov momentum of 0.9.
      learning_rate: at the start; it falls to 0 along a cosine.
      weight_decay: decoupled, of kernels: each shared step takes this share,
        times the learning rate, of the kernel that is deployed.
      flip: turn half the training images left to right.
      data_seed: of overlaid pairs.
      seed: of weights, orders and flips.
    """

    data: str = "overlaid"
    data_dir: str = ""
    overlaid: tuple[str, ...] = ("digits", "glyphs/digits")
    task_names: tuple[str, ...] = ()
    image_height: int = 64
    image_width: int = 64
    num_train: int = 0
    num_test: int = 0
    network: str = "segnet"
    width: int = 16
    num_stages: int = 4
    method: str = "overparam"
    norm: bool = True
    depth: int = factorization.DEPTH
    task_factor: str = factorization.TASK_FACTOR
    shared_steps: int = schedule.Schedule.shared_steps
    task_steps: int = schedule.Schedule.task_steps
    num_epochs: int = 20
    batch_size: int = 16
    optimizer: str = "adamw"
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    flip: bool = True
    data_seed: int = 0
    seed: int = 0

    def __post_init__(self):
        for key, allowed in (
            ("data", DATA),
            ("network", NETWORKS),
            ("optimizer", OPTIMIZERS),
            ("method", tuple(METHODS)),
            ("task_factor", factorization.TASK_FACTORS),
        ):
            value = getattr(self, key)
            if value not in allowed:
                raise errors.UsageError(
                    f"config key {key} is {value!r}; choose one of "
                    f"{', '.join(allowed)}"
                )
        for key, least in (
            *((k, 1) for k in ("image_height", "image_width", "width")),
            *((k, 1) for k in ("num_stages", "depth", "shared_steps")),
            *((k, 1) for k in ("num_epochs", "batch_size")),
            *((k, 0) for k in ("num_train", "num_test")),
            *((k, 1) for k in ("task_steps",)),
            ("weight_decay", 0.0),
        ):
            value = getattr(self, key)
            if not value >= least:
                raise errors.UsageError(
                    f"config key {key} is {value}; it takes {least} or more"
                )
        if not 0 < self.learning_rate < 1e3:
            raise errors.UsageError(
                f"config key learning_rate is {self.learning_rate}; it takes "
                "a number above 0"
            )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Settings:
        """Returns checked settings from plain values.

        Raises:
          UsageError: a key is unknown or a value not allowed.
        """
        return config_parsing.parse_record(
            cls, config_parsing.checked_mapping("", value), ""
        )

    def to_config(self) -> dict[str, Any]:
        """Returns every key, for a config file."""
        return {
            **dataclasses.asdict(self),
            "task_names": list(self.task_names),
            "overlaid": list(self.overlaid),
        }

    def to_json(self) -> dict[str, Any]:
        """Returns what defines the run, as JSON has it."""
        values = self.to_config()
        del values["data_dir"]
        return values
