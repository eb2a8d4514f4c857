"""The Sequence loader: builds the Sequence in a worker and keeps it in step with the trainer's epochs.

A worker has one instance at a time, and keeps it as long as its state is the trainer's, so caches last:

    from a spec     built once, brought up to date by ``set_epoch`` or by replaying ``on_epoch_end``
    a live object   unpickled for each state generation: after the trainer changed it, or its ``on_epoch_end`` ran

An instance is *fresh* from the moment it is built, unpickled or brought up to date until its first item; `WorkerItems`
says why that matters. Modules are found through `sys.path`, in which the worker program puts the current directory
first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from enqueuer.compute.context import enter_epoch
from enqueuer.compute.digest import sequence_digest
from enqueuer.compute.drawn_epochs import follow_order
from enqueuer.compute.entropy import install_hooks
from enqueuer.compute.epoch_state import EpochEnd, catch_up, read_epoch_ends
from enqueuer.compute.owned_generators import OwnedGenerators
from enqueuer.compute.seeding import BUILD, seeded_globals
from enqueuer.compute.sequence_checks import optional_method
from enqueuer.compute.settings_check import changed_by, find_unlike
from enqueuer.compute.spec import SequenceSpec, call_factory
from enqueuer.compute.worker_items import Instance, WorkerItems
from enqueuer.errors import ProtocolError
from enqueuer.memory.segment import map_segment, read_parts
from enqueuer.protocol.drawn_order import DrawnOrder, order_path, read_carried_order, read_named_order
from enqueuer.protocol.live_object import carried_parts, is_carried, live_path, unpack_sequence, unpack_worker_init
from enqueuer.protocol.messages import Epoch, SpecOnWire, Welcome
from enqueuer.protocol.script_changes import ScriptChanges
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
        # The (seed, epoch) of each on_epoch_end call of the spec's instance.
        self._replayed: list[EpochEnd] = []
        # The session and state generation of the live object.
        self._live: tuple[bytes, int] | None = None
        self._instance = Instance(None)
        self._inits_run: set[str] = set()
        self._changes = ScriptChanges()
        # The trainer's settings, and the names of those that ``worker_init`` has set to a value for workers.
        self._settings: dict[str, bytes] = {}
        self._set_by_init: frozenset[str] = frozenset()
        # The hooks stay for good: only user code draws without a seed in this process.
        install_hooks()

    def load(self, session: bytes, epoch: Epoch, welcome: Welcome) -> Any:
        """Return the Sequence for this session's epoch and state generation; the same call again costs nothing.

        ``epoch.state`` is a dict: for a spec ``epoch_ends``, the on_epoch_end calls so far of the trainer's instance
        (``[[seed, first epoch, count], …]``); for a live object ``path`` (a bundle in a shared segment, see
        `live_object`) or ``parts`` (a bundle in the message); ``path`` and ``epoch_ends`` for a bundle with a spec.
        ``welcome`` has the spec (``sequence``) and the option ``worker_init``.

        Raises AuthenticationError for anything outside the allowance, ConfigurationError for a malformed target,
        ProtocolError for a malformed state, and any error of the user's code or its import. After an error the next
        call starts anew.
        """
        wanted = (session, epoch.epoch, epoch.generation)
        if self._current != wanted:
            self._current = None
            enter_epoch(epoch.seed, epoch.epoch)
            self._settings = welcome.options.get("settings", {})
            self._run_init(welcome.options.get("worker_init"), self._allowed.resolve)
            order = self._read_order(epoch.state)
            if self._live is None or self._live != (session, epoch.generation):
                self._load(session, epoch, welcome, settles=order is None)
            if order is not None:
                follow_order(self._sequence, epoch.epoch, order)
            self._current = wanted
        return self._sequence

    def make_items(self, epoch: Epoch, on_repeat: Callable[[], object]) -> WorkerItems:
        """The items of the epoch loaded last."""
        return WorkerItems(self._instance, seed=epoch.seed, epoch=epoch.epoch, on_repeat=on_repeat)

    def _load(self, session: bytes, epoch: Epoch, welcome: Welcome, *, settles: bool) -> None:
        self._live = None
        parts = self._read_bundle(epoch.state)
        if parts is None:
            self._load_spec(_read_spec(welcome.sequence), epoch, settles=settles)
        elif self._load_bundle(parts, epoch, settles=settles):
            self._live = (session, epoch.generation)

    def length(self) -> int:
        """The length of the loaded Sequence; runs the user's ``__len__``, which may deal an order."""
        return self._instance.length()

    def digest(self) -> bytes:
        """The digest of a spec's code and arguments; b'' (unknown) for a live object, the trainer's own."""
        return b"" if self._spec is None else sequence_digest(self._spec.target, self._spec.kwargs)

    def unlike_settings(self) -> tuple[tuple[str, str], ...]:
        """The settings of the trainer that have other values here."""
        digests = {name: digest for name, digest in self._settings.items() if name not in self._set_by_init}
        return find_unlike(digests)

    def close(self) -> None:
        """Drop the Sequence and call its ``close()``, if it has one; an error there is only logged."""
        sequence, self._sequence, self._instance = self._sequence, None, Instance(None)
        self._current, self._spec, self._replayed, self._live = None, None, [], None
        close = optional_method(sequence, "close")
        if close is not None:
            try:
                close()
            except Exception:
                logger.exception("close() of the Sequence failed")

    def _read_bundle(self, state: Any) -> list[memoryview] | None:
        """The parts of a live object, None without one. Nothing is opened or read without the owner's permission."""
        path = live_path(state)
        if path is not None:
            self._allowed.check_segment()
            return read_parts(map_segment(path))
        if is_carried(state):
            self._allowed.check_live_object()
            return carried_parts(state)
        return None

    def _read_order(self, state: Any) -> DrawnOrder | None:
        """The order that the trainer drew for the epoch, None for a Sequence that draws none."""
        path = order_path(state)
        if path is None:
            return read_carried_order(state)
        self._allowed.check_segment()
        return read_named_order(path)

    def _load_bundle(self, parts: list[memoryview], epoch: Epoch, *, settles: bool) -> bool:
        """Unpack a bundle; False if it holds a spec (beside a live ``worker_init``)."""
        init = unpack_worker_init(parts)
        if init is not None:
            self._run_init(_LIVE_INIT, lambda _: init)
        if self._spec is None:
            # The old copy goes before the new one is made: both may need the same file or device. It is not closed:
            # ``close()`` is for the end, and may end something that all copies share.
            self._sequence, self._instance = None, Instance(None)
        since = _read_since(epoch.state)
        with seeded_globals(epoch.seed, since, BUILD):
            unpacked = unpack_sequence(parts)
        self._changes.restore()
        if isinstance(unpacked, SequenceSpec):
            self._load_spec(unpacked, epoch, settles=settles)
            return False
        self.close()
        self._sequence, self._instance = unpacked, Instance(unpacked, since)
        return True

    def _load_spec(self, spec: SequenceSpec, epoch: Epoch, *, settles: bool) -> None:
        """``settles``: items of earlier epochs may be computed. Those of a drawn order need the order."""
        with seeded_globals(0, 0, BUILD):  # its module may draw something, too
            factory = self._allowed.resolve(spec.target)
        state = epoch.state
        ends = read_epoch_ends(state.get("epoch_ends", []) if isinstance(state, dict) else [])
        # Another history (a new session, another trainer) needs a new instance: replayed calls cannot be undone, and
        # neither can anything drawn under another seed.
        has_other_draws = self._instance.drawn_seed not in (None, epoch.seed)
        is_new = spec != self._spec or has_other_draws or list(islice(ends, len(self._replayed))) != self._replayed
        if is_new:
            self.close()
            self._sequence = call_factory(factory, spec.target, spec.kwargs)
            self._spec, self._instance = spec, Instance(self._sequence)
        try:
            if optional_method(self._sequence, "set_epoch") is not None:
                self._follow_epochs(epoch, is_new=is_new, settles=settles)
            else:
                missing = islice(ends, len(self._replayed), None)
                self._catch_up(epoch.epoch, epoch.seed, missing, settles=settles)
                self._instance.since = ends.since
        except BaseException:
            # This instance is half-way between two epochs, so it can neither be used nor brought up to date.
            self.close()
            raise
        if self._instance.is_fresh:
            self._instance.find_generators()
        if self._instance.drawn_seed is not None:
            self._instance.drawn_seed = epoch.seed

    def _follow_epochs(self, epoch: Epoch, *, is_new: bool, settles: bool) -> None:
        """Call ``set_epoch``: for the epochs before, too, as long as items keep what they draw there."""
        instance = self._instance
        for earlier in range(0 if is_new else instance.since + 1, epoch.epoch if settles else 0):
            if instance.keeps is False:
                break
            self._catch_up(earlier, epoch.seed, (), settles=settles)
            instance.renew(earlier)
        self._catch_up(epoch.epoch, epoch.seed, (), settles=settles)
        instance.renew(epoch.epoch)

    def _catch_up(self, epoch: int, seed: int, missing: Iterable[EpochEnd], *, settles: bool) -> None:
        instance = self._instance

        def prepare(seed: int) -> OwnedGenerators:
            if settles:
                instance.settle(seed)
            return instance.find_generators()

        def note(end: EpochEnd) -> None:
            self._replayed.append(end)
            instance.renew(end[1] + 1)

        catch_up(self._sequence, epoch, seed, missing, note, prepare)

    def _run_init(self, name: str | None, resolve: Callable[[str], Callable[[], Any]]) -> None:
        """Run a ``worker_init`` before the first Sequence is built; each name once in the worker's life."""
        if name is not None and name not in self._inits_run:
            init = resolve(name)
            self._set_by_init |= changed_by(lambda: self._changes.note(init), self._settings)
            self._inits_run.add(name)


def _read_since(state: Any) -> int:
    since = state.get("since", 0) if isinstance(state, dict) else 0
    if type(since) is not int or not 0 <= since < 2**63:
        raise ProtocolError(f"an epoch's state is since {since!r:.40}, which is no epoch")
    return since


def _read_spec(sequence: SpecOnWire | None) -> SequenceSpec:
    match sequence:
        case [str() as target, dict() as kwargs] if all(isinstance(name, str) for name in kwargs):
            return SequenceSpec(target, **kwargs)
    raise ProtocolError("an epoch with neither a SequenceSpec nor a live Sequence")
