#!/usr/bin/env bash
# Sets everything up and runs the checks and the tests.
#   bash tests/run.sh [--all] [pytest arguments]
# --all adds the slow tests.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/launch/environment.sh"
setup_environment embedded,test

cd "$ROOT"
bin=.venv/bin
"$bin/ruff" format --check .
"$bin/ruff" check .
"$bin/mypy" keras_munet launch
select=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  select=()
  shift
fi
"$bin/python" -m pytest "${select[@]}" "$@" tests
