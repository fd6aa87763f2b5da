#!/usr/bin/env bash
# Makes an environment with the TensorFlow that is built for TPUs.
#   bash launch/tpu_env.sh DIR [tpu|tpu-aot]
# tpu: on a TPU VM. tpu-aot: anywhere, to compile for TPUs (launch/dry_run.py).
# tensorflow and tensorflow-tpu write the same folder, and pip cannot be told
# that one stands for the other: so the project is installed without what it
# asks for, and that, less tensorflow, with what the extra of setup.cfg pins.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/launch/environment.sh"
[ $# -ge 1 ] || fail "no folder is given; write: bash launch/tpu_env.sh DIR [tpu|tpu-aot]"
DIR=$1
EXTRA=${2:-tpu}
case $EXTRA in
  tpu | tpu-aot) ;;
  *) fail "the extra $EXTRA is unknown; give tpu or tpu-aot" ;;
esac
PYTHON_FOUND=$(find_python) || exit 1
[ -x "$DIR/bin/python" ] || "$PYTHON_FOUND" -m venv "$DIR"

# What setup.cfg asks for, but for the other TensorFlow.
NEEDED=$("$DIR/bin/python" - "$ROOT/setup.cfg" "$EXTRA" <<'PYTHON'
import configparser
import re
import sys

config = configparser.ConfigParser()
config.read(sys.argv[1])
lines = config["options"]["install_requires"].splitlines()
lines += config["options.extras_require"][sys.argv[2]].splitlines()
for line in lines:
    if line and not line.startswith("#"):
        if re.split(r"[^a-z_-]", line)[0] != "tensorflow":
            print(line)
PYTHON
)
echo "installing keras_munet[$EXTRA] into $DIR (about 3 GiB; minutes)"
pip_install() {
  "$DIR/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "pip could not install keras_munet[$EXTRA]; its message is above"
}
printf '%s\n' "$NEEDED" >"$DIR/requirements.txt"
pip_install --requirement "$DIR/requirements.txt"
pip_install --no-deps --editable "$ROOT"
echo "done: use $DIR/bin/python"
