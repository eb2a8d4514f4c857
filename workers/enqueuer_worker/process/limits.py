"""What a worker process is bound to before it imports anything large: its parent's life, its memory, its paths."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """On Linux: be killed when the supervisor dies, even while user code holds the GIL. Elsewhere its EOF has to do."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before that call.
    if os.getppid() != parent_pid:
        os._exit(1)


def limit_memory(nbytes: int) -> None:
    """Let this process have that much: allocations beyond it fail. Children of user code have the same limit each."""
    import resource

    # Not RLIMIT_AS, which counts what is only mapped as well: a file of 100 GB that NumPy reads pieces of.
    kind = resource.RLIMIT_DATA
    _, hard = resource.getrlimit(kind)
    limit = nbytes if hard == resource.RLIM_INFINITY else min(nbytes, hard)
    resource.setrlimit(kind, (limit, limit))


def take_over_paths(sys_path: tuple[str, ...], python_path: str | None) -> None:
    """Import from where the trainer does; programs that user code starts see the PYTHONPATH that the trainer has."""
    sys.path[:] = sys_path
    if python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = python_path
