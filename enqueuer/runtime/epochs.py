"""The life of an epoch: opened, computed ahead, checked, and ended with the user's hook.

    open(N) ──► all leased: exhausted(N) ──► prefetch: open(N + 1), gated
            ──► last batch taken: taken(N) ──► on_epoch_end ──► open(N + 1), gated, unless it is open already
                                                   first batch awaited: wanted(N + 1) ──► confirmed, or opened anew

An epoch opens with the Sequence's length and state at that time. A gated epoch is computed, but nothing of it is
delivered before it is confirmed: `wanted` compares length and state with those it was opened with. If the trainer has
changed the Sequence meanwhile, the epoch opens anew under the next state generation, and the core gives up the batches
computed under the old one. A change cannot be seen in an object that threads share, nor cheaply in a large one: there
no epoch is gated, and with ``on_demand`` it opens in `wanted`, not in `taken`.

`open`, `exhausted`, `taken` and `wanted` run in the hook thread, since they call the user's object. `instance` runs in
the I/O thread: it reads one entry of a dict, set before the core hears of the epoch and deleted after the take of its
last batch. ``on_demand`` is set by any thread. `close` runs in the thread that stops the session.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from enqueuer.protocol.messages import SpecOnWire
from enqueuer.runtime.bookmark import Bookmark

# Above this, comparing the whole object at every epoch would cost more than a tenth of a second.
CHEAP_STATE_BYTES = 256 * 1024 * 1024
# The segments of the newest state generations are kept: the current epoch's and the next one's.
_SEGMENTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """The kinds of workers that a session may have; they decide how the Sequence travels."""

    threads: bool
    processes: bool
    remote: bool
    # Remote workers have keys, so a live object may travel to them, if their owners allow it.
    keys: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """One state generation of the Sequence, as workers receive it."""

    generation: int
    wire: dict[str, Any]
    sequence: SpecOnWire | None
    segment: SharedSegment | None
    # In place of ``wire`` for remote workers. None: they get ``wire`` too, or nothing, for the reason in the refusal.
    remote_wire: dict[str, Any] | None = None
    remote_refusal: str = ""

    def is_same(self, other: _State) -> bool:
        """Whether both are the same to workers, apart from the generation's number."""
        return self.segment is other.segment and (self.sequence, self.wire, self.remote_wire) == (
            other.sequence,
            other.wire,
            other.remote_wire,
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open epoch, and its Sequence: live, or built from ``spec``."""

    event: EpochOpened
    spec: SequenceSpec | None
    instance: Any


class EpochKeeper:
    """Opens and ends the epochs of one session, and writes their plans into its ``bookmark``.

    ``post`` hands events to the core; ``set_length`` tells the ready queue an epoch's length; ``directory`` is private,
    for systems where shared memory needs a file.
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
        # Where a change cannot be seen, epochs open when their first batch is asked for. Any thread may set it.
        self.on_demand = False

    # ------------------------------------------------------------ events of an epoch's life

    def open(self, epoch: int, *, gated: bool = False) -> None:
        """Read the Sequence as it is now, and have the epoch computed.

        Raises ValueError for an empty Sequence, ConfigurationError if it cannot be sent, StateError if its length is
        not that of the resumed epoch, and the errors of the user's ``__len__`` and of pickling.
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
        """Every position of the epoch is leased: compute the next epoch ahead, if it may be prefetched."""
        self._exhausted = max(epoch, self._exhausted)
        self._prefetch(epoch + 1)

    def taken(self, epoch: int) -> None:
        """The epoch's last batch was taken: run ``on_epoch_end``, and open the next epoch."""
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
        """The trainer waits for the epoch's first batch: confirm a gated epoch, or open it anew."""
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
        """The object that the trainer's own threads index in this epoch, which is open."""
        return self._opened[epoch].instance

    def close(self) -> None:
        """Release the shared segments. The session's threads must have ended."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    # ------------------------------------------------------------ the Sequence and its state

    def _make_state(self) -> _State:
        """The present state of the Sequence; its generation is the old one if nothing changed."""
        old, generation = self._state, 0 if self._state is None else self._state.generation
        state = self._describe(generation)
        if old is not None and not state.is_same(old):
            state = dataclasses.replace(state, generation=generation + 1)
        self._state = state
        return state

    def _describe(self, generation: int) -> _State:
        """Pack the Sequence for workers.

        A live Sequence, or a live ``worker_init``, travels in shared memory to local processes. To remote workers a
        live Sequence travels in the message itself, with a live ``worker_init``.
        """
        spec = self._own.spec
        if spec is None:
            parts, refusal = self._pack(self._own.instance, needed=self._placement.processes)
            segment = self._keep_segment(parts) if self._placement.processes else None
            since = {"since": self._own.ends.since}
            wire = {} if segment is None else {**live_state(segment.path), **since}
            remote_wire = None
            if self._placement.keys and not refusal:
                try:
                    remote_wire = {**carried_state(parts), **since}
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
        """Pack the Sequence and ``worker_init``. If that fails and is not ``needed``: no parts, and the reason."""
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
        """A segment with these parts: the newest one, if it has the same, or a new one."""
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.matches(parts):
            return newest
        segment = SharedSegment.create(parts, directory=self._directory)
        self._segments.append(segment)
        while len(self._segments) > _SEGMENTS_KEPT:
            self._segments.pop(0).close()
        return segment

    def _worker_options(self, length: int, digest: bytes) -> dict[str, Any]:
        init = self._options.worker_init
        return {
            "sequence_length": length,
            "sequence_digest": digest,
            "max_batches": self._options.max_batches_per_worker,
            "worker_init": init if isinstance(init, str) else None,
            # Pickles inside of batches are accepted.
            "allow_pickle": self._options.allow_pickle,
        }

    # ------------------------------------------------------------ prefetch

    def _can_check(self, state: _State) -> bool:
        """Whether a change by the trainer can be seen, in time: not in an object that threads share or a large one."""
        if self._placement.threads and not self._placement.processes:
            return False
        return state.segment is None or state.segment.nbytes <= CHEAP_STATE_BYTES

    def _prefetch(self, epoch: int) -> None:
        """Open the epoch if it may be computed ahead: one epoch at most, or an unbounded queue would never be full."""
        if self._exhausted == epoch - 1 == min(self._opened) and epoch not in self._opened and self._may_prefetch():
            # An error here comes again when the epoch before is over, and belongs there.
            with contextlib.suppress(Exception):
                self.open(epoch, gated=True)

    def _may_prefetch(self) -> bool:
        if self._options.prefetch_epochs is not None:
            return self._options.prefetch_epochs
        if self._placement.threads or own_on_epoch_end(self._own.instance) is not None:
            return False
        assert self._state is not None
        return self._can_check(self._state)
