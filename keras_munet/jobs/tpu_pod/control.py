"""A TPU's life: created whole or not at all, its job watched to the end.

Invariant: what `create` requested runs when it returns, and nothing of it does
when it fails; a job whose TPU was taken away goes on, on another, from what it
had published. A TPU is known by the label that its `create` wrote: one of the
same name with another label is never deleted, and one that a person deleted is
never created anew.
"""

from __future__ import annotations

import pathlib
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet import errors
from keras_munet.jobs import supervisor
from keras_munet.jobs.tpu_pod import commands
from keras_munet.jobs.tpu_pod import gcloud as gcloud_lib
from keras_munet.jobs.tpu_pod import remote
from keras_munet.jobs.tpu_pod import source_archive

_READY = ("ACTIVE", "READY")
# States that a TPU does not come back from.
_LOST = (
    *("FAILED", "SUSPENDING", "SUSPENDED"),
    *("PREEMPTED", "TERMINATED", "DELETING"),
)
_TAKEN = "ALREADY_EXISTS"
_OWNER = re.compile(r"[0-9a-f]{16}")


class PodControl:
    """The commands of `launch/pod.py` on one TPU."""

    def __init__(
        self,
        pod: commands.Pod,
        gcloud: gcloud_lib.Gcloud,
        tell: Callable[[str], None],
        *,
        poll_secs: float = 30.0,
        create_secs: float = 3600.0,
        env: Mapping[str, str] | None = None,
    ):
        """Runs nothing.

        Args:
          pod: the TPU.
          gcloud: runs the commands.
          tell: is given lines for people.
          poll_secs: between two looks at a state.
          create_secs: how long a TPU is waited for.
          env: environment variables of the job, beside TensorFlow's own.
        """
        self._pod = pod
        self._gcloud = gcloud
        self._tell = tell
        self._poll_secs = poll_secs
        self._create_secs = create_secs
        self._env = {**remote.tpu_environment(pod), **(env or {})}
        self._stop = threading.Event()

    def stop(self) -> None:
        """Has `run` stop the job at its next boundary, and `create` give up."""
        self._stop.set()

    def create(self) -> None:
        """Returns when the TPU is ready.

        Raises:
          UsageError: there is one of this name, perhaps since a moment ago.
          GcloudError: it could not be had; nothing of it is left.
        """
        if self._state():
            raise self._name_in_use()
        # What `_owner` may say of a TPU that is this one's.
        own = [secrets.token_hex(8)]
        try:
            self._gcloud.run(self._pod.create(own[0]))
            # The loser of a race is refused: it is this one's, also where its
            # label cannot be read.
            own.append("")
            self._wait_until_ready()
            if not self._gcloud.dry_run and self._owner() not in own:
                raise self._other()
        except BaseException as error:
            is_own = self._undo_create(own, error)
            if not is_own and _TAKEN in str(error):
                raise self._name_in_use() from error
            raise

    def _undo_create(self, own: Sequence[str], error: BaseException) -> bool:
        """Deletes what a `create` that failed left, as that would cost money.

        Args:
          own: what the label of its TPU may be.
          error: that ended it.

        Returns:
          Whether there was something of its label.

        Raises:
          GcloudError: it could not be deleted.
        """
        try:
            there = self._owner()
            if there in own:
                self._tell(
                    f"{self._pod.name} is not ready: deleting what is there"
                )
                self.delete()
            elif there is not None:
                self._tell(
                    f"{self._pod.name} has another creator's label: left alone"
                )
        except gcloud_lib.GcloudError as again:
            raise gcloud_lib.GcloudError(
                f"{error}; and it could NOT be deleted: {again}; delete "
                f"{self._pod.name} by hand, it may cost money"
            ) from error
        return there in own

    def _name_in_use(self) -> errors.UsageError:
        return errors.UsageError(
            f"{self._pod.name} exists already in {self._pod.zone}; use it, "
            "delete it, or choose another --name"
        )

    def setup(self, project: pathlib.Path, wheel: str = "") -> None:
        """Installs the project on every host.

        Args:
          project: the project's folder.
          wheel: of the project; empty builds one.

        Raises:
          UsageError: there is no wheel.
          GcloudError: a host could not be reached or set up.
        """
        with tempfile.TemporaryDirectory() as folder:
            if self._gcloud.dry_run:
                files = [
                    wheel or "keras_munet.whl",
                    *(source_archive.SOURCES, source_archive.REQUIREMENTS),
                ]
            else:
                files = source_archive.write_archives(
                    project, pathlib.Path(folder), wheel
                )
            self._gcloud.run(self._pod.copy(*files))
            name = pathlib.Path(files[0]).name
            self._gcloud.run(self._pod.ssh(remote.setup_command(name)))

    def run(
        self, evolve: Sequence[str], project: pathlib.Path, wheel: str = ""
    ) -> int:
        """Starts the job and watches it; returns its exit code.

        A TPU that was taken away is created and set up anew; one that is gone
        was deleted by a person, and stays so.

        Args:
          evolve: the flags of `launch/evolve.py`; its system in a bucket.
          project: see `setup`.
          wheel: see `setup`.

        Raises:
          UsageError: the system lies on the TPU's own disk.
          GcloudError: gcloud failed for another reason than a lost TPU, or
            the TPU was deleted, or replaced by another of its name.
        """
        _check_workdir(evolve)
        self._start(evolve)
        if self._gcloud.dry_run:
            return supervisor.DONE_CODE
        owner = self._owner()
        was_stopped = False
        while True:
            stopping = self._stop.wait(self._poll_secs)
            state = self._state()
            if state in _READY:
                try:
                    if stopping and not was_stopped:
                        self._host(remote.stop_command())
                        was_stopped = True
                    answer = self._host(remote.status_command(), show=False)
                except gcloud_lib.MissingError:
                    # It went since its state was read; the next state says so.
                    continue
                if answer.lstrip("-").isdecimal():
                    self._tell(f"the job ended with exit code {answer}")
                    return int(answer)
                if not answer:
                    # The host was restarted in place: its job went with it.
                    self._start(evolve)
            elif stopping:
                self._tell(f"{self._pod.name} is {state or 'gone'}")
                return supervisor.STOPPED_CODE
            elif not state:
                raise gcloud_lib.GcloudError(
                    f"{self._pod.name} was deleted, not taken away, so it is "
                    "not created anew; what was published is in the bucket: "
                    "create it, and run again to continue"
                )
            elif state in _LOST:
                self._refuse_other(owner)
                self._tell(f"{self._pod.name} is {state}: creating it anew")
                self.delete()
                self.create()
                self.setup(project, wheel)
                self._start(evolve)
                owner = self._owner()
            if was_stopped:
                # `wait` returns at once from now on.
                time.sleep(self._poll_secs)

    def status(self) -> str:
        """Returns the TPU's state and the job's, for people."""
        state = self._state(show=True)
        if state not in _READY and not self._gcloud.dry_run:
            return state or "does not exist"
        answer = self._host(remote.status_command())
        job = {"": "no job", remote.RUNNING: "the job runs"}
        return (
            f"{state}, {job.get(answer, f'the job ended with code {answer}')}"
        )

    def logs(self, num_lines: int, follow: bool) -> None:
        """Shows the job's last lines, and follows it on request."""
        command = self._pod.ssh(remote.logs_command(num_lines, follow), "0")
        self._gcloud.run(command, stream=True)

    def delete(self) -> None:
        """Deletes the TPU; one that does not exist is no error."""
        try:
            self._gcloud.run(self._pod.delete())
        except gcloud_lib.MissingError:
            self._tell(f"{self._pod.name} does not exist")

    def _state(self, *, show: bool = False) -> str:
        """Returns the TPU's state; empty if it does not exist."""
        try:
            return self._gcloud.run(self._pod.state(), show=show)
        except gcloud_lib.MissingError:
            return ""

    def _owner(self) -> str | None:
        """Returns the TPU's label; empty without one, None without a TPU."""
        try:
            owner = self._gcloud.run(self._pod.owner(), show=False)
        except gcloud_lib.MissingError:
            return None
        return owner if _OWNER.fullmatch(owner) else ""

    def _refuse_other(self, owner: str | None) -> None:
        """Does nothing if the TPU is still the one of that label.

        Raises:
          GcloudError: another of its name has taken its place.
        """
        if self._owner() != owner:
            raise self._other()

    def _other(self) -> gcloud_lib.GcloudError:
        return gcloud_lib.GcloudError(
            f"{self._pod.name} is another TPU by now, with another label; it "
            "is left alone: run again with another --name"
        )

    def _start(self, evolve: Sequence[str]) -> None:
        devices = ["--strategy=tpu", "--tpu=local"]
        if self._pod.is_pod:
            devices = [
                *("--strategy=tpu", f"--tpu={self._pod.name}"),
                f"--tpu_zone={self._pod.zone}",
            ]
            if self._pod.project:
                devices.append(f"--tpu_project={self._pod.project}")
        self._host(remote.start_command(self._env, [*evolve, *devices]))

    def _host(self, command: str, *, show: bool = True) -> str:
        return self._gcloud.run(self._pod.ssh(command, "0"), show=show)

    def _wait_until_ready(self) -> None:
        if self._gcloud.dry_run:
            return
        deadline = time.monotonic() + self._create_secs
        while True:
            state = self._state()
            if state in _READY:
                return
            if state in _LOST or self._stop.is_set():
                raise gcloud_lib.GcloudError(
                    f"{self._pod.name} is {state} and not ready; try another "
                    "zone or type, or later"
                )
            if time.monotonic() > deadline:
                raise gcloud_lib.GcloudError(
                    f"{self._pod.name} is {state} after "
                    f"{self._create_secs:.0f} s; try another zone or type, or "
                    "a longer --create_secs"
                )
            self._stop.wait(self._poll_secs)


def _check_workdir(evolve: Sequence[str]) -> None:
    places = [
        flag.partition("=")[2]
        for flag in evolve
        if flag.lstrip("-").startswith("workdir=")
    ]
    if len(places) != 1 or not places[0].startswith("gs://"):
        raise errors.UsageError(
            f"--workdir is {places[0] if places else 'not given'!r}; give "
            "--workdir=gs://BUCKET/FOLDER, as a TPU's own disk goes with it"
        )
