#!/usr/bin/env bash
# Sets everything up and runs the checks and the tests.
#   bash tests/run.sh [--all] [pytest arguments]
# --all adds the slow tests.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/launch/environment.sh"
# What the tests import is compiled as they do; pip would compile all.
export PIP_NO_COMPILE=1
setup_environment docs,embedded,heic,hf,hub,keras-hub,mlflow,onnx,overparam,test,wandb

cd "$ROOT"
bin=.venv/bin
"$bin/ruff" format --check .
"$bin/ruff" check .
select=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  select=()
  shift
fi
# Compiles the smallest published experiment, by another TensorFlow.
compile_for_tpu() {
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "not compiled for TPUs: libtpu is made for Linux on x86_64"
    return
  fi
  bash launch/tpu_env.sh .venv/tpu tpu-aot
  .venv/tpu/bin/python launch/dry_run.py --config=configs/ti0_cmaterdb.py \
    --topology=v3-8 >.venv/tpu/dry_run.txt
}

# Types and the TPU program are checked while the first tests run.
(
  "$bin/mypy" keras_munet launch
  if [ $# -eq 0 ]; then compile_for_tpu; fi
) &
checks=$!
# A process for each core, up to four: each takes up to 8 GiB. Tests of a file
# stay together, since they share what its fixtures made, in the order that
# tests/conftest.py gives them.
"$bin/python" -m pytest -n logical --maxprocesses=4 --dist loadfile \
  --no-loadscope-reorder "${select[@]}" "$@" tests
wait "$checks"
# A choice of the tests again, as Bazel lays them out; where there is one.
if [ $# -eq 0 ] && command -v bazel >/dev/null; then
  bash tests/bazel.sh
fi
