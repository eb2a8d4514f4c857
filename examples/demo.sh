#!/bin/sh
# Installs the library and the demo's requirements into .venv, then runs the demo: `sh examples/demo.sh [OPTION …]`.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

if ! python3 -m venv "$root/.venv"; then # Debian and Ubuntu have it in a package of its own
    $([ "$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get update && apt-get install -y python3-venv'
    python3 -m venv "$root/.venv"
fi
"$root/.venv/bin/pip" install -q -e "$root[demo]"

# From the caller's directory: an option may name a file there.
exec "$root/.venv/bin/enqueuer" demo "$@"
