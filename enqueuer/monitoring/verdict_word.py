"""A verdict in one word: the limit of the training."""

from __future__ import annotations

from enqueuer.core.verdict import Cause

_WORDS = {
    Cause.TOO_EARLY: "",
    Cause.NO_WORKERS: "no worker",
    Cause.ERRORS: "errors",
    Cause.NOTHING: "trainer",
    Cause.WORKERS: "workers",
    Cause.ORDER: "late batch",
    Cause.NETWORK: "network",
    Cause.COORDINATOR: "coordinator",
    Cause.STORAGE: "storage",
    Cause.INTERPRETER: "interpreter",
    Cause.UNKNOWN: "data",
}


def limit_word(cause: Cause) -> str:
    """The limit of the training, such as "workers"; '' while it is too early to tell."""
    return _WORDS[cause]
