#!/usr/bin/env bash
# Runs the quick tests under Bazel, offline.
#   bash tests/bazel.sh [--install] [bazel test arguments]
# --install gets Debian's bazel-bootstrap first, which needs root.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "${1:-}" = "--install" ]; then
  shift
  command -v bazel >/dev/null ||
    apt-get install -y --no-install-recommends bazel-bootstrap
fi
if ! command -v bazel >/dev/null; then
  echo "error: there is no bazel; run bash tests/bazel.sh --install" >&2
  exit 1
fi
cd "$ROOT"
.venv/bin/python tools/packages.py
# No server is left behind, nor links in the checkout.
PATH="$ROOT/.venv/bin:$PATH" bazel --batch test --symlink_prefix=/ \
  "${@:-//...}"
