"""Where the trainer is in the stream, at any time, also after the session: what `state_dict` says."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.receipts import Received
from enqueuer.stream.plan import EpochPlan
from enqueuer.stream.ranges import Ranges
from enqueuer.stream.state import SKIPPED_KEPT, ResumeState

# It only saves memory, so a user's call is not waited for.
_FREEZE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a session goes on. ``state`` is what it was told, ``own`` the Sequence, brought there; ``plan`` what is
    left of ``epoch`` (None: it begins).
    """

    state: ResumeState
    own: OwnSequence
    source: Any
    epoch: int
    plan: EpochPlan | None


def own_shard(options: Options) -> tuple[int, int]:
    """Plain numbers, which become JSON and compare."""
    rank, world_size = options.shard
    return operator.index(rank), operator.index(world_size)


class Bookmark:
    """One session's. Made by ``start()``; `state` may be called by any thread."""

    def __init__(
        self, own: OwnSequence, options: Options, *, seed: int, first_epoch: int, resume: ResumePoint | None = None
    ) -> None:
        self.own = own
        self.options = options
        self.seed = seed
        self.first_epoch = first_epoch
        self._resume = resume
        self._plans: dict[int, EpochPlan] = {}
        self._get_received: Callable[[], Received] | None = None
        self._received = Received(first_epoch, Ranges(), (), False)
        own.begin(first_epoch)

    @property
    def skipped_before(self) -> int:
        return 0 if self._resume is None else self._resume.state.skipped_count

    def follow(self, get_received: Callable[[], Received]) -> None:
        """Who knows what the trainer has received."""
        self._get_received = get_received

    def freeze(self, timeout: float) -> None:
        """The session has ended: let go of all but its place. Not if the Sequence's ``state_dict`` runs meanwhile."""
        if not self.own.lock.acquire(timeout=min(timeout, _FREEZE_SECONDS)):
            return
        try:
            if self._get_received is not None:
                self._received, self._get_received = self._get_received(), None
            self.own.release()
        finally:
            self.own.lock.release()

    def make_plan(self, epoch: int, length: int) -> EpochPlan:
        """This rank's part of the epoch that opens. Raises StateError if the resumed one's length has changed."""
        resume = self._resume
        if resume is not None and resume.plan is not None and resume.epoch == epoch:
            plan = resume.plan
            if plan.length != length:
                raise StateError(f"the state is of a Sequence with {plan.length} batches, and this one has {length}")
        else:
            plan = EpochPlan.fresh(length, own_shard(self.options), self.options.shard_remainder)
        # The trainer may be at the end of the last epoch but one, if the last is as good as over. Replaced as a whole:
        # other threads read it.
        self._plans = {number: old for number, old in self._plans.items() if number >= epoch - 2} | {epoch: plan}
        return plan

    def state(self) -> ResumeState | None:
        """None if no epoch has opened yet, and none was loaded.

        Raises what the Sequence's own ``state_dict`` does, and StateError if that gives no JSON values.
        """
        own = self.own
        # Under it no epoch ends, so place, `epoch_end` and the Sequence's state belong together.
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
                shuffle=bool(self.options.shuffle),
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
            )


def fresh_state(own: OwnSequence, options: Options, epoch: int, seed: int | None) -> ResumeState:
    """The state of an epoch that has not opened yet. Runs the Sequence's ``__len__``, and its ``state_dict``."""
    shard = own_shard(options)
    own.read()
    own.begin(epoch)
    own.enter(epoch, own.spec, own.instance)
    length = own.length()
    with own.lock:
        return ResumeState(
            seed=None if seed is None else operator.index(seed),
            epoch=epoch,
            length=length,
            shuffle=bool(options.shuffle),
            shard=shard,
            shard_remainder=options.shard_remainder,
            total=EpochPlan.fresh(length, shard, options.shard_remainder).total,
            epoch_ends=own.epoch_ends(0, epoch),
            sequence=own.state(),
        )
