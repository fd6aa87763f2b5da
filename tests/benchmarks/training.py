"""How fast training is, beside other ViTs and beside what it must compute.

    python -m venv PEERS && PEERS/bin/pip install jax flax optax torch timm
    python tests/benchmarks/training.py --out=DIR \
        --peers_python=PEERS/bin/python --data_dir=FOLDER \
        [--manual_dir=FOLDER] [--parts=a,b,c,e,ti3] [--peers=flax,timm]

    a    the train step of Ti/16 against keras-hub, Flax, PyTorch and timm, each
         in float32 and with products in bfloat16
    b    the same against the machine's matrix products of that precision
    c    fused generations of 8 children against their unique operations
    e    growth of time and memory with children, layers and tasks
    ti3  children per hour of `ti3 characters` on MNIST against the authors'

(`ti0_cmaterdb.py` is part d.) SGD with momentum, all cores; in bfloat16 every
program keeps float32 weights and multiplies in bfloat16, as its library means
it: `mixed_bfloat16`, Flax's `dtype`, PyTorch's autocast. Parts c and e are in
float32, ti3 as the settings' defaults say. Programs of one precision take
turns, medians. Writes training.json, training.md and training.svg to DIR.
About 15 minutes on two free cores; `--tiny` shows in two that it works.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import measuring
import training_plot
import training_tables
from absl import app
from absl import flags

_PEERS = {
    "keras_hub": ("peer_keras_hub.py",),
    "flax": ("peer_flax.py",),
    "torch": ("peer_torch.py", "plain"),
    "timm": ("peer_torch.py", "timm"),
    "torch_compiled": ("peer_torch.py", "plain", "compiled"),
}
_PRECISIONS = ("float32", "bfloat16")
_SHAPES = (
    {"num_layers": 3, "image_size": 32, "batch_size": 512},
    {"num_layers": 12, "image_size": 32, "batch_size": 512},
    {"num_layers": 12, "image_size": 224, "batch_size": 16},
)
_TINY_SHAPES = ({"num_layers": 1, "image_size": 32, "batch_size": 8},)
_PEAK_SIDES = (2048, 4096)
_TINY_FUSED = (
    *("--num_layers=2", "--batch_size=8", "--num_generations=2"),
    *("--num_later=1", "--num_separate=1"),
)
# The authors' program on `ti0 cmaterdb`, seed 4, on two free cores: seconds
# beside the training of its 192 children, and the step of a Flax ViT of 3
# layers at batch 512 on that machine (docs/measured/performance.md).
_AUTHORS_COMPILE_SECS = 340.0
_AUTHORS_LOOP_SECS = 152.0
_AUTHORS_NUM_CHILDREN = 192
_AUTHORS_STEP_SECS = 0.140

_OUT = flags.DEFINE_string("out", None, "Folder of results.", required=True)
_PARTS = flags.DEFINE_list("parts", ["a", "b", "c", "e", "ti3"], "What to do.")
_PEERS_PYTHON = flags.DEFINE_string(
    "peers_python", None, "A Python with jax, flax, optax, torch and timm."
)
_CHOSEN_PEERS = flags.DEFINE_list(
    "peers",
    ["keras_hub", "flax", "torch", "timm"],
    f"Of part a; there are: {', '.join(_PEERS)}.",
)
_CHOSEN_PRECISIONS = flags.DEFINE_multi_enum(
    "precision", list(_PRECISIONS), _PRECISIONS, "Of parts a and b."
)
_NUM_TURNS = flags.DEFINE_integer("num_turns", 5, "Of parts a and b.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 3, "Steps of a turn.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Of ti3: prepared TFDS data, or where they go."
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Of ti3: mnist/*.gz.")
_TINY = flags.DEFINE_bool("tiny", False, "Sizes that prove nothing.")


@contextlib.contextmanager
def _program(*args: str) -> Iterator[measuring.Program]:
    """Starts a program, in the peers' Python if it needs their packages."""
    foreign = args[0] in ("peer_flax.py", "peer_torch.py")
    made = (
        measuring.Program(args, _PEERS_PYTHON.value)
        if foreign
        else measuring.Program(args)
    )
    try:
        yield made
    finally:
        made.close()


def _steps() -> list[dict[str, Any]]:
    """Returns the steps of every shape, ours, the peers' and matrix products.

    A record has `precision` and `shape`, and by program: `said` and `secs`.
    """
    return [
        step
        for precision in _CHOSEN_PRECISIONS.value
        for step in _steps_in(precision)
    ]


