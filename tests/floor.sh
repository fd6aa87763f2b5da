#!/usr/bin/env bash
# Tests the oldest or the newest versions that setup.cfg allows.
#   bash tests/floor.sh [--ceiling] [FOLDER] [pytest arguments]
# Makes a clean environment in FOLDER (default: a new temporary one), installs
# the wheel with the lowest version of every requirement, or with --ceiling the
# highest, and runs the tests below from outside of the checkout.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/launch/environment.sh"
which=floor
if [ "${1:-}" = "--ceiling" ]; then
  which=ceiling
  shift
fi
folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] && shift
mkdir -p "$folder"
"$(find_python)" -m venv "$folder/env"
python=$folder/env/bin/python

# "keras>=3.12,<3.16" is keras==3.12 at the floor.
if [ "$which" = floor ]; then
  "$python" - "$ROOT/setup.cfg" >"$folder/constraints.txt" <<'END'
import configparser
import re
import sys

config = configparser.ConfigParser()
config.read(sys.argv[1])
wanted = config["options"]["install_requires"]
wanted += config["options.extras_require"]["embedded"]
for line in wanted.splitlines():
    found = re.match(r"([\w-]+)>=([\d.]+)", line.strip())
    if found:
        print("{}=={}".format(*found.groups()))
END
else
  : >"$folder/constraints.txt"
fi
cat "$folder/constraints.txt"

# A copy, since building leaves files beside the sources.
mkdir -p "$folder/source"
(cd "$ROOT" && tar cf - --exclude=.venv --exclude=.git --exclude=runs \
  --exclude=__pycache__ --exclude='*.egg-info' .) | tar xf - -C "$folder/source"
"$python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$folder/constraints.txt" \
  "$folder/source[embedded]" pytest hypothesis safetensors
"$python" -m pip list --disable-pip-version-check 2>/dev/null |
  grep -i -E '^(tensorflow|keras|numpy|tensorflow-datasets|ml.collections|scikit-learn|matplotlib) '

# The tests alone, so that the installed package is what they import.
cp -r "$folder/source/tests" "$folder/source/setup.cfg" "$folder/source/configs" "$folder/"
cd "$folder"
selected=(
  tests/core/test_settings.py tests/test_keras_registration.py
  tests/models/keras_blocks/test_layers.py tests/models/test_path_model.py
  tests/models/vit/test_layers.py tests/models/vit/test_functions.py
  tests/train/graph/test_generation.py tests/train/test_optimizer.py
  tests/system/test_system.py tests/export/test_saved_model.py
  tests/store/test_system_dir.py tests/search/test_evolution.py
)
"$python" -m pytest -q -m "not slow" -p no:cacheprovider "${@:-${selected[@]}}"
