"""The state generations of the Sequence, as workers receive them.

local processes    a live Sequence, or a live ``worker_init``, in a shared segment
remote workers     a live Sequence in the message itself, with a live ``worker_init``
both               of a `SequenceSpec` its target, its arguments and the number of ``on_epoch_end`` calls

A generation is packed again only if the Sequence may have changed: after a hook, or if its fingerprint differs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import ConfigurationError
from enqueuer.memory.segment import SharedSegment
from enqueuer.options import WorkerInit
from enqueuer.protocol.fingerprint import Fingerprint
from enqueuer.protocol.live_object import BUNDLE_HEAD, carried_state, live_state, pack_bundle
from enqueuer.protocol.messages import SpecOnWire
from enqueuer.runtime.own_sequence import OwnSequence

# The segments of the newest state generations are kept: the current epoch's and the next one's.
_SEGMENTS_KEPT = 2
# Pickling so much takes some milliseconds.
_CHEAP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Placement:
    """The kinds of workers that a session may have; they decide how the Sequence travels."""

    threads: bool
    processes: bool
    remote: bool
    # Remote workers have keys, so a live object may travel to them, if their owners allow it.
    keys: bool = False


@dataclass(frozen=True, slots=True)
class SentState:
    """One state generation of the Sequence, as workers receive it."""

    generation: int
    wire: dict[str, Any]
    sequence: SpecOnWire | None
    segment: SharedSegment | None
    # In place of ``wire`` for remote workers. None: they get ``wire`` too, or nothing, for the reason in the refusal.
    remote_wire: dict[str, Any] | None = None
    remote_refusal: str = ""
    # The source of the state: a spec or a live object, how often hooks had run on it, and its fingerprint. If none can
    # be made, none is tried again until the object has changed: the try costs half a pickling.
    source: Any = None
    hooks_count: int = 0
    fingerprint: Fingerprint | None = None
    tries_fingerprint: bool = True
    # Workers and the trainer see one memory, in which a change cannot be seen.
    shares_memory: bool = False

    def is_same(self, other: SentState) -> bool:
        """Whether both are the same to workers, apart from the generation's number."""
        return self.segment is other.segment and (self.sequence, self.wire, self.remote_wire) == (
            other.sequence,
            other.wire,
            other.remote_wire,
        )


class SentStates:
    """Packs the trainer's Sequence into state generations. Runs in the hook thread, but for `close`."""

    def __init__(self, own: OwnSequence, placement: Placement, directory: Path, worker_init: WorkerInit | None) -> None:
        self._own = own
        self._placement = placement
        self._directory = directory
        self._worker_init = worker_init
        self._segments: list[SharedSegment] = []
        # The newest generation; None before the first `make`.
        self.newest: SentState | None = None

    def make(self) -> SentState:
        """The present state of the Sequence; its generation is the old one if nothing changed."""
        old, generation = self.newest, 0 if self.newest is None else self.newest.generation
        if old is not None and self.is_presumed_unchanged() and self._has_fingerprint_of(old):
            return old
        state = self._describe(generation)
        if old is not None and not state.is_same(old):
            state = dataclasses.replace(state, generation=generation + 1, tries_fingerprint=True)
        self.newest = state
        return state

    def renumber(self) -> SentState:
        """The newest state under the next generation: what was computed under the old one is given up."""
        assert self.newest is not None
        self.newest = dataclasses.replace(self.newest, generation=self.newest.generation + 1)
        return self.newest

    def is_presumed_unchanged(self) -> bool:
        """Whether the Sequence has the newest state, unless the trainer has changed it without a hook."""
        state, own = self.newest, self._own
        if state is None or state.hooks_count != len(own.ends):
            return False
        return state.source == own.spec if own.spec is not None else state.source is own.instance

    def is_cheap_to_check(self) -> bool:
        """Whether the present state needs no pickling, or little: what is packed now is compared when it is wanted.

        The state of a spec's instance is its calls of hooks: nothing is pickled.
        """
        state = self.newest
        if self._own.spec is not None or self.is_presumed_unchanged():
            return True
        return state is None or state.segment is None or state.segment.nbytes <= _CHEAP_BYTES

    def _has_fingerprint_of(self, state: SentState) -> bool:
        if state.fingerprint is None or state.segment is None:
            return False
        buffers = state.fingerprint.compare(self._own.instance)
        return buffers is not None and state.segment.matches(buffers, first=BUNDLE_HEAD)

    def _describe(self, generation: int) -> SentState:
        spec = self._own.spec
        return self._describe_live(generation) if spec is None else self._describe_spec(generation, spec)

    def _describe_live(self, generation: int) -> SentState:
        instance, processes = self._own.instance, self._placement.processes
        # Before the packing: a change in between must be seen as one.
        tries = self.newest is None or self.newest.tries_fingerprint or not self.is_presumed_unchanged()
        tries = tries and processes and not self._placement.keys
        fingerprint = Fingerprint.of(instance) if tries else None
        parts, refusal = self._pack(instance, needed=processes)
        segment = self._keep_segment(parts) if processes else None
        since = {"since": self._own.ends.since}
        wire = {} if segment is None else {**live_state(segment.path), **since}
        remote_wire = None
        if self._placement.keys and not refusal:
            try:
                remote_wire = {**carried_state(parts), **since}
            except ConfigurationError as error:
                refusal = str(error)
        hooks_count = len(self._own.ends)
        own = (instance, hooks_count, fingerprint, fingerprint is not None, getattr(parts, "shares_memory", False))
        return SentState(generation, wire, None, segment, remote_wire, refusal, *own)

    def _describe_spec(self, generation: int, spec: SequenceSpec) -> SentState:
        hooks_count = len(self._own.ends)
        ends = {"epoch_ends": [list(run) for run in self._own.ends.runs]}
        sequence = [spec.target, spec.kwargs]
        if not (self._placement.processes and callable(self._worker_init)):
            return SentState(generation, ends, sequence, None, source=spec, hooks_count=hooks_count)
        segment = self._keep_segment(self._pack(spec, needed=True)[0])
        wire = {**live_state(segment.path), **ends}
        return SentState(generation, wire, sequence, segment, ends, source=spec, hooks_count=hooks_count)

    def _pack(self, sequence: Any, *, needed: bool) -> tuple[list[memoryview], str]:
        """Pack the Sequence and ``worker_init``. If that fails and is not ``needed``: no parts, and the reason."""
        if not needed and not self._placement.keys:
            return [], ""
        init = self._worker_init if callable(self._worker_init) else None
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

    def close(self) -> None:
        """Release the shared segments."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
