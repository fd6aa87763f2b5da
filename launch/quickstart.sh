#!/usr/bin/env bash
# Sets everything up and evolves the quickstart system.
#   bash launch/quickstart.sh [WORKDIR]
# Running it again continues what was interrupted.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORKDIR=${1:-$ROOT/runs/quickstart}
. "$ROOT/launch/environment.sh"
setup_environment embedded

run() { "$ROOT/.venv/bin/python" "$ROOT/launch/$1" "${@:2}"; }
run evolve.py --config="$ROOT/configs/quickstart.py" --workdir="$WORKDIR"
run evaluate.py --workdir="$WORKDIR" --out="$WORKDIR/metrics.json"
if [ ! -e "$WORKDIR/saved_model/saved_model.pb" ]; then
  run export.py --workdir="$WORKDIR" --out="$WORKDIR/saved_model"
fi
# What the point of it is: separate models of the same tasks, and probes.
run compare.py --config="$ROOT/configs/quickstart.py" \
  --workdir="$WORKDIR-compared" --methods=finetune_all,linear_probe --seeds=0 \
  --quiet
run report.py --workdir="$WORKDIR" --comparison="$WORKDIR-compared"
cat <<EOF

The system:      $WORKDIR
Its accuracies:  $WORKDIR/metrics.json
To serve:        $WORKDIR/saved_model
To look at:      $WORKDIR/report/report.html
EOF
