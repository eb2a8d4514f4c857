"""Records of peers: how much each may say, and its offences. `offences` has the rules.

connection ──► unidentified (by route) ──Hello──► identified: the record belongs to a worker or supervisor
                    └──────── too many offences ────────► banned: nothing from it is read any more
"""

from __future__ import annotations

from dataclasses import dataclass, field

from enqueuer.core.events import Route
from enqueuer.protocol.messages import ID_BYTES
from enqueuer.rate_limit import RateLimit

# Offences after which a peer is banned: a single one could be a defect of ours. An unidentified peer may commit more,
# since a connection meant for another port is no attack.
OFFENCES_LIMIT = 10
UNIDENTIFIED_LIMIT = 50
# Messages at once, and each second thereafter, beyond answers to leases. An honest worker sends a heartbeat a
# second and 100 lines; after a pause of the trainer, half a minute of them comes at once.
_TALK_BURST, _TALK_PER_SECOND = 5_000.0, 250.0
# An unidentified peer has only its Hello to say, and gets its answer at once.
_UNIDENTIFIED_BURST, _UNIDENTIFIED_PER_SECOND = 300.0, 20.0
# Forwarded lines for the trainer's log; lines beyond that are dropped.
_LINES_BURST, _LINES_PER_SECOND = 400.0, 200.0
# Records kept at most, of departed peers as well.
MOST_KEPT = 10_000
_MOST_NAMED = 1_000


@dataclass(slots=True)
class PeerRecord:
    """One peer: a connection until its Hello, after that the worker or supervisor on it."""

    name: str
    # Offences after which it is banned.
    limit: int = OFFENCES_LIMIT
    offences_count: int = 0
    banned: bool = False
    # A rejection is logged once, however often the peer says Hello.
    was_rejected: bool = False
    talk: RateLimit = field(default_factory=lambda: RateLimit(_TALK_BURST, _TALK_PER_SECOND))
    lines: RateLimit = field(default_factory=lambda: RateLimit(_LINES_BURST, _LINES_PER_SECOND))

    @classmethod
    def unidentified(cls, name: str) -> PeerRecord:
        """The record of a connection without a Hello."""
        return cls(name, UNIDENTIFIED_LIMIT, talk=RateLimit(_UNIDENTIFIED_BURST, _UNIDENTIFIED_PER_SECOND))

    @property
    def is_identified(self) -> bool:
        """Whether the peer has said Hello."""
        return self.limit != UNIDENTIFIED_LIMIT

    def identify(self, name: str) -> None:
        """Note the peer's Hello, and with it the peer's name. Earlier offences still count."""
        self.name, self.limit, self.talk = name, OFFENCES_LIMIT, RateLimit(_TALK_BURST, _TALK_PER_SECOND)


@dataclass(slots=True)
class Supervisor:
    """A supervisor: ``id`` is its name in its children's Hellos, ``key`` the name of the key it proved, or ''."""

    id: bytes
    key: str
    last_seen: float
    peer: PeerRecord


class Peers:
    """The records of unidentified peers, of banned ones, and of all with an offence; bounded in number."""

    def __init__(self) -> None:
        # Unreadable messages of any peer.
        self.malformed_count = 0
        self.offences_count = 0
        # Messages of peers banned earlier in the same turn. The shell drops and counts later ones.
        self.ignored_count = 0
        self._unidentified: dict[Route, PeerRecord] = {}
        self._banned: dict[Route | bytes, None] = {}
        self._offenders: dict[str, PeerRecord] = {}

    @property
    def offenders(self) -> list[PeerRecord]:
        """Peers with an offence, the oldest first; of very many, the newest."""
        return list(self._offenders.values())

    def is_banned(self, peer: Route | bytes) -> bool:
        """Whether messages over this route, or from this incarnation, are dropped unread."""
        return peer in self._banned

    def unidentified(self, route: Route) -> PeerRecord:
        """The record of a connection without a Hello."""
        if route not in self._unidentified:
            _make_room(self._unidentified, MOST_KEPT)
            name = f"a peer without a name on the {route.channel} sockets"
            self._unidentified[route] = PeerRecord.unidentified(name)
        return self._unidentified[route]

    def identify(self, route: Route, name: str) -> PeerRecord:
        """Take the connection's record for the worker or supervisor now known on it."""
        record = self._unidentified.pop(route, None) or PeerRecord(name)
        record.identify(name)
        return record

    def note_offence(self, record: PeerRecord) -> None:
        """Count one more offence."""
        self.offences_count += 1
        record.offences_count += 1
        if record.name not in self._offenders:
            _make_room(self._offenders, _MOST_NAMED)
        self._offenders[record.name] = record

    def offender(self, name: str) -> PeerRecord | None:
        """The record of the peer with this name, if it has an offence."""
        return self._offenders.get(name)

    def ban(self, *peers: Route | bytes) -> None:
        """Read nothing from these any more."""
        for peer in peers:
            if type(peer) is bytes and len(peer) != ID_BYTES:
                continue
            _make_room(self._banned, MOST_KEPT)
            self._banned[peer] = None


def _make_room(kept: dict[Route, PeerRecord] | dict[Route | bytes, None] | dict[str, PeerRecord], most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]  # type: ignore[arg-type]
