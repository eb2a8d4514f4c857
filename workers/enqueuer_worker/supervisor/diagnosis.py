"""The diagnosis of a connection that brings no session, told to the machine's owner once and then counted.

    supervisor's thread ── failed attempt, or silence ──► Diagnosis ── starts ──► "enqueuer-look" thread: `look`
            ▲                                                 │                        │
            └────────────── log: RepeatedNotes ◄──────────────┴───── finding ◄─────────┘

A look runs in a thread of its own: it blocks for some seconds, and the supervisor must go on serving its children. The
first look follows at once when an attempt fails in a new way, or after `_PATIENCE_SECONDS` of silence. The intervals
between later looks double.
"""

from __future__ import annotations

import math
import queue
import threading

from enqueuer_worker.connection import Refusal
from enqueuer_worker.repeats import RepeatedNotes
from enqueuer_worker.supervisor.reachability import Finding, look, no_answer, unknown_key
from enqueuer_worker.trainer_addresses import split_address

# A trainer answers a Hello at once; with many workers on few cores it may take a second.
_PATIENCE_SECONDS = 3.0
_FIRST_LOOK_INTERVAL = 2.0
_LONGEST_LOOK_INTERVAL = 60.0
_POLL_SECONDS = 0.1
# Looks with the same result before it counts as final: an ending or overloaded trainer breaks handshakes as well.
_CONFIRMATIONS = 3


class Diagnosis:
    """Finds and logs the reason why no trainer answers at ``address``. Only the supervisor's thread uses it."""

    def __init__(self, notes: RepeatedNotes, address: str, *, has_token: bool, interface: str = "") -> None:
        self.address = address
        # Whether another attempt is useless: the trainer refuses the keys of this machine.
        self.is_final = False
        self._notes = notes
        self._has_token = has_token
        self._interface = interface
        # The running look puts its finding here. `answered` makes a new queue, so an outdated finding is never read.
        self._findings: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
        self._is_looking = False
        self._next_look_at = math.inf
        self._look_interval = _FIRST_LOOK_INTERVAL
        # Since when ZeroMQ is connected.
        self._connected_at = math.inf
        self._last_refusal: Refusal | None = None
        # Failed attempts since the last finding; None before the first one of a session.
        self._failed_count: int | None = None
        self._finals_count = 0

    def next_deadline(self, now: float) -> float:
        """When `handle` is to be called even if nothing is ready."""
        return min(self._next_look_at, now + _POLL_SECONDS if self._is_looking else math.inf)

    def opened(self, now: float) -> None:
        """A connection is tried: silence from now on is a reason to look."""
        if self._next_look_at == math.inf and not self._is_looking:
            self._next_look_at = now + _PATIENCE_SECONDS

    def failed(self, refusal: Refusal | None, now: float) -> None:
        """An attempt has failed: the handshake with ``refusal``, or what comes before it."""
        is_new = self._failed_count is None or refusal is not self._last_refusal
        self._failed_count = (self._failed_count or 0) + 1
        self._last_refusal = refusal
        if refusal is Refusal.KEY:
            self.is_final = True
            self._tell(unknown_key(self._where), now)
        elif is_new:
            self._next_look_at, self._look_interval = now, _FIRST_LOOK_INTERVAL

    def answered(self) -> None:
        """The trainer has answered, perhaps with a rejection: no look is needed."""
        self._findings, self._is_looking, self.is_final = queue.SimpleQueue(), False, False
        self._next_look_at, self._look_interval = math.inf, _FIRST_LOOK_INTERVAL
        self._failed_count, self._last_refusal, self._finals_count = None, None, 0

    def handle(self, now: float, *, is_connected: bool) -> None:
        """Take up the finding of an ended look, and begin the next one if it is due."""
        self._connected_at = min(self._connected_at, now) if is_connected else math.inf
        if self._is_looking and not self._findings.empty():
            self._is_looking = False
            self._next_look_at = now + self._look_interval
            self._look_interval = min(2 * self._look_interval, _LONGEST_LOOK_INTERVAL)
            self._take_up(self._findings.get(), now)
        if now >= self._next_look_at and not self._is_looking:
            self._begin_look()

    @property
    def _where(self) -> str:
        host, port = split_address(self.address)
        return f"{host}:{port}"

    def _begin_look(self) -> None:
        self._next_look_at, self._is_looking = math.inf, True
        findings, address, refusal = self._findings, self.address, self._last_refusal
        has_token, interface = self._has_token, self._interface

        def run() -> None:
            findings.put(look(address, refusal, has_token=has_token, interface=interface))

        threading.Thread(target=run, name="enqueuer-look", daemon=True).start()

    def _take_up(self, finding: Finding | None, now: float) -> None:
        if finding is None:
            if now - self._connected_at < _PATIENCE_SECONDS:
                return  # the trainer has just started, and libzmq's next attempt is still to come
            finding = no_answer(self._where)
        self._finals_count = self._finals_count + 1 if finding.final else 0
        self.is_final = self.is_final or self._finals_count >= _CONFIRMATIONS
        self._tell(finding, now)

    def _tell(self, finding: Finding, now: float) -> None:
        count = max(1, self._failed_count or 0)
        self._failed_count = 0
        self._notes.note(finding.level, finding.summary, f"; {finding.advice}. Trying again", now, count)
