"""The life of epochs: when one opens, with which order and state, and when the user's hook runs.

    opened ──computed──► exhausted ──┬── prefetch: the next one opens, gated
                                     └── taken ──► on_epoch_end ──► the next one opens, gated where it can be checked
    on demand: the next one opens when its first batch is asked for, where a change could not be seen otherwise
    gated: at the next epoch's first take, length and state are compared with what was sent; if the trainer changed the
    Sequence meanwhile, a newer state generation replaces what was computed ahead.

Everything here runs in the hook thread, since it calls the user's object.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.sequence_checks import own_on_epoch_end
from enqueuer.compute.spec import SequenceSpec
from enqueuer.core.events import EpochConfirmed, EpochOpened, Event
from enqueuer.errors import ConfigurationError
from enqueuer.memory.segment import SharedSegment
from enqueuer.protocol.live_object import carried_state, live_state, pack_bundle
from enqueuer.runtime.bookmark import Bookmark

# Above this, comparing the whole object at every epoch would cost more than a tenth of a second.
CHEAP_STATE_BYTES = 256 * 1024 * 1024
# The segments of this many newest state generations stay: the current epoch's and the next one's.
_SEGMENTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """Where batches are computed, as far as the Sequence's journey there is concerned."""

    threads: bool
    processes: bool
    remote: bool
    # Remote workers have keys, so that those whose owners want it get a live object.
    keys: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """What one generation was sent as."""

    generation: int
    wire: dict[str, Any]
    sequence: list[Any] | None
    segment: SharedSegment | None
    # What remote workers get in place of ``wire``; None: the same, or nothing, for that reason.
    remote_wire: dict[str, Any] | None = None
    remote_refusal: str = ""

    def is_as(self, other: _State) -> bool:
        """Whether a worker that has one has the other."""
        return self.segment is other.segment and (self.sequence, self.wire, self.remote_wire) == (
            other.sequence,
            other.wire,
            other.remote_wire,
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    """An epoch that is being computed or taken, and the Sequence that it is of."""

    event: EpochOpened
    spec: SequenceSpec | None
    instance: Any


class EpochKeeper:
    """Opens epochs for one session, and writes them into its ``bookmark``. ``post`` hands events to the core;
    ``set_length`` tells the ready queue; ``directory`` is private, for systems where shared memory needs a file.
    """

    def __init__(
        self,
        bookmark: Bookmark,
        placement: Placement,
        directory: Path,
        post: Callable[[Event], None],
        set_length: Callable[[int, int], None],
    ) -> None:
        self._bookmark = bookmark
        self._own = bookmark.own
        self._options = bookmark.options
        self._placement = placement
        self._seed = bookmark.seed
        self._directory = directory
        self._post = post
        self._set_length = set_length
        self._state: _State | None = None
        self._segments: list[SharedSegment] = []
        self._opened: dict[int, _Opened] = {}
        self._exhausted = -1
        # Set by any thread, once.
        self.on_demand = False

    # ------------------------------------------------------------ what the session asks for

    def open(self, epoch: int, *, gated: bool = False) -> None:
        """Read the Sequence as it is now and let the epoch be computed.

        Raises ValueError for an empty Sequence, ConfigurationError for one that cannot be sent, StateError for one that
        is not what a resumed epoch is of, and whatever the user's ``__len__`` or pickling raises.
        """
        own = self._own
        own.read()
        length = own.length()
        if length < 1:
            raise ValueError(f"the Sequence is empty: len() is {length}, so there is no batch to compute")
        plan = self._bookmark.make_plan(epoch, length)
        if plan.left_count < 1:
            raise ValueError(
                f"the Sequence has {length} batches for {plan.shard[1]} ranks, so shard_remainder='drop' leaves none; "
                "use shard_remainder='repeat' or fewer ranks"
            )
        state = self._make_state()
        order = plan.order(self._seed, epoch, shuffle=self._options.shuffle)
        digest = b""
        if own.spec is not None and self._placement.remote:
            digest = sequence_digest(own.spec.target, own.spec.kwargs)
        opened = EpochOpened(
            epoch,
            state.generation,
            self._seed,
            order,
            length,
            digest,
            state.wire,
            state.sequence,
            self._worker_options(length, digest),
            gated and self._can_check(state),
            state.remote_wire,
            state.remote_refusal,
        )
        self._opened[epoch] = _Opened(opened, own.spec, own.instance)
        own.enter(epoch, own.spec, own.instance)
        self._set_length(epoch, plan.left_count)
        self._post(opened)

    def exhausted(self, epoch: int) -> None:
        """Every position of the epoch is leased: compute the next one ahead, if nothing can come in between."""
        self._exhausted = max(epoch, self._exhausted)
        self._prefetch(epoch + 1)

    def taken(self, epoch: int) -> None:
        """The trainer took the epoch's last batch: run the hook, and open the next epoch."""
        self._own.end_epoch(self._seed, epoch, self._opened[epoch].instance)
        del self._opened[epoch]
        following = self._opened.get(epoch + 1)
        if following is None:
            assert self._state is not None
            if not self.on_demand or self._can_check(self._state):
                self.open(epoch + 1, gated=True)
        elif not following.event.gated:
            self._own.enter(epoch + 1, following.spec, following.instance)
            self._prefetch(epoch + 2)

    def wanted(self, epoch: int) -> None:
        """The trainer waits for the epoch's first batch: is what was computed ahead what it wants?"""
        opened = self._opened.get(epoch)
        if opened is None and self.on_demand:
            self.open(epoch)
        if opened is None or not opened.event.gated:
            return
        self._own.read()
        state = self._make_state()
        if state.generation == opened.event.generation and self._own.length() == opened.event.length:
            self._own.enter(epoch, self._own.spec, self._own.instance)
            self._post(EpochConfirmed(epoch))
            self._prefetch(epoch + 1)
        else:
            self.open(epoch)

    def instance(self, epoch: int) -> Any:
        """The object that this process's own threads index for an epoch that is open."""
        return self._opened[epoch].instance

    def close(self) -> None:
        """Give the shared segments up. The session's threads must have ended."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    # ------------------------------------------------------------ the Sequence and its state

    def _make_state(self) -> _State:
        """What workers need to have the Sequence as it is now; the old state if nothing changed."""
        old, generation = self._state, 0 if self._state is None else self._state.generation
        state = self._describe(generation)
        if old is not None and not state.is_as(old):
            state = dataclasses.replace(state, generation=generation + 1)
        self._state = state
        return state

    def _describe(self, generation: int) -> _State:
        """A live Sequence, or a live ``worker_init``, travels in shared memory, to the trainer's own processes; to
        remote workers a live Sequence travels in the message itself, and a live ``worker_init`` with it.
        """
        spec = self._own.spec
        if spec is None:
            parts, refusal = self._pack(self._own.instance, needed=self._placement.processes)
            segment = self._keep_segment(parts) if self._placement.processes else None
            wire = {} if segment is None else live_state(segment.path)
            remote_wire = None
            if self._placement.keys and not refusal:
                try:
                    remote_wire = carried_state(parts)
                except ConfigurationError as error:
                    refusal = str(error)
            return _State(generation, wire, None, segment, remote_wire, refusal)
        ends = {"epoch_ends": [list(run) for run in self._own.ends.runs]}
        sequence = [spec.target, spec.kwargs]
        if not (self._placement.processes and callable(self._options.worker_init)):
            return _State(generation, ends, sequence, None)
        segment = self._keep_segment(self._pack(spec, needed=True)[0])
        return _State(generation, {**live_state(segment.path), **ends}, sequence, segment, ends)

    def _pack(self, sequence: Any, *, needed: bool) -> tuple[list[memoryview], str]:
        """The bundle, or, unless it is ``needed``, why there is none."""
        if not needed and not self._placement.keys:
            return [], ""
        init = self._options.worker_init if callable(self._options.worker_init) else None
        try:
            return pack_bundle(sequence, init), ""
        except ConfigurationError as error:
            if needed:
                raise
            return [], str(error)

    def _keep_segment(self, parts: list[memoryview]) -> SharedSegment:
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.matches(parts):
            return newest
        segment = SharedSegment.create(parts, directory=self._directory)
        self._segments.append(segment)
        while len(self._segments) > _SEGMENTS_KEPT:
            self._segments.pop(0).close()
        return segment

    def _worker_options(self, length: int, digest: bytes) -> dict[str, Any]:
        init, limit = self._options.worker_init, self._options.max_batches_per_worker
        return {
            "sequence_length": length,
            "sequence_digest": digest,
            "max_batches": limit if limit is None else operator.index(limit),
            "worker_init": init if isinstance(init, str) else None,
            # What is pickled inside of a batch is taken.
            "allow_pickle": self._options.allow_pickle,
        }

    # ------------------------------------------------------------ prefetch

    def _can_check(self, state: _State) -> bool:
        """Whether a change by the trainer can be seen: not in an object that this process's threads share."""
        if self._placement.threads and not self._placement.processes:
            return False
        return state.segment is None or state.segment.nbytes <= CHEAP_STATE_BYTES

    def _prefetch(self, epoch: int) -> None:
        """At most one epoch ahead of the trainer's: without a bound on the queue there would be no end to it."""
        if self._exhausted == epoch - 1 == min(self._opened) and epoch not in self._opened and self._may_prefetch():
            # What fails now fails again when the epoch before is over, which is where its error belongs.
            with contextlib.suppress(Exception):
                self.open(epoch, gated=True)

    def _may_prefetch(self) -> bool:
        if self._options.prefetch_epochs is not None:
            return self._options.prefetch_epochs
        if self._placement.threads or own_on_epoch_end(self._own.instance) is not None:
            return False
        assert self._state is not None
        return self._can_check(self._state)
