"""A worker process's surroundings, set before any large import: its parent's life, memory, paths, seed of hashes."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_HASH_SEED = "PYTHONHASHSEED"
# Marks the seed as ours; without it, the seed is the user's.
_OUR_HASH_SEED = "ENQUEUER_HASH_SEED"


def die_with_parent(parent_pid: int) -> None:
    """End with the supervisor, even while user code holds the GIL. Linux only; elsewhere the EOF of stdin must do."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The supervisor may have died before that call.
    if os.getppid() != parent_pid:
        os._exit(1)


def limit_memory(nbytes: int) -> None:
    """Let allocations beyond ``nbytes`` fail. Each child process of user code has the same limit for itself."""
    import resource

    # Not RLIMIT_AS: it counts mapped files as well, such as 100 GB of an array read in pieces.
    kind = resource.RLIMIT_DATA
    _, hard = resource.getrlimit(kind)
    limit = nbytes if hard == resource.RLIM_INFINITY else min(nbytes, hard)
    resource.setrlimit(kind, (limit, limit))


def take_over_paths(sys_path: tuple[str, ...]) -> None:
    """Use the trainer's `sys.path`, for user code: this program has imported its own modules by now."""
    sys.path[:] = sys_path


def fix_hash_seed(environment: dict[str, str]) -> None:
    """Give a worker process the hash seed of the whole fleet, unless the environment sets one.

    Without it a set of texts has another order in each process, and so have class numbers made from the set.
    """
    if not environment.get(_HASH_SEED):
        environment.update({_HASH_SEED: "0", _OUR_HASH_SEED: "0"})


def forget_hash_seed() -> None:
    """Take our seed out of the environment: it is not for programs that user code starts."""
    if os.environ.pop(_OUR_HASH_SEED, None) is not None:
        os.environ.pop(_HASH_SEED, None)
