"""What the exit code of a worker process says."""

from __future__ import annotations

from enqueuer.protocol.messages import ExitCode

# What it ends with on purpose.
DELIBERATE_EXITS = frozenset(ExitCode)


def describe_exit(exit_code: int) -> str:
    """For a human: how a process ended. Negative for a signal, as in `subprocess`."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    hint = " (out of memory?)" if exit_code == -9 else ""
    return f"signal {-exit_code}{hint}"
