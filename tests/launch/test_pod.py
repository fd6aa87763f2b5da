"""`launch/pod.py` before a stand-in for gcloud: commands, failures, a life."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import psutil
import pytest

from keras_munet import errors
from keras_munet.jobs.tpu_pod import commands
from keras_munet.jobs.tpu_pod import control
from keras_munet.jobs.tpu_pod import gcloud as gcloud_lib
from keras_munet.jobs.tpu_pod import remote
from keras_munet.jobs.tpu_pod import source_archive

_TESTS = pathlib.Path(__file__).resolve().parents[1]
_POD = _TESTS.parent / "launch" / "pod.py"
_ZONE = "--zone=us-central2-b"
_SECS_MAX = 240


class _Cloud:
    """A folder that the stand-in plays in, and jobs that use it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        gcloud = folder / "bin" / "gcloud"
        gcloud.parent.mkdir()
        program = shlex.join(
            [sys.executable, str(_TESTS / "helpers" / "stand_in_gcloud.py")]
        )
        gcloud.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        gcloud.chmod(0o755)
        self.env = {
            **os.environ,
            "MUNET_CLOUD": str(folder),
            "PATH": f"{gcloud.parent}:{os.environ['PATH']}",
        }

    def start(self, command: str, *flags: str) -> subprocess.Popen:
        return subprocess.Popen(
            [
                *(sys.executable, str(_POD), command, _ZONE),
                *("--poll_secs=0.1", *flags),
            ],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *flags: str) -> subprocess.CompletedProcess:
        job = self.start(command, *flags)
        out, err = job.communicate(timeout=_SECS_MAX)
        return subprocess.CompletedProcess(command, job.returncode, out, err)

    def control(
        self, accelerator_type: str, dry_run: bool = False
    ) -> tuple[control.PodControl, list[str]]:
        """Returns what the launcher uses, and the lines that it tells."""
        lines: list[str] = []
        gcloud = gcloud_lib.Gcloud(lines.append, dry_run=dry_run)
        pod = commands.Pod("munet", "us-central2-b", "", accelerator_type)
        made = control.PodControl(pod, gcloud, lines.append, poll_secs=0.1)
        return made, lines

    def set(self, name: str, text: str) -> None:
        # In one step: the stand-in may read it at any moment.
        part = self.folder / f"{name}.part"
        part.write_text(text)
        part.replace(self.folder / name)

    @property
    def asked(self) -> list[list[str]]:
        path = self.folder / "asked"
        text = path.read_text() if path.exists() else ""
        # Without a line that is being written just now.
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def asked_for(self, action: str) -> list[list[str]]:
        return [words for words in self.asked if words[3] == action]

    def install(self, program: str) -> None:
        """Puts a program where the job's interpreter is, now and after setup.

        It takes part in the setup, too, where it has nothing to install.
        """
        python = self.home / remote.FOLDER / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/bash\n[ "$1" = -m ] && exit\n{program}\n')
        python.chmod(0o755)
        shutil.copy(python, self.folder / "program")
        maker = self.folder / "bin" / "python3"
        maker.write_text(
            '#!/bin/sh\nmkdir -p "$3/bin" && '
            f'cp {self.folder}/program "$3/bin/python"\n'
        )
        maker.chmod(0o755)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud without any TPU."""
    made = _Cloud(tmp_path / "cloud")
    for key in ("PATH", "MUNET_CLOUD"):
        monkeypatch.setenv(key, made.env[key])
    return made


def _wait_for(condition) -> None:
    deadline = time.monotonic() + _SECS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_queued_spot_pod_is_asked_for_as_google_documents_it():
    pod = commands.Pod(
        "big", "us-central2-b", "mine", "v4-32", spot=True, queued=True
    )
    where = ["--zone=us-central2-b", "--project=mine"]
    assert list(pod.create("0a")) == [
        *("gcloud", "compute", "tpus", "queued-resources", "create", "big"),
        *("--node-id=big", *where, "--accelerator-type=v4-32"),
        "--runtime-version=tpu-vm-tf-2.20.0-pod-pjrt",
        *("--labels=munet_owner=0a", "--spot"),
    ]
    assert list(pod.owner()) == [
        *("gcloud", "compute", "tpus", "queued-resources", "describe", "big"),
        *where,
        "--format=value(tpu.nodeSpec[0].node.labels.munet_owner)",
    ]
    assert list(pod.delete()) == [
        *("gcloud", "compute", "tpus", "queued-resources", "delete", "big"),
        *(*where, "--force", "--quiet"),
    ]
    assert list(pod.ssh("ls -l")) == [
        *("gcloud", "compute", "tpus", "tpu-vm", "ssh", "big", *where),
        *("--worker=all", "--command=ls -l"),
    ]
    assert list(pod.copy("a.whl")) == [
        *("gcloud", "compute", "tpus", "tpu-vm", "scp", "a.whl", "big:"),
        *(*where, "--worker=all"),
    ]


def test_a_single_host_may_be_asked_for_at_once():
    pod = commands.Pod("one", "us-central1-a", queued=False)
    assert list(pod.create("0a")) == [
        *("gcloud", "compute", "tpus", "tpu-vm", "create", "one"),
        *("--zone=us-central1-a", "--accelerator-type=v3-8"),
        *("--version=tpu-vm-tf-2.20.0-pjrt", "--labels=munet_owner=0a"),
    ]
    assert pod.owner()[-1] == "--format=value(labels.munet_owner)"
    assert not pod.is_pod
    env = remote.tpu_environment(pod)
    assert env["TPU_ACCELERATOR_TYPE"] == "v3-8"
    assert "TPU_NAME" not in env


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Big"},
        {"name": "a b"},
        {"name": "--help"},
        {"zone": "us central2"},
        {"accelerator_type": "v4"},
        {"accelerator_type": "v9-8"},
    ],
)
def test_what_google_would_refuse_is_refused_before(wrong):
    with pytest.raises(errors.UsageError, match=f"--{next(iter(wrong))}="):
        commands.Pod(**{"name": "big", "zone": "us-central2-b", **wrong})


def test_a_dry_run_prints_every_command_and_runs_none(cloud):
    dry, lines = cloud.control("v4-32", dry_run=True)
    dry.create()
    dry.setup(_TESTS.parent)
    dry.status()
    dry.logs(10, follow=False)
    dry.delete()
    assert [shlex.split(line)[3:5] for line in lines if "gcloud" in line] == [
        *(["queued-resources", "describe"], ["queued-resources", "create"]),
        *(["tpu-vm", "scp"], ["tpu-vm", "ssh"]),
        *(["queued-resources", "describe"], ["tpu-vm", "ssh"]),
        *(["tpu-vm", "ssh"], ["queued-resources", "delete"]),
    ]
    done = cloud.run("run", "--dry_run", "--workdir=gs://b/f", "--config=c.py")
    assert "launch/evolve.py --workdir=gs://b/f --config=c.py" in done.stdout
    assert cloud.asked == []


def test_a_failed_create_says_why_and_leaves_nothing(cloud):
    cloud.set("fails", "create")
    done = cloud.run("create")
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert "RESOURCE_EXHAUSTED: no more v3" in line
    # There is nothing: whatever comes to be of that name is another's.
    assert [words[3] for words in cloud.asked] == [
        *("describe", "create", "describe"),
    ]


def test_a_create_that_fails_late_leaves_nothing(cloud):
    cloud.set("late", "create")
    done = cloud.run("create")
    assert done.returncode == 3
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert not (cloud.folder / "state").exists()


@pytest.mark.parametrize("label", ["", "0123456789abcdef", "odd label"])
def test_the_loser_of_a_race_leaves_the_winners_tpu(cloud, label):
    cloud.set("race", label)
    done = cloud.run("create")
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert "left alone" in done.stdout
    assert cloud.asked_for("delete") == []
    assert (cloud.folder / "state").exists()


def test_a_tpu_that_is_replaced_while_it_is_waited_for_is_left(cloud):
    cloud.set("state_after_create", "PROVISIONING")
    job = cloud.start("create")
    _wait_for(lambda: len(cloud.asked_for("describe")) > 1)
    cloud.set("label", "f" * 16)
    cloud.set("state", "FAILED")
    _, err = job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 3
    assert len(err.strip().splitlines()) == 1
    assert cloud.asked_for("delete") == []


def test_a_tpu_that_never_gets_ready_is_deleted(cloud):
    cloud.set("state_after_create", "WAITING_FOR_RESOURCES")
    done = cloud.run("create", "--create_secs=0.3")
    assert done.returncode == 3
    assert "WAITING_FOR_RESOURCES" in done.stderr
    assert not (cloud.folder / "state").exists()


def test_stopping_a_create_that_waits_deletes_it(cloud):
    cloud.set("state_after_create", "PROVISIONING")
    job = cloud.start("create")
    _wait_for(lambda: len(cloud.asked_for("describe")) > 1)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 3
    assert not (cloud.folder / "state").exists()


def test_a_create_that_cannot_be_undone_says_so(cloud):
    cloud.set("late", "create")
    cloud.set("fails", "delete")
    done = cloud.run("create")
    assert done.returncode == 3
    assert "by hand" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_tpu_of_that_name_is_neither_made_again_nor_deleted(cloud):
    cloud.set("state", "ACTIVE")
    done = cloud.run("create")
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert (cloud.folder / "state").exists()


def test_deleting_twice_is_no_error(cloud):
    made, lines = cloud.control("v3-8")
    made.create()
    made.delete()
    made.delete()
    assert lines[-1] == "munet does not exist"


def test_without_gcloud_the_error_says_where_to_get_it(cloud):
    cloud.env["PATH"] = "/nowhere"
    done = cloud.run("status")
    assert done.returncode == 2
    assert "install the Google Cloud CLI" in done.stderr


def test_a_system_on_the_tpus_own_disk_is_refused(cloud):
    done = cloud.run("run", "--workdir=/home/me/system")
    assert done.returncode == 2
    assert "gs://" in done.stderr
    assert cloud.asked == []


def test_setup_sends_the_project_without_plain_tensorflow(tmp_path):
    wheel = tmp_path / "keras_munet-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "keras_munet-1.dist-info/METADATA",
            "Name: keras_munet\n"
            "Requires-Dist: keras<4,>=3\n"
            "Requires-Dist: tensorflow<2.22,>=2.20\n"
            "Requires-Dist: tensorflow-datasets<5\n"
            'Requires-Dist: google-cloud-storage>=3.0; extra == "gcs"\n'
            'Requires-Dist: tensorflow-hub>=0.16; extra == "hub"\n',
        )
    files = source_archive.write_archives(_TESTS.parent, tmp_path, str(wheel))
    assert [pathlib.Path(file).name for file in files] == [
        *(wheel.name, source_archive.SOURCES, source_archive.REQUIREMENTS),
    ]
    assert pathlib.Path(files[2]).read_text().splitlines() == [
        *("keras<4,>=3", "tensorflow-datasets<5"),
        "google-cloud-storage>=3.0",
    ]
    assert "tensorflow-tpu==2.20.0 libtpu==0.0.30" in remote.setup_command(
        wheel.name
    )


def test_a_job_that_ends_gives_its_code(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install('echo "$@" > asked_of_job')
    done = cloud.run("run", "--workdir=gs://b/f", "--config.seed=3")
    assert done.returncode == 0, done.stderr
    words = (cloud.home / remote.FOLDER / "asked_of_job").read_text().split()
    assert words == [
        *("-u", "launch/evolve.py", "--workdir=gs://b/f", "--config.seed=3"),
        *("--strategy=tpu", "--tpu=local"),
    ]
    assert cloud.run("status").stdout.strip().endswith("ended with code 0")


def test_a_refused_job_is_not_begun_again(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install("echo begun >> begun; echo 'error: no' >&2; exit 2")
    assert cloud.run("run", "--workdir=gs://b/f").returncode == 2
    assert (cloud.home / remote.FOLDER / "begun").read_text() == "begun\n"
    assert "error: no" in cloud.run("logs").stdout


def test_a_preempted_job_goes_on_on_another_tpu(cloud, tmp_path):
    cloud.set("state", "ACTIVE")
    cloud.install(f"[ -e {tmp_path}/done ] || sleep 60; touch launch/ended")
    wheel = tmp_path / "keras_munet-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("keras_munet-1.dist-info/METADATA", "Name: x\n")
    job = cloud.start("run", "--workdir=gs://b/f", f"--wheel={wheel}")
    pid_file = cloud.home / remote.FOLDER / "job.pid"
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    os.killpg(int(pid_file.read_text()), signal.SIGKILL)
    (tmp_path / "done").touch()
    cloud.set("state", "SUSPENDED")
    out, err = job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 0, err
    assert "is SUSPENDED: creating it anew" in out
    actions = [words[3] for words in cloud.asked]
    again = actions.index("delete")
    assert actions[again + 1] == "describe"
    assert [a for a in actions[again:] if a != "describe"][:5] == [
        *("delete", "create", "scp", "ssh", "ssh"),
    ]
    # The launchers came with the setup.
    assert (cloud.home / remote.FOLDER / "launch" / "pod.py").exists()
    assert (cloud.home / remote.FOLDER / "launch" / "ended").exists()


def test_a_tpu_that_a_person_deleted_is_not_created_anew(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install("exec sleep 60")
    job = cloud.start("run", "--workdir=gs://b/f")
    pid_file = cloud.home / remote.FOLDER / "job.pid"
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    assert cloud.run("delete").returncode == 0
    os.killpg(int(pid_file.read_text()), signal.SIGKILL)
    _, err = job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 3
    (line,) = err.strip().splitlines()
    assert "was deleted" in line and "run again" in line
    assert cloud.asked_for("create") == []


def test_a_lost_tpu_that_another_replaced_is_left_alone(cloud):
    made, _ = cloud.control("v3-8")
    made.create()
    cloud.install("exec sleep 60")
    job = cloud.start("run", "--workdir=gs://b/f")
    pid_file = cloud.home / remote.FOLDER / "job.pid"
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    _wait_for(lambda: len(cloud.asked_for("describe")) > 4)
    cloud.set("label", "f" * 16)
    cloud.set("state", "SUSPENDED")
    _, err = job.communicate(timeout=_SECS_MAX)
    os.killpg(int(pid_file.read_text()), signal.SIGKILL)
    assert job.returncode == 3
    assert "another TPU by now" in err
    assert cloud.asked_for("delete") == []
    assert len(cloud.asked_for("create")) == 1


def test_sigterm_stops_the_job_at_its_next_boundary(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install(
        "trap 'exit 75' TERM; touch ready; while :; do sleep 0.1; done"
    )
    job = cloud.start("run", "--workdir=gs://b/f")
    _wait_for(lambda: (cloud.home / remote.FOLDER / "ready").exists())
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=_SECS_MAX)
    assert job.returncode == 75
    assert (cloud.home / remote.FOLDER / "job.code").read_text() == "75\n"


def test_a_job_is_told_once_to_stop_however_early(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install(
        "trap 'echo told >> told; kill $!; exit 75' TERM; sleep 60 & wait"
    )
    folder = cloud.home / remote.FOLDER
    for _ in range(8):
        assert _shell(cloud, remote.start_command({}, [])).returncode == 0
        # The first stop may find no program yet, or one without its trap.
        assert _shell(cloud, remote.stop_command()).returncode == 0
        _wait_for(lambda: (folder / "job.code").exists())
        told = folder / "told"
        code = (folder / "job.code").read_text()
        assert code in ("75\n", "143\n")
        if told.exists():
            # The code is the program's own.
            assert (told.read_text(), code) == ("told\n", "75\n")
        told.unlink(missing_ok=True)


def test_a_job_that_waits_to_begin_again_can_be_stopped(cloud):
    cloud.set("state", "ACTIVE")
    cloud.install("echo begun >> begun; exit 1")
    assert _shell(cloud, remote.start_command({}, [])).returncode == 0
    folder = cloud.home / remote.FOLDER
    pid = int((folder / "job.pid").read_text())
    # The pause, and no more the program.
    _wait_for(lambda: _child_names(pid) == ["sleep"])
    assert _shell(cloud, remote.stop_command()).returncode == 0
    _wait_for(lambda: (folder / "job.code").exists())
    assert (folder / "job.code").read_text() == "1\n"
    assert (folder / "begun").read_text() == "begun\n"
    # What an earlier job left is not this one's.
    cloud.install("exec sleep 60")
    assert _shell(cloud, remote.start_command({}, [])).returncode == 0
    said = subprocess.check_output(
        ["bash", "-c", remote.status_command()], cwd=cloud.home, text=True
    )
    assert said.strip() == remote.RUNNING
    assert _shell(cloud, remote.stop_command()).returncode == 0
    _wait_for((folder / "job.code").exists)


def _child_names(pid: int) -> list[str]:
    """Returns what a process has started that has not ended."""
    names = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(child.name())
    return names


def _shell(cloud: _Cloud, command: str) -> subprocess.CompletedProcess:
    """Runs a command as gcloud does on a host; with its output unread."""
    return subprocess.run(
        ["bash", "-c", command],
        env={**cloud.env, "HOME": str(cloud.home)},
        cwd=cloud.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_SECS_MAX,
        check=False,
    )
