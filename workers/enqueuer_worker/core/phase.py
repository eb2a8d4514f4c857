"""The phases of a worker, and the legal ways from one to another.

    OFFLINE ── open ──► HELLO ── Welcome ──► SERVING ── drain ──► DRAINING ── all answered ──► LEAVING ── Bye ──► GONE
       ▲                  │                     │                    │                            │
       └── link broken, Stop, coordinator silent, another address ───┴────────────────────────────┘

GONE is also the end of every other phase: on Reject, at the drain deadline, and for a drain without a session.
"""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """A worker's progress with its coordinator, from the first link to the end."""

    OFFLINE = auto()  # no link; the next one is opened at a known time, or at another address
    HELLO = auto()  # a link, and no answer to the Hello yet
    SERVING = auto()
    DRAINING = auto()  # answers what it holds, then leaves
    LEAVING = auto()  # has said Goodbye, and waits for the Bye
    GONE = auto()


# Legal transitions. A missing entry is a defect of the worker and leaves the phase as it was.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.OFFLINE: frozenset({Phase.HELLO, Phase.GONE}),
    Phase.HELLO: frozenset({Phase.SERVING, Phase.DRAINING, Phase.OFFLINE, Phase.GONE}),
    # From each of these three: a Welcome to another session on the same link leads to SERVING, in a drain to DRAINING.
    Phase.SERVING: frozenset({Phase.SERVING, Phase.DRAINING, Phase.OFFLINE, Phase.GONE}),
    Phase.DRAINING: frozenset({Phase.DRAINING, Phase.LEAVING, Phase.OFFLINE, Phase.GONE}),
    Phase.LEAVING: frozenset({Phase.DRAINING, Phase.OFFLINE, Phase.GONE}),
    Phase.GONE: frozenset(),
}
# The phases in which the coordinator takes messages of the session.
LINKED = (Phase.SERVING, Phase.DRAINING, Phase.LEAVING)
