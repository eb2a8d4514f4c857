"""Builds the Sequence in a worker and keeps it in step with the trainer's epochs.

From a spec: one instance for the worker's life, so that its caches last, brought up to date by ``set_epoch`` or by
replaying ``on_epoch_end``. From a live object: unpickled afresh for each epoch and state generation, as Keras renews
its copies. Modules are found through ``sys.path`` as it is: whoever starts the worker puts the current directory first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Any

from enqueuer.compute.context import enter_epoch
from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.epoch_state import EpochEnd, catch_up, read_epoch_ends
from enqueuer.compute.spec import SequenceSpec, call_factory
from enqueuer.errors import ProtocolError
from enqueuer.memory.segment import map_segment, read_parts
from enqueuer.protocol.live_object import carried_parts, is_carried, live_path, unpack_sequence, unpack_worker_init
from enqueuer_worker.sequence.allowance import Allowance

logger = logging.getLogger(__name__)

_LIVE_INIT = "the bundle's"


class SequenceLoader:
    """The Sequence of one worker. Its methods are for the thread that computes: they run the user's code."""

    def __init__(self, allowed: Allowance) -> None:
        self._allowed = allowed
        self._current: tuple[bytes, int, int] | None = None
        self._sequence: Any = None
        self._spec: SequenceSpec | None = None
        # The (seed, epoch) of each on_epoch_end that the spec's instance has had.
        self._replayed: list[EpochEnd] = []
        self._inits_run: set[str] = set()

    def load(
        self,
        session: bytes,
        epoch: int,
        generation: int,
        seed: int,
        state: Any,
        sequence: list[Any] | None,
        worker_init: str | None = None,
    ) -> Any:
        """The Sequence to index for this session's epoch and state generation; the same call again costs nothing.

        ``state`` is that of `Epoch`: a dict with ``path`` (a bundle in a shared segment, see `live_object`) or
        ``parts`` (a bundle that has travelled), or for a spec ``epoch_ends``, or that and ``path`` for a bundle that
        holds a spec. ``epoch_ends`` are the on_epoch_end calls that the trainer's own instance has had:
        ``[[seed, first epoch, count], …]``. ``sequence`` (``[target, kwargs]`` or None) and ``worker_init``
        ('package.module:callable' or None) are those of `Welcome`.

        Raises AuthenticationError for what the worker's owner did not allow, ConfigurationError for a target that is
        none, ProtocolError for a state that makes no sense, and whatever the user's code or its import raises. The
        next call then begins anew.
        """
        wanted = (session, epoch, generation)
        if self._current != wanted:
            self._current = None
            enter_epoch(seed, epoch)
            self._run_init(worker_init, self._allowed.resolve)
            parts = self._read_bundle(state)
            if parts is not None:
                self._load_bundle(parts, epoch, seed, state)
            else:
                self._load_spec(_read_spec(sequence), epoch, seed, state)
            self._current = wanted
        return self._sequence

    def length(self) -> int:
        """``len()`` of what was loaded last; runs the user's ``__len__``."""
        return len(self._sequence)

    def digest(self) -> bytes:
        """The digest of a spec's code and arguments; b'' (unknown) for a live object, which is the trainer's own."""
        return b"" if self._spec is None else sequence_digest(self._spec.target, self._spec.kwargs)

    def close(self) -> None:
        """Give the Sequence up and call its ``close()``, if it has one, whose errors are only logged."""
        sequence, self._sequence = self._sequence, None
        self._current, self._spec, self._replayed = None, None, []
        close = getattr(sequence, "close", None)
        if callable(close):
            try:
                close()
            except Exception:
                logger.exception("close() of the Sequence failed")

    def _read_bundle(self, state: Any) -> list[memoryview] | None:
        """The parts of a live object; None if there is none. Nothing is opened or read that the owner did not allow."""
        path = live_path(state)
        if path is not None:
            self._allowed.check_segment()
            return read_parts(map_segment(path))
        if is_carried(state):
            self._allowed.check_live_object()
            return carried_parts(state)
        return None

    def _load_bundle(self, parts: list[memoryview], epoch: int, seed: int, state: Any) -> None:
        init = unpack_worker_init(parts)
        if init is not None:
            self._run_init(_LIVE_INIT, lambda _: init)
        if self._spec is None:
            # The last epoch's copy: before the new one is made, which may want the same file or device.
            self.close()
        unpacked = unpack_sequence(parts)
        if isinstance(unpacked, SequenceSpec):
            self._load_spec(unpacked, epoch, seed, state)
        else:
            self.close()
            self._sequence = unpacked

    def _load_spec(self, spec: SequenceSpec, epoch: int, seed: int, state: Any) -> None:
        factory = self._allowed.resolve(spec.target)
        ends = read_epoch_ends(state.get("epoch_ends", []) if isinstance(state, dict) else [])
        # Another history: a new session, or another trainer. What was replayed cannot be taken back.
        if spec != self._spec or list(islice(ends, len(self._replayed))) != self._replayed:
            self.close()
            self._sequence = call_factory(factory, spec.target, spec.kwargs)
            self._spec = spec
        try:
            missing = islice(ends, len(self._replayed), None)
            catch_up(self._sequence, epoch, seed, missing, self._replayed.append)
        except BaseException:
            # Half way between two epochs: not to be used, nor to be replayed upon.
            self.close()
            raise

    def _run_init(self, name: str | None, resolve: Callable[[str], Callable[[], Any]]) -> None:
        """Run a ``worker_init`` before the first Sequence is built; once, unless another trainer brings another."""
        if name is not None and name not in self._inits_run:
            resolve(name)()
            self._inits_run.add(name)


def _read_spec(sequence: list[Any] | None) -> SequenceSpec:
    match sequence:
        case [str() as target, dict() as kwargs] if all(isinstance(name, str) for name in kwargs):
            return SequenceSpec(target, **kwargs)
    raise ProtocolError("an epoch with neither a SequenceSpec nor a live Sequence")
