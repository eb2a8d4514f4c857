"""The rules of a worker's owner. A supervisor reads them too, which needs none of the core's events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a worker's owner. Times in seconds."""

    # A remote worker looks for the next session by itself; a local one waits for its trainer to name it.
    reconnects: bool = True
    # Leave after one session.
    once: bool = False
    # The longest drain; after it the worker leaves with leases unanswered.
    drain_timeout: float = 30.0
    # The pause before another attempt to connect: the first, doubled up to the longest.
    first_reconnect_interval: float = 0.1
    max_reconnect_interval: float = 5.0
    # The pause between two Hellos without an answer.
    hello_interval: float = 1.0
