"""The enqueuer's Sequence in the trainer: the caller's live object, or the one instance that is built from its spec.

    live object     the caller's own. The caller's thread asks it for its length, and saves and loads its state; the
                    hook thread runs ``len`` and ``on_epoch_end`` of a session, and pickles it
    SequenceSpec    one instance for the enqueuer's life, over all its sessions. The hook thread builds it when it is
                    first needed, makes every call, and closes it at the end. (The items of local threads alone are
                    computed in those threads.)

An instance is replaced if the enqueuer gets another spec, if a hook fails half-way, and if a state is loaded that its
``on_epoch_end`` calls cannot lead to. While a session runs, the old one may still be in use until its epoch has ended.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from typing import Any

from enqueuer.compute.epoch_state import EpochEnds
from enqueuer.compute.sequence_checks import batch_count, optional_method
from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import EnqueuerError
from enqueuer.runtime.hook_thread import HookThread

logger = logging.getLogger("enqueuer")


class Histories:
    """The ``on_epoch_end`` calls of one enqueuer on each of its objects, over all its sessions.

    Objects are told apart by identity, since some have no hash, and held by weak references where possible.
    """

    def __init__(self) -> None:
        # The hook thread, and a thread that asks for a state, may meet a new object at once. Reentrant, as a signal
        # handler may call stop() in the middle.
        self._lock = threading.RLock()
        self._entries: list[tuple[Callable[[], Any], EpochEnds]] = []

    def of(self, instance: Any) -> EpochEnds:
        """The calls on this object; kept from now on."""
        with self._lock:
            for refer, ends in self._entries:
                if refer() is instance:
                    return ends
            return self._put(instance, EpochEnds())

    def replace(self, instance: Any, ends: EpochEnds) -> None:
        """Set the calls on this object."""
        with self._lock:
            self._put(instance, ends)

    def forget(self, instance: Any) -> None:
        """Drop the calls on this object, and the object."""
        with self._lock:
            self._drop(instance)

    def _put(self, instance: Any, ends: EpochEnds) -> EpochEnds:
        self._drop(instance)
        try:
            refer: Callable[[], Any] = weakref.ref(instance)
        except TypeError:

            def refer() -> Any:
                return instance

        self._entries.append((refer, ends))
        return ends

    def _drop(self, instance: Any) -> None:
        self._entries = [entry for entry in self._entries if all(entry[0]() is not gone for gone in (None, instance))]


class BuiltInstance:
    """The instance built from a spec, and those it replaced. Only the hook thread calls its methods."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._spec: SequenceSpec | None = None
        self._instance: Any = None
        self._replaced: list[Any] = []
        # Any thread reads these two; they are written by the hook thread.
        self.is_building = False
        self.exists = False

    def of(self, spec: SequenceSpec, *, keeps_replaced: bool) -> Any:
        """The instance of this spec; built if there is none. Instances that it replaces are closed before, if none of
        them is in use any more. Raises the errors of the import and the constructor.
        """
        if self._spec != spec:
            self.replace()
            if not keeps_replaced:
                self.close_replaced()
            self.is_building = True
            try:
                self._instance = spec.build()
            finally:
                self.is_building = False
            self._spec, self.exists = spec, True
        return self._instance

    def replace(self) -> None:
        """Let the next `of` build another instance. This one is closed by `close_replaced`."""
        if self._spec is not None:
            self._replaced.append(self._instance)
            self._spec = self._instance = None

    def close_replaced(self) -> None:
        """Close the replaced instances, none of which is in use."""
        while self._replaced:
            instance = self._replaced.pop()
            self._histories.forget(instance)
            try:
                close = optional_method(instance, "close")
                if close is not None:
                    close()
            except Exception:
                logger.exception("close() of the Sequence failed")
        self.exists = self._spec is not None

    def close(self, users: list[threading.Thread]) -> None:
        """Close everything after the end of these threads: they may still compute items."""
        for user in users:
            user.join()
        self.replace()
        self.close_replaced()