def _steps_in(precision: str) -> list[dict[str, Any]]:
    """Returns the steps of one precision; see `_steps`."""
    commands: dict[str, Sequence[str]] = {"ours": ("peer_ours.py", precision)}
    if "a" in _PARTS.value:
        for name in _CHOSEN_PEERS.value:
            commands[name] = (*_PEERS[name], precision)
    for side in _PEAK_SIDES:
        commands[f"matmul {side}"] = ("peer_matmul.py", str(side), precision)
    steps = []
    with contextlib.ExitStack() as stack:
        programs = {}
        for name, args in commands.items():
            programs[name] = stack.enter_context(_program(*args))
            # It imports before the next one does.
            programs[name].ask({})
        for shape in _TINY_SHAPES if _TINY.value else _SHAPES:
            said = {
                name: program.ask({"shape": shape})
                for name, program in programs.items()
            }
            num_turns = 1 if _TINY.value else _NUM_TURNS.value
            secs = measuring.take_turns(programs, num_turns, _NUM_STEPS.value)
            step = {"shape": shape, "said": said, "secs": secs}
            steps.append({"precision": precision, **step})
    return steps


def _fused() -> list[dict[str, Any]]:
    """Returns the generations of `fused.py`."""
    with _program("fused.py", *(_TINY_FUSED * _TINY.value)) as program:
        return list(program.answers())


def _growth() -> dict[str, list[dict[str, Any]]]:
    """Returns what grows -> the points of `growth.py`."""
    found = {}
    for kind in ("children", "layers", "tasks"):
        args = [kind, *["--tiny"] * _TINY.value]
        with _program("growth.py", *args) as program:
            found[kind] = list(program.answers())
    return found


def _characters() -> dict[str, Any]:
    """Returns our run of `characters.py` and what the authors' would take.

    Their seconds per child are counted low, so that the ratio is: the steps,
    as a bare Flax step that has gradients for the child's trained places
    alone (measured here, the mean over the run's children, adapters left
    out); and, once per child, what they spent beside training on `ti0
    cmaterdb`, compiling and in the loop around, scaled by the Flax step of
    then and now. That their loop costs more the longer it runs is left out.
    """
    num_steps = 1 if _TINY.value else 10
    args = [f"--data_dir={_DATA_DIR.value}", f"--num_steps={num_steps}"]
    args.append(f"--manual_dir={_MANUAL_DIR.value}")
    batch = {"image_size": 32, "batch_size": 512}
    whole = {"num_layers": 3, **batch}
    with _program("peer_flax.py", "float32") as flax:

        def step_secs(shape: dict[str, Any]) -> float:
            flax.ask({"shape": shape})
            return statistics.median(flax.ask({"steps": 7})["secs"])

        before = step_secs(whole)
        with _program("characters.py", *args) as program:
            (run,) = program.answers()
        partial: dict[str, float] = {}
        children = [json.dumps(child) for child in run.pop("children")]
        for child in dict.fromkeys(children):
            partial[child] = step_secs({**batch, **json.loads(child)})
        after = step_secs(whole)
    now = statistics.mean([before, after])
    beside = (_AUTHORS_COMPILE_SECS + _AUTHORS_LOOP_SECS) / (
        _AUTHORS_NUM_CHILDREN
    )
    return {
        **run,
        "flax_step_secs": now,
        "flax_child_step_secs": statistics.mean(partial[c] for c in children),
        "authors_beside_secs": beside * now / _AUTHORS_STEP_SECS,
    }


def _write(found: dict[str, Any]) -> None:
    """Writes what there is so far."""
    folder = pathlib.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    (folder / "training.json").write_text(text + "\n")
    (folder / "training.md").write_text(training_tables.text(found))
    training_plot.save(found, folder / "training.svg")


def _checked(parts: Sequence[str]) -> None:
    """Refuses what cannot be measured, before anything is."""
    unknown = set(parts) - {"a", "b", "c", "e", "ti3"}
    unknown |= set(_CHOSEN_PEERS.value) - set(_PEERS)
    if unknown:
        raise app.UsageError(
            f"unknown: {', '.join(sorted(unknown))}; parts are a, b, c, e and "
            f"ti3, peers {', '.join(_PEERS)}"
        )
    foreign = "a" in parts and set(_CHOSEN_PEERS.value) - {"keras_hub"}
    if ("ti3" in parts or foreign) and _PEERS_PYTHON.value is None:
        raise app.UsageError("parts a and ti3 need --peers_python")
    if "ti3" in parts and _DATA_DIR.value is None:
        raise app.UsageError("part ti3 needs --data_dir")


def main(argv: list[str]) -> None:
    """Measures what was chosen, writing after each part."""
    del argv
    parts = _PARTS.value
    _checked(parts)
    found: dict[str, Any] = {"header": measuring.header()}
    measured: dict[str, tuple[bool, Callable[[], Any]]] = {
        "steps": ("a" in parts or "b" in parts, _steps),
        "fused": ("c" in parts, _fused),
        "growth": ("e" in parts, _growth),
        "characters": ("ti3" in parts, _characters),
    }
    for name, (chosen, measure) in measured.items():
        if chosen:
            started = time.perf_counter()
            found[name] = measure()
            secs = time.perf_counter() - started
            print(f"{name}: measured in {secs:.0f} s", flush=True)
            _write(found)
    print(training_tables.text(found), end="")


if __name__ == "__main__":
    app.run(main)
