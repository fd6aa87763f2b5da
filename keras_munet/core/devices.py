"""Holds the devices of a job, as its flags name them.

Invariant: what contradicts itself is refused before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses

from keras_munet import errors

STRATEGIES = (
    *("auto", "one_device", "mirrored", "multi_worker", "tpu"),
    "coordinator",
)
LAYERWISE = "layerwise"
PROGRAM = "program"
ENGINES = ("auto", LAYERWISE, PROGRAM)


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that train; values of the flags of the same names.

    Attributes:
      strategy: `one_device`; `mirrored`, every GPU or logical CPU of this
        machine; `multi_worker`, those of every machine in TF_CONFIG; `tpu`;
        `coordinator`, whole children on the machines in `workers`;
        or `auto`: `tpu` where one is named, `coordinator` where workers
        are, `mirrored` where there are several GPUs, else `one_device`.
      engine: `layerwise`, layer by layer on one CPU; `program`, one compiled
        program for all children, each on a device of its own; or `auto`:
        `layerwise` on one CPU, else `program`.
      children_per_device: how many children a device trains at one time with
        the program, as one batched computation.
      tpu: the TPU's name, or `local` for the one of this machine.
      tpu_zone: the Google Cloud zone it lies in; empty for this machine's.
      tpu_project: the Google Cloud project; empty for this machine's.
      workers: of a `coordinator`, `HOST:PORT` of each, commas between.
    """

    strategy: str = "auto"
    engine: str = "auto"
    children_per_device: int = 1
    tpu: str = ""
    tpu_zone: str = ""
    tpu_project: str = ""
    workers: str = ""

    def __post_init__(self):
        for setting, value, allowed in (
            ("strategy", self.strategy, STRATEGIES),
            ("engine", self.engine, ENGINES),
        ):
            if value not in allowed:
                raise errors.UsageError(
                    f"unknown {setting} {value!r}; choose one of "
                    f"{', '.join(allowed)}"
                )
        if self.children_per_device < 1:
            raise errors.UsageError(
                f"children_per_device is {self.children_per_device}; use a "
                "whole number from 1"
            )
        if self.strategy == "auto" and self.tpu:
            object.__setattr__(self, "strategy", "tpu")
        if self.strategy == "auto" and self.workers:
            object.__setattr__(self, "strategy", "coordinator")
        if bool(self.workers) != (self.strategy == "coordinator"):
            raise errors.UsageError(
                f"strategy {self.strategy!r} with workers {self.workers!r}; "
                "give strategy 'coordinator' and its workers, or neither"
            )
        named = self.tpu or self.tpu_zone or self.tpu_project
        if named and self.strategy != "tpu":
            raise errors.UsageError(
                f"a TPU is named ({named}) and the strategy is "
                f"{self.strategy!r}; use strategy 'tpu', or name no TPU"
            )

    @classmethod
    def of(cls, devices: str | Devices) -> Devices:
        """Returns what a strategy's name alone stands for.

        Raises:
          UsageError: there is no such strategy.
        """
        return cls(strategy=devices) if isinstance(devices, str) else devices
