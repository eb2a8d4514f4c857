"""State: owns everything a session's coordinator knows. The rules are modules of functions over it.

    coordinator ── dispatches ──► joining · liveness · leaving · supervision   workers and supervisors
                                  sampling, comparing                          whether a host's batches are used
                                  results                                      answers to leases
                                  offences                                     acts of dishonest peers, and bans
                                  granting                                     new leases, moves, revocations
                                  observing                                    requests of observers
                                      │
                                      ▼
                                    State ──► ledger   leases, and the positions of each open epoch
                                          ──► fleet    workers and supervisors, by incarnation and by route
                                          ──► scheduler, hedger   decide over ledger and fleet
                                          ──► peers    offences and bans
                                          ──► actions  of the present turn

Only the coordinator's thread (the I/O thread) touches it. A worker's record tells the scheduler of its own changes
(`Worker.changed`), so no rule has to.
"""

from __future__ import annotations

import math

from enqueuer.core.actions import INFO, WARNING, Action, Report, Send
from enqueuer.core.events import EpochOpened, Route
from enqueuer.core.fault_history import FaultHistory
from enqueuer.core.fleet import Fleet
from enqueuer.core.fleet_history import FleetHistory
from enqueuer.core.hedging import Hedger
from enqueuer.core.ledger import Ledger
from enqueuer.core.observers import Observers
from enqueuer.core.peer import Peers
from enqueuer.core.samples import Samples
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.settings import SessionFacts
from enqueuer.core.usage import FleetUsage
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.options import Options
from enqueuer.protocol.messages import Bye, Message, Reject


class State:
    """One session's state. ``options`` and ``facts`` never change."""

    def __init__(self, options: Options, facts: SessionFacts, now: float) -> None:
        self.options = options
        self.facts = facts
        self.channels = {channel.name: channel for channel in facts.channels}
        # The time of the present turn, and its actions so far.
        self.now = now
        self.actions: list[Action] = []
        self.is_stopped = False

        self.ledger = Ledger(weighs=facts.max_bytes is not None)
        self.scheduler = Scheduler(
            self.ledger, ordered=options.ordered, max_queue_size=facts.max_queue_size, max_bytes=facts.max_bytes
        )
        self.fleet = Fleet(self.scheduler.note_load)
        self.hedger = Hedger(options.hedge_factor, self.ledger, self.scheduler)
        self.peers = Peers()
        self.observers = Observers()
        self.history = FleetHistory(now)
        self.faults = FaultHistory(now)

        # `joining` writes both: the epochs announced to workers (the current one and the one computed ahead), and the
        # latest of them.
        self.announced: dict[int, EpochOpened] = {}
        self.newest_epoch: EpochOpened | None = None
        # `liveness` writes these: the time of the next look at all workers; of the last one with enough workers; of the
        # last warning about too few.
        self.sweep_at = now
        self.alone_since = self.warned_at = now
        # `refusals` writes it: reasons of refusals, each with the names of the workers that were refused for it.
        self.refusals: dict[str, set[str]] = {}
        # `sampling` writes it.
        self.samples = Samples(is_on=facts.digest_of is not None and not all(c.local for c in facts.channels))
        # `joining` writes it: names of settings that were told to differ in local workers.
        self.told_settings: set[str] = set()
        # `joining` writes it: differences between a worker's Python or NumPy and the trainer's that were warned of.
        self.version_warnings: set[str] = set()
        # `supervision` counts local workers in a row that died before they served; `sampling` resets it.
        self.deaths_on_arrival = 0
        # `granting` writes these: when to look for moves again; until when room for short batches is collected; whether
        # there were ever enough workers; how often a late batch was leased a second time.
        self.rebalance_at = self.collecting_until = math.inf
        self.has_had_min_workers = False
        self.hedges_count = 0
        # `results` writes these: counts; the (epoch, index) of each skipped batch; compute seconds, summed over slots.
        self.retries_count = self.timeouts_count = 0
        self.skipped: list[tuple[int, int]] = []
        self.busy_seconds = 0.0
        # `liveness` writes it.
        self.usage = FleetUsage()
        # The coordinator's: an epoch that is to end early, until that is reported.
        self.ending: int | None = None

    # ------------------------------------------------------------ the turn

    def take_actions(self) -> list[Action]:
        """The turn's actions, in order; the next turn begins with none."""
        actions, self.actions = self.actions, []
        return actions

    def send(self, peer: Worker | Route, message: Message) -> None:
        """Send the message; to a worker without a connection, nothing is sent."""
        route = peer.route if isinstance(peer, Worker) else peer
        if route is not None:
            self.actions.append(Send(route, message))

    def report(self, level: int, text: str) -> None:
        """Log a line in the trainer; a warning is a fault as well."""
        self.actions.append(Report(level, text))
        if level >= WARNING:
            self.faults.note(self.now, text)

    def note(self, what: str, worker: Worker) -> None:
        """Add a change of this worker to the fleet's history."""
        self.history.note(self.now, what, worker.name)

    # ------------------------------------------------------------ asking

    def is_local(self, channel: str) -> bool:
        """Whether the channel's peers are the trainer's own processes."""
        return self.channels[channel].local

    # ------------------------------------------------------------ letting a worker go

    def dismiss(self, worker: Worker, last_word: Bye | Reject) -> None:
        """End a worker's service with this last word, which is repeated if the worker did not hear it."""
        worker.last_word = last_word
        if isinstance(last_word, Bye):
            self.note("left", worker)
            self.report(INFO, f"worker {worker.name} left after {worker.batches_count} batches")
        else:
            # The rule that rejects the worker logs the reason.
            self.note("rejected", worker)
        self.send(worker, last_word)
        self.remove(worker, WorkerState.GONE)

    def remove(self, worker: Worker, state: WorkerState) -> int:
        """The worker is LOST or GONE; returns how many positions are pending again for it."""
        returned = self.ledger.release(worker)
        self.fleet.depart(worker, state)
        return returned
