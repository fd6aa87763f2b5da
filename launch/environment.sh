# Sourced by the two set-up-and-go scripts: makes .venv and installs into it.
# Expects $ROOT, the checkout; defines setup_environment EXTRAS.

fail() {
  echo "error: $1" >&2
  exit 1
}

find_python() {
  # The newest supported Python that is here; PYTHON overrides.
  local name
  for name in ${PYTHON:-python3.11 python3.12 python3.13 python3.10 python3}; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c '
import sys
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "Python 3.10 to 3.13 is needed and $(
    python3 --version 2>/dev/null || echo 'no Python') was found; install one, or name it with PYTHON=..."
}

setup_environment() {
  local extras=$1 python free_mib stamp
  python=$(find_python) || exit 1
  free_mib=$(df -Pm "$ROOT" | awk 'NR == 2 {print $4}')
  if [ ! -d "$ROOT/.venv" ] && [ "$free_mib" -lt 4096 ]; then
    fail "the disk of $ROOT has $free_mib MiB free and the environment needs 4096; free some and run this again"
  fi
  if [ ! -x "$ROOT/.venv/bin/python" ]; then
    echo "making .venv with $($python --version)"
    "$python" -m venv "$ROOT/.venv" ||
      fail "could not make $ROOT/.venv; install Python's venv module"
  fi
  # Installing again is skipped while setup.cfg is what was installed.
  stamp="$ROOT/.venv/.installed-$(echo "$extras" | tr ',' '-')"
  if [ ! -e "$stamp" ] || ! cmp -s "$ROOT/setup.cfg" "$stamp"; then
    echo "installing keras_munet[$extras] (about 2 GiB; minutes)"
    "$ROOT/.venv/bin/python" -m pip install --quiet \
      --disable-pip-version-check --editable "$ROOT[$extras]" ||
      fail "pip could not install keras_munet[$extras]; its message is above; check the network to your package index and the free disk space, and run this again"
    cp "$ROOT/setup.cfg" "$stamp"
  fi
}
