"""The files that start agents elsewhere are what their schedulers take."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_FOLDER = _ROOT / "examples" / "agents"
# The part of the schema of batch/v1 that the file uses; no other key is one.
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["action"],
    "properties": {
        "action": {"enum": ["FailIndex", "FailJob", "Ignore", "Count"]},
        "onExitCodes": {
            "type": "object",
            "additionalProperties": False,
            "required": ["operator", "values"],
            "properties": {
                "containerName": {"type": "string"},
                "operator": {"enum": ["In", "NotIn"]},
                "values": {"type": "array", "items": {"type": "integer"}},
            },
        },
        "onPodConditions": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "status"],
                "properties": {
                    "type": {"type": "string"},
                    "status": {"enum": ["True", "False", "Unknown"]},
                },
            },
        },
    },
}
_CONTAINER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "image", "command"],
    "properties": {
        "name": {"type": "string"},
        "image": {"type": "string"},
        "workingDir": {"type": "string"},
        "command": {"type": "array", "items": {"type": "string"}},
        "args": {"type": "array", "items": {"type": "string"}},
        "resources": {"type": "object"},
    },
}
_COUNT = {"type": "integer", "minimum": 0}
_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "batch/v1"},
        "kind": {"const": "Job"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["template"],
            "properties": {
                "completionMode": {"enum": ["Indexed", "NonIndexed"]},
                "parallelism": _COUNT,
                "completions": _COUNT,
                "backoffLimitPerIndex": _COUNT,
                "maxFailedIndexes": _COUNT,
                "podFailurePolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["rules"],
                    "properties": {"rules": {"type": "array", "items": _RULE}},
                },
                "template": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["containers", "restartPolicy"],
                            "properties": {
                                "serviceAccountName": {"type": "string"},
                                # With a policy of failures, no other.
                                "restartPolicy": {"const": "Never"},
                                "terminationGracePeriodSeconds": _COUNT,
                                "containers": {
                                    "type": "array",
                                    "items": _CONTAINER,
                                },
                            },
                        }
                    },
                },
            },
        },
    },
}


def _flags_of(program: str) -> str:
    return (_ROOT / program).read_text(encoding="utf-8")


def test_the_job_of_kubernetes_fits_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    text = (_FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)
    jsonschema.Draft202012Validator(_JOB).validate(job)
    spec = job["spec"]
    assert spec["parallelism"] == spec["completions"]
    assert spec["maxFailedIndexes"] < spec["completions"]
    (container,) = spec["template"]["spec"]["containers"]
    _, program = container["command"]
    for flag in container["args"]:
        name = flag.partition("=")[0].removeprefix("--")
        assert f'"{name}"' in _flags_of(program)
    names = {
        rule["onExitCodes"]["containerName"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert names == {container["name"]}


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, ""), (75, "requeue 12_3\n"), (2, "")]
)
def test_an_agent_of_slurm_that_was_stopped_is_queued_again(
    tmp_path, code, requeued
):
    for name, text in {
        "srun": f'echo "$@" > {tmp_path}/srun.txt; exit {code}',
        "scontrol": f'echo "$@" > {tmp_path}/scontrol.txt',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    ended = subprocess.run(
        ["bash", _FOLDER / "slurm.sbatch", "gs://bucket/folder"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "12",
            "SLURM_ARRAY_TASK_ID": "3",
        },
        check=False,
    )
    assert ended.returncode == code
    command = (tmp_path / "srun.txt").read_text()
    assert "--workdir=gs://bucket/folder" in command
    (program,) = re.findall(r"launch/\w+\.py", command)
    assert (_ROOT / program).exists()
    queued = tmp_path / "scontrol.txt"
    assert (queued.read_text() if queued.exists() else "") == requeued


def test_an_agent_of_slurm_needs_a_folder():
    ended = subprocess.run(
        ["bash", _FOLDER / "slurm.sbatch"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0 and "give the folder" in ended.stderr
