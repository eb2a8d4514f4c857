"""What peers do that no honest one does: named, counted, and cut off when it is clear.

An offence is what an honest worker cannot come to say, whatever the network loses, doubles, delays or reorders: an
answer to a lease of another's, or one in a message of its own for what it has answered already; not an answer that
comes late, nor a result message that comes twice. The simulated cluster holds this: not one in all its schedules.
"""

from __future__ import annotations

import sys

from enqueuer.core.actions import ERROR, WARNING, Action, Report
from enqueuer.core.events import Route
from enqueuer.core.ledger import Ledger
from enqueuer.core.standing import MOST_OF_STRANGERS, MOST_OFFENCES, Standing
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import ID_BYTES

# A clock may stop in a suspended machine while another goes on. Compute times beyond that are made up.
_LONGEST_SECONDS = 86_400.0
# Of those that are gone, as many are remembered.
_MOST_KEPT = 10_000
_MOST_NAMED = 1_000
# A key is 64 characters; this is its fingerprint, as in the key directory.
_KEY_SHOWN = 8


class Conduct:
    """Keeps the peers' standings. Appends reports to the coordinator's actions; cutting off is for the caller."""

    def __init__(self, ledger: Ledger, actions: list[Action]) -> None:
        # Messages that could not be read, whoever sent them.
        self.malformed_count = 0
        self.offences_count = 0
        self.ignored_count = 0
        self._ledger = ledger
        self._actions = actions
        self._strangers: dict[Route, Standing] = {}
        self._outlaws: dict[Route | bytes, None] = {}
        self._offenders: dict[str, Standing] = {}

    # ------------------------------------------------------------ asking

    @property
    def offenders(self) -> list[Standing]:
        """Those who have an offence, the first one first; the newest of very many."""
        return list(self._offenders.values())

    def ignores(self, peer: Route | bytes) -> bool:
        """Whether what comes over this route, or from this incarnation, is dropped unread; counts it if so."""
        if peer not in self._outlaws:
            return False
        self.ignored_count += 1
        return True

    def stranger(self, route: Route) -> Standing:
        """The standing of a connection that has not said who it is."""
        if route not in self._strangers:
            _make_room(self._strangers, _MOST_KEPT)
            self._strangers[route] = Standing.of_stranger(f"a peer without a name on the {route.channel} sockets")
        return self._strangers[route]

    def introduce(self, route: Route, name: str) -> Standing:
        """It has said Hello; what it did before still counts."""
        standing = self._strangers.pop(route, None) or Standing(name)
        standing.become(name)
        return standing

    # ------------------------------------------------------------ noting

    def note(self, standing: Standing, what: str) -> bool:
        """One more offence; True if it was one too many, and the peer is to be cut off now."""
        self.offences_count += 1
        standing.offences_count += 1
        if standing.name not in self._offenders:
            _make_room(self._offenders, _MOST_NAMED)
        self._offenders[standing.name] = standing
        if standing.cut_off:
            return False
        if standing.offences_count < standing.most:
            if standing.offences_count <= MOST_OFFENCES and standing.most != MOST_OF_STRANGERS:
                self._actions.append(Report(WARNING, f"{standing.name} {what}"))
            return False
        standing.cut_off = True
        text = f"cut off {standing.name} after {standing.offences_count} offences; the last: it {what}"
        self._actions.append(Report(ERROR, text))
        return True

    def note_key(self, key: str, what: str) -> None:
        """An offence of somebody of whom nothing but the key is known, which is others' as well."""
        name = f"an owner of key {key[:_KEY_SHOWN]}" if key else "somebody without a key"
        self.note(self._offenders.get(name) or Standing(name, most=sys.maxsize), what)

    def outlaw(self, *peers: Route | bytes) -> None:
        """Nothing from these is read from now on."""
        for peer in peers:
            if type(peer) is bytes and len(peer) != ID_BYTES:
                continue
            _make_room(self._outlaws, _MOST_KEPT)
            self._outlaws[peer] = None

    # ------------------------------------------------------------ judging

    def of_answer(self, worker: Worker, lease: int, *, is_current: bool, numbered: bool) -> str:
        """What is wrong with an answer that was not taken; '' for one that is only late.

        ``is_current``: it names an open epoch's state. ``numbered``: a copy of it would not have come this far.
        """
        if worker.in_process:
            return ""
        if lease >= self._ledger.next_lease:
            return f"answered lease {lease}, which was never granted"
        entry = self._ledger.find(lease)
        if entry is not None and entry[2].incarnation != worker.incarnation:
            return f"answered lease {lease} of {entry[2].name}"
        if entry is None and is_current and numbered:
            return f"answered lease {lease}, which was answered before"
        return ""

    def of_held(self, worker: Worker, held: tuple[int, ...]) -> str:
        """What is wrong with the leases that a heartbeat lists; '' for nothing."""
        for lease in held:
            if lease >= self._ledger.next_lease:
                return f"says that it holds lease {lease}, which was never granted"
            entry = self._ledger.find(lease)
            if entry is not None and entry[2].incarnation != worker.incarnation:
                return f"says that it holds lease {lease} of {entry[2].name}"
        return ""

    @staticmethod
    def of_seconds(worker: Worker, seconds: float, now: float) -> str:
        """What is wrong with a compute time or a round trip; '' for nothing."""
        if seconds - (now - worker.known_since) > _LONGEST_SECONDS:
            return f"says that something took {seconds:.3g} s"
        return ""


def _make_room(kept: dict[Route, Standing] | dict[Route | bytes, None] | dict[str, Standing], most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]  # type: ignore[arg-type]
