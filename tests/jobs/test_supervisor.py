"""Jobs that begin again: which end, which do not, and who is told."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import threading
import time

import psutil
import pytest

from keras_munet import errors
from keras_munet.jobs import agents
from keras_munet.jobs import supervisor

_SECS_MAX = 240.0


def _job(text: str, name: str = "one") -> supervisor.Job:
    return supervisor.Job(name, ("bash", "-c", text))


def _run(*jobs: supervisor.Job, **options):
    """Returns the exit code and every line that was told."""
    lines: list[str] = []
    options.setdefault("first_pause_secs", 0.01)
    running = supervisor.Supervisor(jobs, lines.append, **options)
    return running.run(), lines


def _wait_for(condition) -> None:
    deadline = time.monotonic() + _SECS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, although nobody may have buried it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_jobs_that_are_done_are_done_and_their_lines_are_marked():
    code, lines = _run(_job("echo a; echo b >&2", "x"), _job("echo c", "y"))
    assert code == 0
    assert sorted(lines) == ["[x] a", "[x] b", "[y] c"]


@pytest.mark.parametrize("end", ["exit 75", "kill -9 $$", "exit 137"])
def test_a_job_that_was_taken_away_begins_again_until_it_is_done(tmp_path, end):
    text = f"echo x >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) -gt 7 ] || {end}"
    code, lines = _run(_job(text), num_failures_max=2)
    assert code == 0
    assert sum("begins again" in line for line in lines) == 7


def test_a_refused_job_ends_at_once_and_the_others_go_on(tmp_path):
    code, lines = _run(
        _job(f"echo x >> {tmp_path}/n; exit 2"), _job("sleep 0.3", "other")
    )
    assert code == 2
    assert (tmp_path / "n").read_text() == "x\n"
    assert "[one] ended with exit code 2" in lines


def test_a_job_that_keeps_failing_is_given_up(tmp_path):
    code, _ = _run(_job(f"echo x >> {tmp_path}/n; exit 1"), num_failures_max=3)
    assert code == 1
    assert (tmp_path / "n").read_text() == "x\n" * 3


def test_a_silent_job_is_killed_with_all_it_started_and_begins_again(tmp_path):
    # One that is killed before it has told its child begins anew, too.
    text = (
        f"[ -s {tmp_path}/child ] && exit 0;"
        f" sleep 600 & echo $! > {tmp_path}/child; wait"
    )
    code, lines = _run(_job(text), silent_secs=0.5)
    assert code == 0
    assert any("silent" in line for line in lines)
    child = int((tmp_path / "child").read_text())
    _wait_for(lambda: _is_gone(child))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_stopping_reaches_every_job_and_waits_for_its_boundary(
    tmp_path, number, code
):
    text = (
        "trap 'sleep 0.2; touch {0}/{1}; exit 75' TERM; echo ready;"
        " while :; do sleep 0.05; done"
    )
    lines: list[str] = []
    running = supervisor.Supervisor(
        [_job(text.format(tmp_path, n), n) for n in ("a", "b")], lines.append
    )
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(running.run()))
    thread.start()
    _wait_for(lambda: len(lines) == 2)
    running.stop(number)
    thread.join(_SECS_MAX)
    assert found == [code]
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def test_stopping_twice_kills():
    lines: list[str] = []
    text = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    running = supervisor.Supervisor([_job(text)], lines.append)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(running.run()))
    thread.start()
    _wait_for(lambda: lines)
    running.stop()
    time.sleep(0.3)
    assert not found
    running.stop()
    thread.join(_SECS_MAX)
    assert found == [75]


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(errors.UsageError, match="/no/such"):
        _run(supervisor.Job("one", ("/no/such",)))


def _agents(folder: pathlib.Path, evolve: str) -> agents.Agents:
    """Two agents on hosts that a stand-in for ssh reaches."""
    (folder / "project").mkdir()
    python = folder / "python"
    python.write_text(f"#!/bin/bash\n{evolve}\n")
    ssh = folder / "ssh"
    ssh.write_text(
        f'#!/bin/bash\necho "$1: $2" >> {folder}/asked\nexec bash -c "$2"\n'
    )
    for program in (python, ssh):
        program.chmod(0o755)
    return agents.Agents(
        ["--config=a b.py", "--workdir=gs://b/w"],
        2,
        hosts=["first", "second"],
        host_dir=str(folder / "project"),
        host_python=str(python),
        ssh=[str(ssh)],
    )


def test_agents_are_dealt_over_hosts_with_their_flags_intact(tmp_path):
    made = _agents(tmp_path, f'pwd >> {tmp_path}/n; echo "$2" >> {tmp_path}/n')
    lines: list[str] = []
    running = supervisor.Supervisor(
        made.jobs(), lines.append, on_line=made.on_line
    )
    assert running.run() == 0
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sorted(line.partition(":")[0] for line in asked) == [
        *("first", "second"),
    ]
    seen = (tmp_path / "n").read_text().splitlines()
    assert sorted(set(seen)) == ["--config=a b.py", str(tmp_path / "project")]
    assert not any("agent process" in line for line in lines)


def test_stopping_an_agent_on_a_host_signals_it_there(tmp_path):
    made = _agents(
        tmp_path, "trap 'exit 75' TERM; echo up; while :; do sleep 0.05; done"
    )
    lines: list[str] = []
    running = supervisor.Supervisor(
        made.jobs(), lines.append, on_line=made.on_line
    )
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(running.run()))
    thread.start()
    _wait_for(lambda: sum("up" in line for line in lines) == 2)
    running.stop()
    thread.join(_SECS_MAX)
    assert found == [75]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sum("kill -TERM" in line for line in asked) == 2


def test_hosts_that_share_no_bucket_are_refused():
    with pytest.raises(errors.UsageError, match="gs://"):
        agents.Agents(["--workdir=/nfs/w"], 2, hosts=["first", "second"])


def test_local_agents_divide_the_cores():
    jobs = agents.Agents(["--workdir=w"], 3).jobs()
    share = str(max(1, (os.cpu_count() or 1) // 3))
    assert {job.env["TF_NUM_INTRAOP_THREADS"] for job in jobs} == {share}
    assert jobs[0].command[0] == sys.executable
    assert [job.name for job in jobs] == ["agent 0", "agent 1", "agent 2"]


@pytest.mark.parametrize("wrong", [(0, []), (1, [""]), (1, ["-oProxy"])])
def test_agents_that_cannot_be_are_refused(wrong):
    num_agents, hosts = wrong
    with pytest.raises(errors.UsageError):
        agents.Agents(["--workdir=gs://b/w"], num_agents, hosts=hosts)
