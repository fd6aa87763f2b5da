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

DATA = ("rooms", "camvid", "nyuv2", "coco")
NETWORKS = ("segnet", "resnet")
OPTIMIZERS = ("adam", "sgd")


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
      data_dir: where its files are; rooms need none.
      task_names: those to learn; empty for all that the data have.
      image_height: pixels.
      image_width: pixels.
      num_train: images; 0 for all. Rooms: 0 is 1024.
      num_test: images; 0 for all. Rooms: 0 is 256.
      network: one of `NETWORKS`.
      width: channels of the first stage.
      num_stages: of the network; each halves the image.
      method: one of `METHODS`.
      depth: square factors between the outer two.
      combination: `product` or `mean` of the tasks' factors.
      task_factor: `full` or `diagonal`.
      together: train shared and task factors on the same batches in turn,
        instead of on batches of their own.
      shared_steps: batches for the shared factors in a cycle.
      task_steps: batches for each task's factors in a cycle.
      num_epochs: of every network, whichever factors a batch trains.
      batch_size: images.
      optimizer: one of `OPTIMIZERS`; `sgd` has a Nesterov momentum of 0.9.
      learning_rate: at the start; it falls to 0 along a cosine.
      task_learning_rate: of task factors; 0 for `learning_rate`.
      flip: turn half the training images left to right.
      data_seed: of rooms.
      seed: of weights, orders and flips.
      save_every: steps between checkpoints.
    """

    data: str = "rooms"
    data_dir: str = ""
    task_names: tuple[str, ...] = ()
    image_height: int = 64
    image_width: int = 64
    num_train: int = 0
    num_test: int = 0
    network: str = "segnet"
    width: int = 16
    num_stages: int = 4
    method: str = "overparam"
    depth: int = 1
    combination: str = "mean"
    task_factor: str = "full"
    together: bool = True
    shared_steps: int = 1
    task_steps: int = 1
    num_epochs: int = 20
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    task_learning_rate: float = 0.0
    flip: bool = True
    data_seed: int = 0
    seed: int = 0
    save_every: int = 200

    def __post_init__(self):
        for key, allowed in (
            ("data", DATA),
            ("network", NETWORKS),
            ("optimizer", OPTIMIZERS),
            ("method", tuple(METHODS)),
            ("combination", ("product", "mean")),
            ("task_factor", ("full", "diagonal")),
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
            *((k, 1) for k in ("num_epochs", "batch_size", "save_every")),
            *((k, 0) for k in ("num_train", "num_test")),
            *((k, 1) for k in ("task_steps",)),
            ("task_learning_rate", 0.0),
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
        return {**dataclasses.asdict(self), "task_names": list(self.task_names)}

    def to_json(self) -> dict[str, Any]:
        """Returns what defines the run, as JSON has it."""
        values = self.to_config()
        del values["data_dir"]
        return values
