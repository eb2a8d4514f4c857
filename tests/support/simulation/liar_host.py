"""A simulated peer that has joined as a worker and does what none does, until it is turned away."""

from __future__ import annotations

from typing import Any

from enqueuer.core import events as ev
from enqueuer.protocol import messages as m
from enqueuer_worker.core.events import Computed, SendResults
from tests.support.simulation.network import Link
from tests.support.simulation.world import World

_LIE_SECONDS = 0.02


class LiarHost:
    """Lies about everything but the content of its own leases' batches, which nobody else could know."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"liar{number}"
        self.incarnation = world.new_id()
        self.is_rejected = False
        self._session = m.NO_ID
        self._granted: set[int] = set()
        self._epoch = m.Epoch(0, 0, 0, None)
        self._seq = 0
        trainer = world.trainer
        self.link: Link = world.network.connect(
            self.name, self._receive, trainer.receive_control, trainer.receive_results, lambda link: None
        )
        world.clock.after(world.rng.uniform(0.0, 0.2), lambda: self._hello())

    def _hello(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "protocol": m.PROTOCOL_VERSION,
            "role": m.Role.WORKER,
            "worker_id": self.name,
            "incarnation": self.incarnation,
            "supervisor": b"",
            "child_number": 0,
            "host": "nowhere",
            "pid": 1,
            "numpy_version": "2.1.0",
            "library_version": "0.1.0",
            "secret": b"",
            "held": (),
            "sent_seq": 0,
            **changes,
        }
        self._say(m.Hello(**values))

    def _say(self, message: m.Message) -> None:
        self.link.control_up.send((self._session, message))

    def _receive(self, message: tuple[bytes, m.Message]) -> None:
        session, said = message
        if isinstance(said, m.Reject):
            self.is_rejected = True
        elif isinstance(said, m.Welcome) and self._session == m.NO_ID:
            self._session = session
            self.world.clock.after(_LIE_SECONDS, self._lie)
        elif isinstance(said, m.Epoch):
            self._epoch = said
            self._say(m.Ready(said.epoch, said.generation, self.world.scenario.lengths[said.epoch], b""))
        elif isinstance(said, m.Grant):
            self._granted.update(range(said.first_lease, said.first_lease + len(said.indices)))

    def _lie(self) -> None:
        if not self.is_rejected:
            self.world.rng.choice(_LIES)(self)
            self.world.clock.after(_LIE_SECONDS, self._lie)

    # ------------------------------------------------------------ lies

    def _anothers_lease(self) -> int:
        """Also one that is nobody's. Its own, which may be on their way to it, would be taken."""
        ledger = self.world.trainer.core.state.ledger
        leases = [ledger.next_lease + 1_000_000]
        for lease in range(1, ledger.next_lease):
            entry = ledger.find(lease)
            if entry is not None and entry[2].incarnation != self.incarnation:
                leases.append(lease)
        return self.world.rng.choice(leases)

    def _answer(self, seq: int | None = None, busy: float = 0.01) -> None:
        if seq is None:
            self._seq += 1
            seq = self._seq
        leases = (self._anothers_lease(), self._anothers_lease())
        computed = Computed(
            self._session, self._epoch.epoch, self._epoch.generation, leases, ("forged", "forged"), busy
        )
        self.link.data_up.send((self.incarnation, SendResults(self._session, seq, computed)))

    def _answer_badly(self) -> None:
        self._seq += 1
        leases = sorted(self._granted)[:2] or [1]
        self.world.trainer._post(ev.ResultsRefused(self.incarnation, self._seq, leases, "no array"))

    def _fail_anothers(self) -> None:
        error = m.ErrorRecord("builtins", "ValueError", "forged", "")
        self._say(m.Failure(self._epoch.epoch, self._epoch.generation, self._anothers_lease(), error))

    def _bury(self) -> None:
        self._say(m.WorkerExited(self.world.new_id(), 0, -9, self._anothers_lease()))

    def _hold(self) -> None:
        self._say(m.Heartbeat((2**40,), 2**50, self._epoch.generation, self._seq, 0, 0.0, 1e300))


_LIES = (
    LiarHost._answer,
    lambda liar: liar._answer(seq=2**50),
    lambda liar: liar._answer(busy=1e300),
    LiarHost._answer_badly,
    LiarHost._fail_anothers,
    LiarHost._bury,
    LiarHost._hold,
    lambda liar: liar._say(m.Goodbye(2**50)),
    lambda liar: liar._say(m.Stop()),
)