class TrainerSequence:
    """Finds the Sequence of one enqueuer, and runs calls in its thread. Any thread may call any method but `read`.

    ``get_sequence`` returns the enqueuer's ``sequence``, which may change at any time.
    """

    def __init__(self, get_sequence: Callable[[], Any]) -> None:
        self._get_sequence = get_sequence
        self.hook_thread = HookThread("enqueuer-hooks")
        self.histories = Histories()
        self._built = BuiltInstance(self.histories)
        # The sessions that run: each adds itself at its start and removes itself at its end.
        self._sessions: set[object] = set()
        # Threads of ended sessions that were still computing items.
        self._late_threads: list[threading.Thread] = []

    @property
    def is_spec(self) -> bool:
        """Whether the enqueuer's ``sequence`` is a spec."""
        return isinstance(self._get_sequence(), SequenceSpec)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a call that uses the Sequence: in the hook thread for a spec's instance, here for a live object."""
        return self.hook_thread.call(function, *args) if self.is_spec else function(*args)

    def read(self) -> tuple[SequenceSpec | None, Any]:
        """The spec, or None, and the instance. Called through `call`, or by a session's task in the hook thread."""
        source = self._get_sequence()
        built = self._built
        if isinstance(source, SequenceSpec):
            return source, built.of(source, keeps_replaced=bool(self._sessions))
        if built.exists and self.hook_thread.is_current:
            built.replace()
        return None, source

    def discard(self) -> None:
        """Let the next `read` build another instance of the spec. Called in the hook thread."""
        self._built.replace()

    def length(self) -> int:
        """``len()`` of the Sequence as it is now."""
        return self.call(lambda: batch_count(self.read()[1]))  # type: ignore[no-any-return]

    # ------------------------------------------------------------ sessions

    def begin_session(self, session: object) -> None:
        """Keep replaced instances while this session runs, until `end_epoch` or `end_session`."""
        self._sessions.add(session)

    def end_epoch(self) -> None:
        """Close replaced instances: the epoch computed from them has ended. Called in the hook thread."""
        self._built.close_replaced()

    def end_session(self, session: object, late_threads: list[threading.Thread]) -> None:
        """After a session: close replaced instances, and end the hook thread if it has no instance to keep.

        ``late_threads`` may still compute items of the instance.
        """
        self._sessions.discard(session)
        self._late_threads = [*filter(threading.Thread.is_alive, self._late_threads), *late_threads]
        if self._sessions or self._late_threads or not self.hook_thread.is_running:
            return
        if self._built.exists or self._built.is_building:
            self.hook_thread.submit(self._built.close_replaced)
        else:
            self.hook_thread.end()

    def close(self, timeout: float) -> None:
        """Close the instance that was built, in its thread, and end the thread.

        Waits up to ``timeout`` seconds, but not for an instance that is still being built: no thread can be
        interrupted. Nor does it wait for late threads that compute items of the caller's own object, which is not
        closed. A later `read` builds another instance.
        """
        has_use = not self._built.is_building and (self._built.exists or not self._late_threads)
        closing = self._close()
        if closing is not None and has_use and not self.hook_thread.is_current:
            futures.wait([closing], timeout)

    def _close(self) -> futures.Future[Any] | None:
        built, self._built = self._built, BuiltInstance(self.histories)
        users, self._late_threads = self._late_threads, []
        if not self.hook_thread.is_running:
            return None
        # The thread ends after this task, so an instance that is built later has another one.
        closing = self.hook_thread.submit(built.close, users)
        self.hook_thread.end()
        return closing

    def disarm(self) -> None:
        """In a forked child: the thread and the instance are the parent's."""
        self.hook_thread = HookThread("enqueuer-hooks")
        self.histories = Histories()
        self._built = BuiltInstance(self.histories)
        self._sessions, self._late_threads = set(), []


class SequenceReader:
    """Reads ``enqueuer.sequence`` without keeping the enqueuer alive."""

    def __init__(self, enqueuer: Any) -> None:
        self._enqueuer = weakref.ref(enqueuer)

    def __call__(self) -> Any:
        enqueuer = self._enqueuer()
        if enqueuer is None:
            raise EnqueuerError("the enqueuer is gone")
        return enqueuer.sequence
