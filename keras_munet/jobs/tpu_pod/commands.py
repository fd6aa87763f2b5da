"""Builds the commands of `gcloud`, as lists of words.

Invariant: nothing here runs anything, and a word is never put together from
two of a user's, so no value can become a command of its own.

Commands and flags are those of Google's reference,
https://cloud.google.com/sdk/gcloud/reference/compute/tpus (tpu-vm: create,
ssh, scp, describe, delete; queued-resources: create, describe, delete), read
on 2026-11-21.
"""

from __future__ import annotations

import dataclasses
import re

from keras_munet import errors

Command = tuple[str, ...]
# The newest there is; what a pod's other hosts run must be the same.
TENSORFLOW_VERSION = "2.20.0"
# The label that tells the TPUs of one name apart: each `create` writes its own.
OWNER_LABEL = "munet_owner"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_TYPE = re.compile(r"(v2|v3|v4|v5p|v5litepod|v6e)-([1-9][0-9]{0,4})")
# Most cores (v2 to v5p) or chips (v5e, v6e) that one host has; more is a pod.
# https://cloud.google.com/tpu/docs/v4 and its siblings.
_NUM_ON_HOST = {
    **{"v2": 8, "v3": 8, "v4": 8, "v5p": 8},
    **{"v5litepod": 8, "v6e": 8},
}


@dataclasses.dataclass(frozen=True)
class Pod:
    """A Cloud TPU, single host or pod slice.

    Attributes:
      name: of the TPU and of its queued resource.
      zone: e.g. `us-central2-b`.
      project: of Google Cloud; empty for gcloud's own setting.
      accelerator_type: e.g. `v3-8`.
      runtime_version: the image; empty for the one that fits.
      spot: whether it may be taken away at any time, at a lower price.
      queued: whether it is requested as a queued resource.
    """

    name: str
    zone: str
    project: str = ""
    accelerator_type: str = "v3-8"
    runtime_version: str = ""
    spot: bool = False
    queued: bool = True

    def __post_init__(self):
        for flag, value, pattern, allowed in (
            ("name", self.name, _NAME, "small letters, digits and -"),
            ("zone", self.zone, _NAME, "a zone such as us-central2-b"),
            (
                *("accelerator_type", self.accelerator_type, _TYPE),
                "v2-N, v3-N, v4-N, v5p-N, v5litepod-N or v6e-N",
            ),
        ):
            if not pattern.fullmatch(value):
                raise errors.UsageError(
                    f"--{flag}={value!r} must be {allowed}; see "
                    "launch/README.md"
                )

    @property
    def is_pod(self) -> bool:
        """Returns whether it has several hosts."""
        match = _TYPE.fullmatch(self.accelerator_type)
        assert match is not None
        return int(match[2]) > _NUM_ON_HOST[match[1]]

    @property
    def image(self) -> str:
        """The image's name, by the rule of Google's page "TPU versions".

        Its TensorFlow starts the servers of a pod's other hosts.
        """
        pod = "-pod" if self.is_pod else ""
        default = f"tpu-vm-tf-{TENSORFLOW_VERSION}{pod}-pjrt"
        return self.runtime_version or default

    @property
    def _where(self) -> Command:
        project = (f"--project={self.project}",) if self.project else ()
        return f"--zone={self.zone}", *project

    def create(self, owner: str) -> Command:
        """Returns the command that requests the TPU.

        Args:
          owner: the value of its label; small letters and digits.
        """
        accelerator = f"--accelerator-type={self.accelerator_type}"
        spot = ("--spot",) if self.spot else ()
        label = f"--labels={OWNER_LABEL}={owner}"
        if self.queued:
            return (
                *_QUEUED,
                *("create", self.name, f"--node-id={self.name}"),
                *(*self._where, accelerator),
                *(f"--runtime-version={self.image}", label, *spot),
            )
        return (
            *(*_TPU_VM, "create", self.name, *self._where, accelerator),
            *(f"--version={self.image}", label, *spot),
        )

    def owner(self) -> Command:
        """Returns what prints the value of the TPU's label, if it has one."""
        labels = "tpu.nodeSpec[0].node.labels" if self.queued else "labels"
        group = _QUEUED if self.queued else _TPU_VM
        form = f"--format=value({labels}.{OWNER_LABEL})"
        return *group, "describe", self.name, *self._where, form

    def state(self) -> Command:
        """Returns what prints the state in one word, e.g. ACTIVE or READY."""
        if self.queued:
            form = "--format=value(state.state)"
            return *_QUEUED, "describe", self.name, *self._where, form
        return (
            *_TPU_VM,
            "describe",
            self.name,
            *self._where,
            ("--format=value(state)"),
        )

    def delete(self) -> Command:
        """Returns what deletes the TPU, and with it its queued resource."""
        if self.queued:
            return (
                *(*_QUEUED, "delete", self.name, *self._where),
                *("--force", "--quiet"),
            )
        return *_TPU_VM, "delete", self.name, *self._where, "--quiet"

    def ssh(self, command: str, worker: str = "all") -> Command:
        """Returns what runs a shell command on hosts.

        Args:
          command: for the shell there.
          worker: a host's number from 0, or `all`.
        """
        return (
            *(*_TPU_VM, "ssh", self.name, *self._where),
            *(f"--worker={worker}", f"--command={command}"),
        )

    def copy(self, *files: str) -> Command:
        """Returns what copies local files to the home folder of every host."""
        return (
            *(*_TPU_VM, "scp", *files, f"{self.name}:"),
            *(*self._where, "--worker=all"),
        )


_TPUS = "gcloud", "compute", "tpus"
_TPU_VM = *_TPUS, "tpu-vm"
_QUEUED = *_TPUS, "queued-resources"
