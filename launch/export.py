"""Writes published paths as one SavedModel, or replays what one recorded.

    python launch/export.py --workdir=DIR --out=OUT [--tasks=a,b] [--versioned]
        [--data_dir=DATA] [--verify=all]
    python launch/export.py --verify --out=OUT

`--verify` runs the export, or the newest version, on its canary and compares
bit for bit; then with those of the older versions, for every task that has
not changed since. An export of more than 8 tasks records `all_tasks`, and the
own signatures of some tasks: with `--verify=all` of every task. Without a
`--workdir` that also asks the signatures that were not recorded, and compares
them with `all_tasks`. With `--data_dir` the canary of a task of one's own
pictures holds some of the original files.
"""

from __future__ import annotations

import pathlib

import launching
from absl import flags

from keras_munet import errors

_WORKDIR = flags.DEFINE_string("workdir", None, "The system's directory.")
_OUT = flags.DEFINE_string("out", None, "The folder to make.", required=True)
_TASKS = flags.DEFINE_list("tasks", None, "Tasks to serve; default all.")
_VERSIONED = flags.DEFINE_bool(
    "versioned", False, "Write OUT/1, OUT/2, ... as TensorFlow Serving wants."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", "float32", "How weights are stored: float32, bfloat16 or int8."
)
_CLASSIFY = flags.DEFINE_bool("classify", False, "Add classify_<task>.")
_FORMATS = flags.DEFINE_list(
    "formats",
    ["savedmodel"],
    "savedmodel, and fixed_size, onnx, tflite or a plug-in's.",
)
_TFLITE = flags.DEFINE_bool("tflite", False, "As --formats=savedmodel,tflite.")
_FEATURES = flags.DEFINE_string(
    "feature_component", None, "What `features` returns; default the head's."
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", "keras_munet", "The name that it is served under."
)
_WEBP = flags.DEFINE_bool(
    "webp", False, "Decode WebP files too; needs TensorFlow 2.20 to be loaded."
)
_CALIBRATE = flags.DEFINE_bool(
    "calibrate",
    False,
    "Divide logits by the temperature fitted on validation data.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Prepared data; original files of own tasks are verified."
)


class _VerifyParser(flags.ArgumentParser):
    """Reads `--verify`, which may stand without a value."""

    def parse(self, argument: str) -> str:
        """Returns the value; nothing for `--noverify`."""
        return {"true": _REPLAY, "false": ""}.get(argument, argument)


_REPLAY = "replay"
_VERIFY = flags.DEFINE_flag(
    flags.Flag(
        *(_VerifyParser(), None, "verify", ""),
        "Replay the canary of what lies in OUT; or, as sample or all, the "
        "tasks whose own signatures an export records, or a replay asks.",
        boolean=True,
    )
)


def main() -> None:
    """Exports or verifies, and says where."""
    workdir = _WORKDIR.value
    if _VERIFY.value == _REPLAY or (_VERIFY.value and workdir is None):
        launching.quiet_tensorflow()
        _verify(pathlib.Path(_OUT.value), _VERIFY.value)
        return
    if workdir is None:
        raise errors.UsageError(
            "no --workdir is given; give the system's directory, or --verify"
        )
    launching.quiet_tensorflow()
    from keras_munet.core import settings
    from keras_munet.system import system

    opened = system.System.open(
        workdir, settings.DataSettings(data_dir=_DATA_DIR.value)
    )
    out = opened.export(
        _OUT.value,
        _TASKS.value,
        versioned=_VERSIONED.value,
        weights=_WEIGHTS.value,
        classify=_CLASSIFY.value,
        formats=_FORMATS.value,
        tflite=_TFLITE.value,
        feature_component=_FEATURES.value,
        model_name=_MODEL_NAME.value,
        webp=_WEBP.value,
        calibrate=_CALIBRATE.value,
        verify=_VERIFY.value or "sample",
    )
    print(f"SavedModel: {out}")


def _verify(out: pathlib.Path, verify: str) -> None:
    from keras_munet.export import golden_outputs
    from keras_munet.export import options
    from keras_munet.export import output_dir

    verify = options.SAMPLE if verify == _REPLAY else verify
    recorded = output_dir.versions(out) or [out]
    newest = recorded[-1]
    for folder in reversed(recorded):
        result = golden_outputs.replay(newest, folder, verify)
        line = f"{newest}: {result.num_outputs} outputs equal to {folder}"
        if result.num_skipped:
            line += f", {result.num_skipped} of other paths or weights"
        if result.num_near:
            line += f", {result.num_near} within 1e-5"
        print(line)


if __name__ == "__main__":
    launching.run(main)
