#!/bin/sh
# Installs the library and its tests' requirements into .venv, then runs the tests: `sh tests/run.sh [PYTEST ARGUMENT …]`.
set -eu
cd "$(dirname "$0")/.."

if ! python3 -m venv .venv; then # Debian and Ubuntu have it in a package of its own
    $([ "$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get update && apt-get install -y python3-venv'
    python3 -m venv .venv
fi
.venv/bin/pip install -q 'pip>=25.1' # the first that knows dependency groups
.venv/bin/pip install -q -e . --group test

# Hundreds of processes import the library. Each would compile it again if none kept the bytecode, and start threads for
# large matrices, which there are none of.
unset PYTHONDONTWRITEBYTECODE
export OPENBLAS_NUM_THREADS=1

# Most tests wait most of the time, so there are more of pytest's workers than cores: see tests/conftest.py.
exec .venv/bin/python -m pytest -n auto --max-worker-restart 0 "$@"
