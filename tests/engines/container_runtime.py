"""`runc` for a root that may not lower a process's OOM score, as in some virtual machines: it has no CAP_SYS_RESOURCE.

kubelet asks for a score of -998 for the process that holds a pod's namespaces. Without the capability runc fails at
that; with this one, which a Docker engine that is started in the block finds first, such scores become 0.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SYS_RESOURCE = 24
_SCRIPT = r"""#!/bin/sh
for argument in "$@"; do
    case $previous in --bundle|-b) bundle=$argument ;; esac
    previous=$argument
done
[ -z "$bundle" ] || sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$bundle/config.json"
exec {runc} "$@"
"""


@contextlib.contextmanager
def runtime_for_pods() -> Iterator[None]:
    """Nothing changes where the capability is there."""
    runc = shutil.which("runc")
    if runc is None or _may_lower_scores():
        yield
        return
    before = os.environ["PATH"]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        script = Path(directory) / "runc"
        script.write_text(_SCRIPT.replace("{runc}", runc))
        script.chmod(0o755)
        os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before


def _may_lower_scores() -> bool:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
