"""Decides which workers get the next leases.

- No slot gets a second lease while another has none.
- Beyond that, a worker holds enough leases to cover its round trip and some milliseconds of work, and to send short
  batches several in a message.
- Undelivered batches stay within the bound; only the head of the order is granted in spite of it.
- A lease queueing behind a late one moves to an idle slot.

Four queues keep a decision's cost at the leases granted, whatever the size of the fleet. `Scheduler.note_load`, the
hook of every worker record, puts a worker into them:

    idle       some of its slots have no lease
    thirsty    all slots have one, and the worker holds half of its `target_load` at most
    urgent     thirsty, and its queue may end before a grant sent now arrives
    queueing   some leases queue behind others, so they could move

A *suspect* is a position during which a worker died. It is leased alone: all other leases of its worker would be lost
with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from enqueuer.core.assignments import Assignment, Assignments
from enqueuer.core.bounds import ByteBound, make_depth
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.ledger import Ledger
from enqueuer.core.worker import Worker

# A queueing lease moves to an idle slot if its wait here is longer than this and a round trip. Seconds.
_WORTH_MOVING = 0.010
# A wake-up of the I/O thread, a grant and its answer take some 0.2 ms: for shorter batches, room is collected first.
_WORTH_WAKING = 0.001
# With this many leases in one message, the cost of the message itself is small beside them.
_FULL_GRANT = 32
# Time between two looks for moves, while a slot is idle and nothing else can be granted.
REBALANCE_INTERVAL = 0.005
# A look takes 0.4 µs for each queueing worker. After one without a move, fifty times as long passes (at most the
# interval) before the next: otherwise a thousand queueing workers would take all of the thread's time.
_LOOK_PAUSE = 20e-6


class Move(NamedTuple):
    """Revoke the lease from its worker and grant its position to the taker."""

    lease: int
    loser: Worker
    run: EpochRun
    taker: Worker


class _Wait(NamedTuple):
    """The time the lease would still wait behind others of its worker; infinite behind a late one."""

    seconds: float
    lease: int
    loser: Worker
    run: EpochRun


class Scheduler:
    """Decides which workers get the next leases; `granting` books and sends them.

    ``max_queue_size`` None finds the depth by itself.
    """

    def __init__(
        self, ledger: Ledger, *, ordered: bool, max_queue_size: int | None, max_bytes: int | None = None
    ) -> None:
        self._ledger = ledger
        self._ordered = ordered
        self._depth = make_depth(max_queue_size)
        self._bytes = None if max_bytes is None else ByteBound(max_bytes)
        # Idle workers, each with its number of idle slots.
        self._idle: dict[Worker, int] = {}
        self._idle_slots_count = 0
        self._thirsty: dict[Worker, None] = {}
        self._urgent: dict[Worker, None] = {}
        self._queueing: dict[Worker, None] = {}
        self._look_again_at = -math.inf
        self._slots_of: dict[Worker, int] = {}
        self._slots_count = 0
        self._depth_bound = math.inf
        self._refresh_depth()

    @property
    def bound(self) -> float:
        """Batches that may be undelivered now, by number and by bytes."""
        if self._bytes is None:
            return self._depth_bound
        if not self._bytes.is_known:
            return min(self._depth_bound, self._slots_count)
        ledger = self._ledger
        by_bytes = ledger.undelivered_count + self._bytes.room_for_idle(ledger.held_bytes, ledger.leased_count)
        return max(0, min(self._depth_bound, by_bytes))

    @property
    def slots_count(self) -> int:
        """Slots of all workers that take leases."""
        return self._slots_count

    @property
    def has_idle(self) -> bool:
        """Whether any slot has no lease."""
        return bool(self._idle)

    @property
    def has_costly_idle(self) -> bool:
        """Whether an idle slot gets the next lease, and computes for longer than a message to it takes."""
        return bool(self._idle) and not self._next_is_cheap

    @property
    def can_wait(self) -> bool:
        """Whether all slots are busy for longer than the next grant takes, with batches longer than a message takes.

        Their next answer brings a turn, so no other is needed.
        """
        return not self._idle and not self._urgent and not self._next_is_cheap

    @property
    def room_wanted(self) -> int:
        """How much more room in the bound to wait for; 0: none.

        As long as the trainer has something to take, slots with batches shorter than a message get several at once.
        """
        if self._ledger.ready_count == 0 or not self._next_is_cheap:
            return 0
        bound = self.bound
        room = bound - self._ledger.undelivered_count
        if room >= _FULL_GRANT:  # or there is no bound
            return 0
        return max(0, min(_FULL_GRANT, int(bound) // self._slots_count) - int(room))

    @property
    def has_takers(self) -> bool:
        """Whether any worker would take a lease."""
        return bool(self._idle or self._thirsty)

    @property
    def _next_is_cheap(self) -> bool:
        """Whether the next lease goes to a slot with batches shorter than a message takes."""
        first = next(iter(self._idle or self._thirsty), None)
        return first is not None and 0.0 < first.item_seconds < _WORTH_WAKING

    @property
    def has_movable(self) -> bool:
        """Whether a lease queues somewhere while a slot is idle."""
        return bool(self._idle and self._queueing)

    def has_idle_beside(self, worker: Worker) -> bool:
        """Whether `idle_workers` has one beside this worker."""
        return any(other is not worker and not other.reserved for other in self._idle)

    def idle_workers(self) -> list[Worker]:
        """Workers with an idle slot, except one kept free for a suspect."""
        return [worker for worker in self._idle if not worker.reserved]

    def note_load(self, worker: Worker) -> None:
        """Put the worker into the queues it belongs to: the hook of every worker record."""
        load = len(worker.leases)
        if not load:
            worker.reserved = False
        slots = worker.slots if worker.takes_leases else 0
        if slots != self._slots_of.get(worker, 0):
            self._note_slots(worker, slots)
        idle_slots = slots - load if load < slots else 0
        if idle_slots != self._idle.get(worker, 0):
            self._note_idle_slots(worker, idle_slots)
        is_thirsty = slots > 0 and idle_slots == 0 and load <= worker.target_load // 2
        _put(self._thirsty, worker, is_thirsty)
        _put(self._urgent, worker, is_thirsty and worker.runs_dry)
        # The trainer's own threads share one queue: no lease waits behind another's.
        _put(self._queueing, worker, 0 < slots < load and not worker.in_process)

    def _note_slots(self, worker: Worker, slots: int) -> None:
        self._slots_count += slots - self._slots_of.pop(worker, 0)
        if slots:
            self._slots_of[worker] = slots
        self._refresh_depth()

    def _refresh_depth(self) -> None:
        self._depth_bound = self._depth.bound(self._slots_count)

    def _note_idle_slots(self, worker: Worker, count: int) -> None:
        self._idle_slots_count += count - self._idle.get(worker, 0)
        if count:
            self._idle[worker] = count
        else:
            del self._idle[worker]

    def note_weight(self, epoch: int, nbytes: int) -> None:
        """Note the weight of batches that have come: this many bytes each."""
        if self._bytes is not None:
            self._bytes.note_weight(epoch, nbytes)

    # ------------------------------------------------------------ grants

    def assign(self) -> list[Assignment]:
        """Positions for workers; the caller books all of them before it does anything else."""
        if not self.has_takers and not self._ledger.has_suspects:
            return []
        assignments = Assignments(self._ledger)
        self._assign_suspects(assignments)
        if self.has_takers:  # rarely
            self._assign_ordinary(assignments)
        return assignments.close()

    def _assign_ordinary(self, assignments: Assignments) -> None:
        """Share what the bound has room for among the workers."""
        capacity = self.bound - self._ledger.undelivered_count - len(assignments.made)
        if capacity < 1 and self._idle and self._ledger.ready_count == 0:
            capacity = self._capacity_for_idle(assignments)
        if capacity < 1:
            return
        room = min(capacity, self._room_for_queues() - len(assignments.made))
        if room > self._idle_slots_count:
            # Every idle slot gets one, and the leases to queue behind it travel in the same message.
            room = self._hand_out(self._idle, _room_to_target, room, assignments)
            self._hand_out(self._thirsty, _room_to_target, room, assignments)
        else:
            self._hand_out(self._idle, _idle_slots, capacity, assignments)

    def _room_for_queues(self) -> float:
        """Leases that may be out before one more would only queue behind another.

        In ordered delivery, one batch a slot may come before its turn and hold a place in the bound. If queueing leases
        took those places, idle slots would get none: 32 workers with 20 ms a batch within a bound of 42 then reach 79 %
        of their ideal rate, instead of 92 %. Short batches do not keep each other waiting.
        """
        spare = self._slots_count if self._ordered and not self._next_is_cheap else 0
        leased_count = self._ledger.leased_count
        room = max(self._slots_count, self.bound - spare) - leased_count
        if self._bytes is None or not self._bytes.is_known:
            return room
        return min(room, self._bytes.room_for_queues(self._ledger.held_bytes, leased_count))

    def _hand_out(
        self,
        queue: Mapping[Worker, object],
        wish_of: Callable[[Worker], int],
        capacity: float,
        assignments: Assignments,
    ) -> float:
        """Share the capacity among the queue's workers as evenly as whole batches allow; returns the rest."""
        for place, worker in enumerate(queue):
            if capacity < 1:
                break
            if worker.reserved:
                continue
            share = math.ceil(capacity / (len(queue) - place)) if capacity < math.inf else math.inf
            given = assignments.take(worker, int(min(wish_of(worker), share)))
            if given == 0:
                break
            capacity -= given
        return capacity

    def _assign_suspects(self, assignments: Assignments) -> None:
        """Lease each suspect alone to an empty worker."""
        for run in assignments.runs:
            while run.has_suspects:
                empty = next((worker for worker in self._idle if worker.load == 0 and not worker.reserved), None)
                if empty is None:
                    self._keep_one_free()
                    return
                empty.reserved = True
                assignments.take_suspect(empty, run)

    def _keep_one_free(self) -> None:
        """All workers are busy: let the least loaded one run empty. Its answers bring the next look."""
        if self._slots_of and not any(worker.reserved for worker in self._slots_of):
            min(self._slots_of, key=lambda worker: worker.load).reserved = True

    def _capacity_for_idle(self, assignments: Assignments) -> float:
        """Capacity for idle slots while the trainer has nothing to take and the bound holds slots back."""
        current = assignments.runs[0]
        undelivered_count = self._ledger.undelivered_count + len(assignments.made)
        if self._ledger.has_pending:
            self._depth.deepen(undelivered_count + self._idle_slots_count)
            self._refresh_depth()
        # The head of the order is granted whatever the bound: the trainer waits for it.
        may_grant_head = current.head_is_waiting and not self._is_held_up(current)
        return max(self.bound - undelivered_count, int(may_grant_head))

    def _is_held_up(self, current: EpochRun) -> bool:
        """Whether the head of the order waits for an earlier epoch's same index: nothing is granted in its place."""
        return self._ledger.holds_back(current) and current.head_index in self._ledger.busy_indices(current)

    def review_depth(self) -> None:
        """Let an automatic depth give up its unused part. Without work or workers, no use can be seen."""
        if not self._ledger.runs or not self._slots_count:
            return
        if self._depth.note(self._ledger.ready_count, self._ledger.delivered_total, self._slots_count):
            self._refresh_depth()

    # ------------------------------------------------------------ moves

    def moves(self, now: float) -> list[Move]:
        """Queueing leases for idle workers, the longest wait first. Looked for when nothing else can be granted."""
        if not self._queueing or now < self._look_again_at:
            return []
        waits = self._worthwhile_waits(now)
        if not waits:
            self._look_again_at = now + min(REBALANCE_INTERVAL, _LOOK_PAUSE * len(self._queueing))
            return []
        moves: list[Move] = []
        for idle in [worker for worker in self._idle if worker.load == 0 and not worker.reserved]:
            found = next((wait for wait in waits if wait.seconds > _worth_moving(idle, wait.loser)), None)
            if found is None:
                break
            waits.remove(found)
            moves.append(Move(found.lease, found.loser, found.run, idle))
        return moves

    def _worthwhile_waits(self, now: float) -> list[_Wait]:
        """At most one lease a worker, the longest wait first."""
        waits = []
        for loser in self._queueing:
            late = now - loser.last_answer > 2 * loser.item_seconds + _WORTH_MOVING
            seconds = math.inf if late else (loser.load - loser.slots) * loser.item_seconds
            if seconds <= _WORTH_MOVING + loser.round_trip:
                continue
            # Behind a late item, the first in line has waited longest; behind a busy one, the last would wait longest.
            lease = list(loser.leases)[loser.slots if late else -1]
            entry = self._ledger.find(lease)
            if entry is None:
                continue
            run, position, _ = entry
            if run.is_live(position, lease):
                waits.append(_Wait(seconds, lease, loser, run))
        waits.sort(key=lambda wait: wait.seconds, reverse=True)
        return waits


def _worth_moving(idle: Worker, loser: Worker) -> float:
    return _WORTH_MOVING + idle.round_trip + loser.round_trip


def _put(queue: dict[Worker, None], worker: Worker, belongs: bool) -> None:
    if belongs:
        queue[worker] = None
    elif worker in queue:
        del queue[worker]


def _idle_slots(worker: Worker) -> int:
    return worker.slots - worker.load


def _room_to_target(worker: Worker) -> int:
    return worker.target_load - worker.load
