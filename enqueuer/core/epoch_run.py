"""One epoch's positions, each in exactly one state: pending, leased, buffered or delivered."""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Sequence, Set
from enum import Enum
from itertools import chain, repeat
from operator import neg
from typing import Any

# Returned positions looked at together, since most of them may be held back.
_LOOKED_AT = 64


class PositionState(Enum):
    """The one state of a position."""

    PENDING = "pending"
    LEASED = "leased"
    BUFFERED = "buffered"
    DELIVERED = "delivered"


class EpochRun:
    """The books of one epoch, of one state generation.

        pending ──lease──► leased ──answer──► buffered ──► delivered
           ▲ └──────────────late answer──────────▲
           └── lost, expired, revoked ──┘

    A position is leased while at least one lease on it is live. A revoked, expired or lost lease is not live; its
    answer is still taken. Outcomes are opaque here. A run that has ended early drops every position at once, apart from
    those that are still being computed: nothing is leased or delivered any more.
    """

    def __init__(self, epoch: int, generation: int, order: Sequence[int], *, ordered: bool, confirmed: bool) -> None:
        self.epoch = epoch
        self.generation = generation
        self.order = order
        self.length = len(order)
        self.confirmed = confirmed
        self.exhausted_reported = False
        self._has_ended_early = False
        # Suspects, with the exit code of each worker that died while computing them. They are leased alone.
        self.deaths: dict[int, list[int]] = {}
        # Exceptions of ``__getitem__``, and computations longer than the time-out, by position.
        self.failures: dict[int, int] = {}
        self.timeouts: dict[int, int] = {}
        # Positions with more than one live lease, with those beside the one in `_live`.
        self.hedged: dict[int, tuple[int, ...]] = {}
        # Positions without an answer that two workers may have computed, and digests of the answers to such positions.
        self.twice: set[int] = set()
        self.first_digests: dict[int, Any] = {}
        self._ordered = ordered
        self._next = 0
        # From the highest to the lowest, which is taken first.
        self._returned: list[int] = []
        self._suspects: list[int] = []
        self._held_back: list[int] = []
        # A live lease of each leased position.
        self._live: dict[int, int] = {}
        self._buffered: dict[int, Any] = {}
        # Every position below the head is delivered, and beyond it those in `_delivered` (unordered delivery only).
        self._head = 0
        self._delivered: set[int] = set()

    # ------------------------------------------------------------ counts, and what can be leased

    @property
    def undelivered_count(self) -> int:
        """Positions leased or buffered."""
        return len(self._live) + len(self._buffered)

    @property
    def leased_count(self) -> int:
        """Positions with a live lease."""
        return len(self._live)

    @property
    def buffered_count(self) -> int:
        """Positions answered and not delivered."""
        return len(self._buffered)

    @property
    def deliverable_count(self) -> int:
        """Positions answered that can be delivered as soon as the epoch is confirmed."""
        if not self._ordered:
            return len(self._buffered)
        end = self._head
        while end in self._buffered:
            end += 1
        return end - self._head

    @property
    def fresh_count(self) -> int:
        """Positions never leased yet."""
        return self.length - self._next

    @property
    def has_pending(self) -> bool:
        """Whether an ordinary (not suspect) position can be leased."""
        self._forget_answered(self._returned)
        return self._next < self.length or bool(self._returned)

    @property
    def has_suspects(self) -> bool:
        """Whether a suspect can be leased."""
        self._forget_answered(self._suspects)
        return bool(self._suspects)

    @property
    def head_is_waiting(self) -> bool:
        """Whether the next position to deliver is pending. It is granted whatever the bound, so nothing deadlocks."""
        self._forget_answered(self._returned)
        if self._returned:
            return not self._ordered or self._returned[-1] == self._head
        return self._next == self._head and self._next < self.length and not self._live and not self._buffered

    @property
    def head_index(self) -> int:
        """The index for which `head_is_waiting`."""
        return self.order[self._returned[-1] if self._returned else self._head]

    @property
    def complete(self) -> bool:
        """Whether every position is delivered."""
        return self._head >= self.length

    def end_early(self) -> None:
        """Drop all positions but the leased ones, which are dropped when their leases end."""
        self._has_ended_early = True
        self._next = self._head = self.length
        for positions in (self._returned, self._held_back, self._suspects, self._buffered, self._delivered):
            positions.clear()

    def live_leases(self) -> list[int]:
        """All live leases."""
        return [*self._live.values(), *chain.from_iterable(self.hedged.values())]

    # ------------------------------------------------------------ leasing

    def take_pending(self, count: int, busy: Set[int] = frozenset()) -> list[int]:
        """Take up to ``count`` positions, to lease each at once: lost ones first, lowest first.

        Positions with an index in ``busy`` are held back until `give_back`: the next call does not look at them again.
        """
        positions: list[int] = []
        while self._returned and len(positions) < count:
            missing = count - len(positions)
            free = self._hold_back(self._pop_returned(max(missing, _LOOKED_AT)), busy)
            positions += free[:missing]
            self._returned += reversed(free[missing:])
        while self._next < self.length and len(positions) < count:
            end = min(self._next + count - len(positions), self.length)
            positions += self._hold_back(range(self._next, end), busy)
            self._next = end
        return positions

    def _pop_returned(self, count: int) -> list[int]:
        """Pop the lowest ``count`` returned positions, without those that a late answer has come for."""
        popped = self._returned[: -count - 1 : -1]
        del self._returned[-count:]
        head, buffered, delivered = self._head, self._buffered, self._delivered
        return [p for p in popped if p >= head and p not in buffered and p not in delivered]

    def _hold_back(self, positions: Sequence[int], busy: Set[int]) -> Sequence[int]:
        """Hold back the positions with an index in ``busy``; returns the others."""
        if not busy:
            return positions
        order = self.order
        held_back = [position for position in positions if order[position] in busy]
        if not held_back:
            return positions
        self._held_back += held_back
        return [position for position in positions if order[position] not in busy]

    def give_back(self) -> None:
        """Make the positions that `take_pending` held back pending again."""
        if self._held_back:
            self._returned = sorted([*self._held_back, *self._returned], reverse=True)
            self._held_back.clear()

    def unanswered_indices(self) -> set[int]:
        """Indices of all positions that were leased and have no answer yet, or that ended workers."""
        pending = [
            position
            for position in (*self._returned, *self._held_back, *self._suspects)
            if not self.is_answered(position)
        ]
        return {self.order[position] for position in (*self._live, *pending)} | self.harmful_indices()

    def harmful_indices(self) -> set[int]:
        """Indices that ended workers, and would end more of them in the next epoch."""
        return {self.order[position] for position in (*self.deaths, *self.timeouts)}

    def take_suspect(self) -> int:
        """Take a suspect, to lease it at once."""
        self._forget_answered(self._suspects)
        return self._suspects.pop()

    def lease_all(self, positions: Sequence[int], leases: Sequence[int]) -> None:
        """Put one more live lease on each of these positions."""
        if self._live.keys().isdisjoint(positions):
            self._live.update(zip(positions, leases, strict=True))
            return
        for position, lease in zip(positions, leases, strict=True):
            if position in self._live:
                self.hedged[position] = (*self.hedged.get(position, ()), lease)
                self.twice.add(position)
            else:
                self._live[position] = lease

    @property
    def head_in_waiting(self) -> int | None:
        """The leased position the trainer waits for; in unordered delivery, the one leased first."""
        if self._ordered:
            return self._head if self._head in self._live else None
        return next(iter(self._live), None)

    def lowest_leased(self, count: int) -> list[int]:
        """The lowest leased positions, in order."""
        return heapq.nsmallest(count, self._live)

    def only_lease(self, position: int) -> int | None:
        """The live lease of a position with exactly one."""
        return None if position in self.hedged else self._live.get(position)

    def leases_of(self, position: int) -> tuple[int, ...]:
        """The live leases of a position."""
        lease = self._live.get(position)
        return () if lease is None else (lease, *self.hedged.get(position, ()))

    def is_live(self, position: int, lease: int) -> bool:
        """Whether the lease still counts."""
        return self._live.get(position) == lease or lease in self.hedged.get(position, ())

    def unlease(self, position: int, lease: int) -> bool:
        """End a lost, expired or revoked lease. True if the position is pending again for it."""
        leases = self.leases_of(position)
        if lease not in leases:
            return False
        self.hedged.pop(position, None)
        if len(leases) > 1:
            self._live[position], *others = [other for other in leases if other != lease]
            if others:
                self.hedged[position] = tuple(others)
            return False
        del self._live[position]
        if self._has_ended_early:
            return False
        insort(self._suspects if position in self.deaths else self._returned, position, key=neg)
        return True

    # ------------------------------------------------------------ answers and delivery

    def is_answered(self, position: int) -> bool:
        """Whether the position has its outcome."""
        return position < self._head or position in self._buffered or position in self._delivered

    def answer(self, position: int, outcome: Any) -> bool:
        """Give the position its outcome; False if it has one."""
        if self._live.pop(position, None) is None and self.is_answered(position):
            return False
        self._buffered[position] = outcome
        self.hedged.pop(position, None)
        self.twice.discard(position)
        return True

    def answer_all(self, positions: Sequence[int], outcomes: Sequence[Any]) -> Sequence[int]:
        """Give each position its outcome, none of them hedged; returns the positions that had none yet."""
        live = list(map(self._live.pop, positions, repeat(None)))
        if all(live):  # in most cases; so no Python code runs for each position
            self._buffered.update(zip(positions, outcomes, strict=True))
            return positions
        taken = []
        for position, lease, outcome in zip(positions, live, outcomes, strict=True):
            if lease is not None or not self.is_answered(position):
                self._buffered[position] = outcome
                taken.append(position)
        return taken

    def pop_deliverable(self) -> tuple[Sequence[int], list[Any]]:
        """Positions and outcomes to deliver now, in order."""
        if not self.confirmed or not self._buffered:
            return (), []
        if self._ordered:
            return self._pop_in_order()
        positions, outcomes = list(self._buffered), list(self._buffered.values())
        self._buffered.clear()
        self._delivered.update(positions)
        while self._head in self._delivered:
            self._delivered.remove(self._head)
            self._head += 1
        return positions, outcomes

    def _pop_in_order(self) -> tuple[Sequence[int], list[Any]]:
        buffered, head = self._buffered, self._head
        end = head
        while end in buffered:
            end += 1
        self._head = end
        positions = range(head, end)
        return positions, list(map(buffered.pop, positions))

    # ------------------------------------------------------------ for invariants

    def state_of(self, position: int) -> PositionState:
        """The one state the position is in; raises AssertionError if it is in none or several."""
        states = []
        if position >= self._next or (
            (position in self._returned or position in self._suspects) and not self.is_answered(position)
        ):
            states.append(PositionState.PENDING)
        if position in self._live:
            states.append(PositionState.LEASED)
        if position in self._buffered:
            states.append(PositionState.BUFFERED)
        if position < self._head or position in self._delivered:
            states.append(PositionState.DELIVERED)
        assert len(states) == 1, f"position {position} of epoch {self.epoch} is {states}"
        return states[0]

    def _forget_answered(self, pending: list[int]) -> None:
        """Drop the lowest positions that a late answer has come for while they waited for a new lease."""
        while pending and self.is_answered(pending[-1]):
            pending.pop()
