"""What goes into the core. Hot-path events carry lists: an object per batch is too dear at 100 000 batches/s.

Those that come with every result are named tuples: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from enqueuer.protocol.messages import Message


class Route(NamedTuple):
    """Where a message came from or goes to: a socket pair's name and the address of the peer on it."""

    channel: str
    address: bytes


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """``key`` is the name of the key that the connection proved; '' without keys."""

    route: Route
    session: bytes
    message: Message
    key: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A control message that could not be read."""

    route: Route
    reason: str


class ResultsReceived(NamedTuple):
    """One result message. ``payloads`` are opaque; ``nbytes`` is what they weigh and ``busy`` the compute time in
    seconds, of all together.
    """

    incarnation: bytes
    epoch: int
    generation: int
    seq: int
    busy: float
    leases: Sequence[int]
    payloads: Sequence[Any]
    nbytes: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class ResultsRefused:
    """A result message that is not what it says. ``incarnation`` is empty, and so is ``leases`` (and ``seq`` is 0),
    where it cannot be read who sent it, and what it would have answered.
    """

    incarnation: bytes
    seq: int
    leases: Sequence[int]
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class BlockUnavailable:
    """What a result message has put into shared memory cannot be read here. It counts as not received."""

    incarnation: bytes
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class RouteLost:
    """A message could not be sent there: the peer is gone, or its connection is."""

    route: Route


@dataclass(frozen=True, slots=True)
class SupervisorDied:
    """The trainer saw its own supervisor's process end; its children die with it."""

    supervisor: bytes


@dataclass(frozen=True, slots=True)
class ThreadsJoined:
    """The trainer's own threads: one worker with many slots, that cannot be lost."""

    route: Route
    incarnation: bytes
    host: str
    pid: int
    slots: int


@dataclass(frozen=True, slots=True)
class ThreadTimedOut:
    """One of the trainer's own threads took longer than ``batch_timeout``; another has been started in its place.

    ``stack`` says where it was.
    """

    incarnation: bytes
    epoch: int
    generation: int
    lease: int
    stack: str


@dataclass(frozen=True, slots=True)
class EpochOpened:
    """An epoch (or a newer state generation of one) can be computed.

    ``order[position]`` is the index. With ``gated``, nothing is delivered before `EpochConfirmed`.
    ``sequence``, ``state`` and ``options`` go to the workers as they are; ``length`` and ``digest`` are what the
    workers' own instances must have (``length`` counts the whole Sequence; an empty digest is not compared).
    Workers elsewhere get ``remote_state`` in place of ``state`` where it is not None; for a live object it is large,
    and without it, for the reason that ``remote_refusal`` gives, they cannot serve.
    """

    epoch: int
    generation: int
    seed: int
    order: Sequence[int]
    length: int
    digest: bytes
    state: Any
    sequence: list[Any] | None
    options: dict[str, Any]
    gated: bool
    remote_state: Any = None
    remote_refusal: str = ""


@dataclass(frozen=True, slots=True)
class EpochConfirmed:
    """What was computed ahead for this epoch is what the trainer wants."""

    epoch: int


class Taken(NamedTuple):
    """The trainer has taken this many outcomes since the session began."""

    total: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The session ends now."""


Event = (
    ControlReceived
    | Malformed
    | ResultsReceived
    | ResultsRefused
    | BlockUnavailable
    | RouteLost
    | SupervisorDied
    | ThreadsJoined
    | ThreadTimedOut
    | EpochOpened
    | EpochConfirmed
    | Taken
    | StopRequested
)
