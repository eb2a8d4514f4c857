"""The Sequence loader: builds the Sequence in a worker and keeps it in step with the trainer's epochs.

From a spec it builds one instance for the worker's life, so that caches last, and brings it up to date by ``set_epoch``
or by replaying ``on_epoch_end``. A live object is unpickled afresh for each epoch and state generation, as Keras renews
its copies. Modules are found through `sys.path`, in which the worker program puts the current directory first.
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
from enqueuer.protocol.messages import Epoch, Welcome
from enqueuer_worker.sequence.allowance import Allowance

logger = logging.getLogger(__name__)

_LIVE_INIT = "the bundle's"


class SequenceLoader:
    """Has the Sequence of one worker. Only the compute thread calls its methods, since they run user code."""

    def __init__(self, allowed: Allowance) -> None:
        self._allowed = allowed
        self._current: tuple[bytes, int, int] | None = None
        self._sequence: Any = None
        self._spec: SequenceSpec | None = None
        # The (seed, epoch) of each on_epoch_end call that the spec's instance has had.
        self._replayed: list[EpochEnd] = []
        self._inits_run: set[str] = set()

    def load(self, session: bytes, epoch: Epoch, welcome: Welcome) -> Any:
        """Return the Sequence for this session's epoch and state generation; the same call again costs nothing.

        ``epoch.state`` is a dict: for a spec ``epoch_ends``, the on_epoch_end calls that the trainer's own instance has
        had (``[[seed, first epoch, count], …]``); for a live object ``path`` (a bundle in a shared segment, see
        `live_object`) or ``parts`` (a bundle that has travelled); ``path`` and ``epoch_ends`` for a bundle with a spec.
        ``welcome`` has the spec (``sequence``) and the option ``worker_init``.

        Raises AuthenticationError for anything that the worker's owner does not allow, ConfigurationError for a
        malformed target, ProtocolError for a malformed state, and any error of the user's code or its import. After an
        error the next call starts anew.
        """
        wanted = (session, epoch.epoch, epoch.generation)
        if self._current != wanted:
            self._current = None
            enter_epoch(epoch.seed, epoch.epoch)
            self._run_init(welcome.options.get("worker_init"), self._allowed.resolve)
            parts = self._read_bundle(epoch.state)
            if parts is not None:
                self._load_bundle(parts, epoch)
            else:
                self._load_spec(_read_spec(welcome.sequence), epoch)
            self._current = wanted
        return self._sequence

    def length(self) -> int:
        """The length of the Sequence that was loaded last; runs the user's ``__len__``."""
        return len(self._sequence)

    def digest(self) -> bytes:
        """The digest of a spec's code and arguments; b'' (unknown) for a live object, which the trainer has sent."""
        return b"" if self._spec is None else sequence_digest(self._spec.target, self._spec.kwargs)

    def close(self) -> None:
        """Drop the Sequence and call its ``close()``, if it has one; an error of that is only logged."""
        sequence, self._sequence = self._sequence, None
        self._current, self._spec, self._replayed = None, None, []
        close = getattr(sequence, "close", None)
        if callable(close):
            try:
                close()
            except Exception:
                logger.exception("close() of the Sequence failed")

    def _read_bundle(self, state: Any) -> list[memoryview] | None:
        """The parts of a live object, None without one. Opens and reads only what the owner allows."""
        path = live_path(state)
        if path is not None:
            self._allowed.check_segment()
            return read_parts(map_segment(path))
        if is_carried(state):
            self._allowed.check_live_object()
            return carried_parts(state)
        return None

    def _load_bundle(self, parts: list[memoryview], epoch: Epoch) -> None:
        init = unpack_worker_init(parts)
        if init is not None:
            self._run_init(_LIVE_INIT, lambda _: init)
        if self._spec is None:
            # The last epoch's copy goes before the new one is made: both may need the same file or device.
            self.close()
        unpacked = unpack_sequence(parts)
        if isinstance(unpacked, SequenceSpec):
            self._load_spec(unpacked, epoch)
        else:
            self.close()
            self._sequence = unpacked

    def _load_spec(self, spec: SequenceSpec, epoch: Epoch) -> None:
        factory = self._allowed.resolve(spec.target)
        state = epoch.state
        ends = read_epoch_ends(state.get("epoch_ends", []) if isinstance(state, dict) else [])
        # Another history (a new session, another trainer) needs a new instance: replayed calls cannot be undone.
        if spec != self._spec or list(islice(ends, len(self._replayed))) != self._replayed:
            self.close()
            self._sequence = call_factory(factory, spec.target, spec.kwargs)
            self._spec = spec
        try:
            missing = islice(ends, len(self._replayed), None)
            catch_up(self._sequence, epoch.epoch, epoch.seed, missing, self._replayed.append)
        except BaseException:
            # This instance is half-way between two epochs, so it can neither be used nor brought up to date.
            self.close()
            raise

    def _run_init(self, name: str | None, resolve: Callable[[str], Callable[[], Any]]) -> None:
        """Run a ``worker_init`` before the first Sequence is built; each name once in the worker's life."""
        if name is not None and name not in self._inits_run:
            resolve(name)()
            self._inits_run.add(name)


def _read_spec(sequence: list[Any] | None) -> SequenceSpec:
    match sequence:
        case [str() as target, dict() as kwargs] if all(isinstance(name, str) for name in kwargs):
            return SequenceSpec(target, **kwargs)
    raise ProtocolError("an epoch with neither a SequenceSpec nor a live Sequence")
