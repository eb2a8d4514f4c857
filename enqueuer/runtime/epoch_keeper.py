"""The life of epochs: when one opens, with which order and state, and when the user's hook runs.

    opened ──computed──► exhausted ──┬── prefetch: the next one opens, gated
                                     └── taken ──► on_epoch_end ──► the next one opens, gated where it can be checked
    gated: at the next epoch's first take, length and state are compared with what was sent; if the trainer changed the
    Sequence meanwhile, a newer state generation replaces what was computed ahead.

Everything here runs in the hook thread, since it calls the user's object.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.seeding import seeded_globals
from enqueuer.compute.sequence_checks import own_on_epoch_end
from enqueuer.compute.spec import SequenceSpec
from enqueuer.config import Options
from enqueuer.core.epoch_order import epoch_order, shard_length
from enqueuer.core.events import EpochConfirmed, EpochOpened, Event
from enqueuer.protocol.live_object import live_state, pack_bundle
from enqueuer.transport.segment import SharedSegment

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


@dataclass(frozen=True, slots=True)
class _State:
    """What one generation was sent as."""

    generation: int
    wire: dict[str, Any]
    sequence: list[Any] | None
    segment: SharedSegment | None


@dataclass(frozen=True, slots=True)
class _Opened:
    """An epoch that is being computed or taken, and the Sequence that it is of."""

    event: EpochOpened
    spec: SequenceSpec | None
    instance: Any


class EpochKeeper:
    """Opens epochs for one session. ``post`` hands events to the core; ``set_length`` tells the ready queue;
    ``directory`` is private, for systems where shared memory needs a file.
    """

    def __init__(
        self,
        get_sequence: Callable[[], Any],
        options: Options,
        placement: Placement,
        seed: int,
        directory: Path,
        post: Callable[[Event], None],
        set_length: Callable[[int, int], None],
    ) -> None:
        self._get_sequence = get_sequence
        self._options = options
        self._placement = placement
        self._seed = seed
        self._directory = directory
        self._post = post
        self._set_length = set_length
        self._spec: SequenceSpec | None = None
        self._instance: Any = None
        self._state: _State | None = None
        self._segments: list[SharedSegment] = []
        self._opened: dict[int, _Opened] = {}
        self._exhausted = -1
        self._epoch_ends: list[list[int]] = []

    # ------------------------------------------------------------ what the session asks for

    def open(self, epoch: int, *, gated: bool = False) -> None:
        """Read the Sequence as it is now and let the epoch be computed.

        Raises ValueError for an empty Sequence, ConfigurationError for one that cannot be sent, and whatever the
        user's ``__len__`` or pickling raises.
        """
        self._read_sequence()
        length = operator.index(len(self._instance))
        if length < 1:
            raise ValueError(f"the Sequence is empty: len() is {length}, so there is no batch to compute")
        count = shard_length(length, self._options.shard, self._options.shard_remainder)
        if count < 1:
            world_size = self._options.shard[1]
            raise ValueError(
                f"the Sequence has {length} batches for {world_size} ranks, so shard_remainder='drop' leaves none; "
                "use shard_remainder='repeat' or fewer ranks"
            )
        state = self._make_state()
        order = epoch_order(
            self._seed,
            epoch,
            length,
            shuffle=self._options.shuffle,
            shard=self._options.shard,
            remainder=self._options.shard_remainder,
        )
        digest = b""
        if self._spec is not None and self._placement.remote:
            digest = sequence_digest(self._spec.target, self._spec.kwargs)
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
        )
        self._opened[epoch] = _Opened(opened, self._spec, self._instance)
        self._set_length(epoch, count)
        self._post(opened)

    def exhausted(self, epoch: int) -> None:
        """Every position of the epoch is leased: compute the next one ahead, if nothing can come in between."""
        self._exhausted = max(epoch, self._exhausted)
        self._prefetch(epoch + 1)

    def taken(self, epoch: int) -> None:
        """The trainer took the epoch's last batch: run the hook, and open the next epoch."""
        over = self._opened[epoch]
        hook = own_on_epoch_end(over.instance)
        if hook is not None:
            self._run_hook(hook, epoch, over.spec)
        del self._opened[epoch]
        if epoch + 1 not in self._opened:
            self.open(epoch + 1, gated=True)
        elif not self._opened[epoch + 1].event.gated:
            self._prefetch(epoch + 2)

    def wanted(self, epoch: int) -> None:
        """The trainer waits for the epoch's first batch: is what was computed ahead what it wants?"""
        opened = self._opened.get(epoch)
        if opened is None or not opened.event.gated:
            return
        self._read_sequence()
        state = self._make_state()
        if state.generation == opened.event.generation and len(self._instance) == opened.event.length:
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

    def _read_sequence(self) -> None:
        """`enq.sequence` may have been replaced: that takes effect with the next epoch."""
        source = self._get_sequence()
        if not isinstance(source, SequenceSpec):
            self._spec, self._instance = None, source
        elif source != self._spec:
            self._spec, self._instance = source, source.build()
            self._epoch_ends = []

    def _make_state(self) -> _State:
        """What workers need to have the Sequence as it is now; the old state if nothing changed."""
        sequence = [self._spec.target, self._spec.kwargs] if self._spec is not None else None
        segment = self._make_segment()
        wire: dict[str, Any] = live_state(segment.path) if segment is not None else {}
        if self._spec is not None:
            wire["epoch_ends"] = [list(run) for run in self._epoch_ends]
        old = self._state
        generation = 0 if old is None else old.generation
        if old is not None and (old.segment is not segment or old.sequence != sequence or old.wire != wire):
            generation += 1
        self._state = _State(generation, wire, sequence, segment)
        return self._state

    def _make_segment(self) -> SharedSegment | None:
        """A live Sequence, or a live ``worker_init``, travels in shared memory, to the trainer's own processes."""
        init = self._options.worker_init if callable(self._options.worker_init) else None
        if not self._placement.processes or (self._spec is not None and init is None):
            return None
        parts = pack_bundle(self._spec if self._spec is not None else self._instance, init)
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
        }

    # ------------------------------------------------------------ hooks and prefetch

    def _run_hook(self, hook: Callable[[], Any], epoch: int, spec: SequenceSpec | None) -> None:
        """Seeded where others must be able to repeat it: workers that have a spec, and a run with a given seed."""
        if spec is None and self._options.seed is None:
            hook()
            return
        with seeded_globals(self._seed, epoch):
            hook()
        if spec is None or spec != self._spec:
            return  # nobody repeats it: a live object travels as it is, and another spec's workers start anew
        last = self._epoch_ends[-1] if self._epoch_ends else None
        if last is not None and last[0] == self._seed and last[1] + last[2] == epoch:
            last[2] += 1
        else:
            self._epoch_ends.append([self._seed, epoch, 1])

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
        if self._placement.threads or own_on_epoch_end(self._instance) is not None:
            return False
        assert self._state is not None
        return self._can_check(self._state)
