"""Events: everything the shell tells the core.

Events of the hot path carry lists: an object a batch is too dear at 100 000 batches a second. They are named tuples,
since a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from enqueuer.protocol.messages import Message, SpecOnWire


class Route(NamedTuple):
    """A peer's connection: the channel's name and the peer's address on it."""

    channel: str
    address: bytes


class Right(Enum):
    """The rights of a control message's sender, by the key proved on its connection."""

    ALL = auto()  # a channel without keys
    SERVE = auto()  # a worker's key
    OBSERVE = auto()  # an observer's key


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """A control message has come. ``key`` names the key its connection proved; '' without keys."""

    route: Route
    session: bytes
    message: Message
    key: str = ""
    right: Right = Right.ALL


@dataclass(frozen=True, slots=True)
class Malformed:
    """A control message has come and cannot be read."""

    route: Route
    reason: str


class ResultsReceived(NamedTuple):
    """A result message has come, for one or more leases.

    ``payloads`` are opaque. ``nbytes`` and ``busy`` (compute time in seconds) count all of them together.
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
    """A result message has come, and its contents contradict its header.

    ``incarnation`` and ``leases`` are empty, and ``seq`` is 0, where the header cannot be read.
    """

    incarnation: bytes
    seq: int
    leases: Sequence[int]
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class BlockUnavailable:
    """A result message names shared memory that cannot be read here. The message counts as not received."""

    incarnation: bytes
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class RouteLost:
    """A message could not be sent: the peer or its connection is gone."""

    route: Route


@dataclass(frozen=True, slots=True)
class SupervisorDied:
    """The process of the trainer's own supervisor has ended, and its children with it."""

    supervisor: bytes


@dataclass(frozen=True, slots=True)
class ThreadsJoined:
    """The trainer's own threads have started: one worker with many slots, never lost."""

    route: Route
    incarnation: bytes
    host: str
    pid: int
    slots: int


@dataclass(frozen=True, slots=True)
class ThreadTimedOut:
    """One of the trainer's own threads took longer than ``batch_timeout``, and another has taken its place.

    ``stack`` is its stack as text.
    """

    incarnation: bytes
    epoch: int
    generation: int
    lease: int
    stack: str


class Setting(NamedTuple):
    """A plain value of a module of the user's: its digest, and the value as text."""

    digest: bytes
    text: str


@dataclass(frozen=True, slots=True)
class EpochOpened:
    """An epoch, or a newer state generation of one, can be computed.

    Attributes:
        epoch: its number.
        generation: its state generation.
        seed: of the session.
        order: ``order[position]`` is the index.
        length: batches of the whole Sequence; a worker's own instance must have as many.
        digest: of code and small state; a worker's own must be equal. Empty: not compared.
        state: the Sequence's state, for workers.
        sequence: the spec on the wire, for workers; None for a live object.
        options: for workers, beside those of their channel.
        gated: nothing is delivered before `EpochConfirmed`.
        remote_state: in place of ``state`` for workers on other hosts, if not None. A live object's is large.
        remote_refusal: why workers on other hosts cannot serve, where a live object has no ``remote_state``.
        settings: plain values of the trainer's modules, by name, for local workers to compare theirs with.
    """

    epoch: int
    generation: int
    seed: int
    order: Sequence[int]
    length: int
    digest: bytes
    state: Any
    sequence: SpecOnWire | None
    options: dict[str, Any]
    gated: bool
    remote_state: Any = None
    remote_refusal: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def for_welcome(self) -> tuple[Any, ...]:
        """The parts that a Welcome carries."""
        return self.sequence, self.options, self.settings


@dataclass(frozen=True, slots=True)
class EpochConfirmed:
    """The batches computed ahead for this epoch are still right."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EpochEndRequested:
    """The trainer wants nothing more of this epoch."""

    epoch: int


class Taken(NamedTuple):
    """The trainer has taken, or dropped, this many outcomes since the session's start."""

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
    | EpochEndRequested
    | Taken
    | StopRequested
)
