"""The bookmark: the trainer's progress in a session's stream, as `state_dict` returns it, during and after the session.

EpochKeeper ── make_plan ──►  Bookmark  ◄── ReadyQueue or SerialSession: the received positions
                                 │      ◄── OwnSequence: on_epoch_end calls, and the Sequence's own state
                                 └── state ──► state_dict()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from enqueuer.compute.drawn_epochs import check_order, describe_order
from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.receipts import Received
from enqueuer.stream.plan import EpochPlan
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import SKIPPED_KEPT, ResumeState

# Freezing only saves memory, so it waits no longer than this for a user's call.
_FREEZE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The beginning of a session that resumes.

    ``state`` is the loaded state, and ``own`` the Sequence, brought to it. ``source`` is the enqueuer's ``sequence`` at
    that time. The session begins in ``epoch`` with the rest of ``plan``; None: with the epoch's first batch.
    """

    state: ResumeState
    own: OwnSequence
    source: Any
    epoch: int
    plan: EpochPlan | None


class Bookmark:
    """The progress of one session. ``start()`` makes it; any thread may call `state`."""

    def __init__(
        self, own: OwnSequence, options: Options, *, seed: int, first_epoch: int, resume: ResumePoint | None = None
    ) -> None:
        self.own = own
        self.options = options
        self.seed = seed
        self.first_epoch = first_epoch
        self._resume = resume
        self._plans: dict[int, EpochPlan] = {}
        # The description of the order of samples, for a saved state, of each epoch with a plan.
        self._orders: dict[int, dict[str, Any] | None] = {}
        # The rest of an epoch that ended early, if the next epoch may go on there.
        self._rest: tuple[int, EpochPlan] | None = None
        self._goes_on_in: int | None = None
        self._get_received: Callable[[], Received] | None = None
        self._received = Received(first_epoch, Ranges(), (), False)
        own.begin(first_epoch)

    @property
    def skipped_before(self) -> int:
        """The number of batches skipped before this session."""
        return 0 if self._resume is None else self._resume.state.skipped_count

    def follow(self, get_received: Callable[[], Received]) -> None:
        """Ask ``get_received`` for the trainer's progress, until `freeze`."""
        self._get_received = get_received

    def freeze(self, timeout: float) -> None:
        """After the session: keep nothing but the progress. Gives up if the Sequence's ``state_dict`` runs too long."""
        if not self.own.lock.acquire(timeout=min(timeout, _FREEZE_SECONDS)):
            return
        try:
            if self._get_received is not None:
                self._received, self._get_received = self._get_received(), None
            self.own.release()
        finally:
            self.own.lock.release()

    def make_plan(self, epoch: int, length: int) -> EpochPlan:
        """This rank's part of the epoch that opens. Raises StateError if a resumed epoch's length has changed."""
        resume, rest, goes_on_in = self._resume, self._rest, self._goes_on_in
        if rest is not None and rest[0] == goes_on_in == epoch and rest[1].length == length:
            plan = rest[1]
        elif resume is not None and resume.plan is not None and resume.epoch == epoch:
            plan = resume.plan
            if plan.length != length:
                raise StateError(f"the state is of a Sequence with {plan.length} batches, and this one has {length}")
            check_order(self.own.instance, resume.state.order, None if resume.state.untouched else epoch)
        else:
            plan = EpochPlan.fresh(length, self.options.shard, self.options.shard_remainder)
        # The plans of the two epochs before it stay: the next epoch may open ahead, once all of this one is leased,
        # while the trainer is still at the end of the one before. Replaced as a whole: other threads read it.
        self._plans = {number: old for number, old in self._plans.items() if number >= epoch - 2} | {epoch: plan}
        self._orders = {number: self._orders.get(number) for number in self._plans}
        self._orders[epoch] = describe_order(self.own.instance, epoch)
        return plan

    def note_rest(self, epoch: int, positions: Ranges) -> None:
        """Epoch ``epoch`` has ended early, after these positions were received."""
        plan = self._plans[epoch]
        order_epoch = epoch if plan.order_epoch is None else plan.order_epoch
        self._rest = epoch + 1, replace(plan, taken=plan.received(positions), order_epoch=order_epoch)

    def go_on(self, epoch: int) -> None:
        """Have ``epoch``, which has not opened, begin where the one before it ended early, in the same order."""
        self._goes_on_in = epoch

    def goes_on(self, epoch: int) -> bool:
        """Whether `go_on` was called for this epoch."""
        return self._goes_on_in == epoch

    def state(self) -> ResumeState | None:
        """The progress as a `ResumeState`; None if no epoch has opened and no state was loaded.

        Raises the errors of the Sequence's own ``state_dict``, and StateError if that returns no JSON values.
        """
        own = self.own
        # No epoch ends under this lock, so progress, `epoch_end` and the Sequence's state belong together.
        with own.lock:
            received = self._received if self._get_received is None else self._get_received()
            if not received.began and self._resume is not None:
                return replace(self._resume.state, seed=self.seed)
            if not received.began and own.entered_epoch != received.epoch:
                return None
            plan = self._plans[received.epoch]
            after = self._plans.get(received.epoch + 1)
            known = after is not None and own.entered_epoch == received.epoch + 1
            before = self._resume.state if self._resume is not None else None
            skipped = received.skipped if before is None else before.skipped + received.skipped
            return ResumeState(
                seed=self.seed,
                epoch=received.epoch,
                length=plan.length,
                shuffle=self.options.shuffle,
                shard=plan.shard,
                shard_remainder=self.options.shard_remainder,
                total=plan.total,
                done=plan.done,
                taken=plan.received(received.positions),
                epoch_end=own.over_epoch == received.epoch,
                next_length=after.length if after is not None and known else None,
                epoch_ends=own.epoch_ends(self.seed, received.epoch),
                skipped=skipped[-SKIPPED_KEPT:],
                skipped_count=len(received.skipped) + self.skipped_before,
                sequence=own.state(),
                order=self._orders.get(received.epoch),
                order_epoch=plan.order_epoch,
            )


def fresh_state(own: OwnSequence, options: Options, epoch: int, seed: int | None) -> ResumeState:
    """The state at the beginning of an epoch, before a session. Runs the Sequence's ``__len__`` and ``state_dict``."""
    own.read()
    own.begin(epoch)
    own.enter(epoch, own.spec, own.instance)
    length = own.length(epoch)
    with own.lock:
        return ResumeState(
            seed=seed,
            epoch=epoch,
            length=length,
            shuffle=options.shuffle,
            shard=options.shard,
            shard_remainder=options.shard_remainder,
            total=EpochPlan.fresh(length, options.shard, options.shard_remainder).total,
            epoch_ends=own.epoch_ends(0, epoch),
            sequence=own.state(),
            order=describe_order(own.instance, epoch),
        )
