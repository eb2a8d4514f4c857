"""The seam between a running enqueuer and the adapters: its stream, seen in epochs. Internal: no user's code needs it.

training loop ── adapter ── EpochLoops ── Passes ── EpochView ── Session or SerialSession
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from enqueuer.runtime.iteration import StreamEnd

if TYPE_CHECKING:
    from enqueuer.runtime.serial_session import SerialSession
    from enqueuer.runtime.session import Session


class EpochView:
    """The stream of one session, from ``start()`` to ``stop()``. Any thread may use a view.

    A view does not keep the enqueuer alive: an enqueuer without other references is stopped at once.
    """

    def __init__(self, enqueuer: Any, session: Session | SerialSession) -> None:
        self._enqueuer = weakref.ref(enqueuer)
        self._session = session

    def is_current(self) -> bool:
        """Whether the enqueuer still runs this session."""
        enqueuer = self._enqueuer()
        return enqueuer is not None and enqueuer._session is self._session

    @property
    def next_epoch(self) -> int:
        """The epoch of the next batch."""
        return self._session.next_epoch

    @property
    def taken_total(self) -> int:
        """The number of batches taken in this session, by all training loops together."""
        return self._session.taken_total

    @property
    def has_hook(self) -> bool:
        """Whether the Sequence has an ``on_epoch_end`` of its own, after which no batch computed before may come."""
        return self._session.bookmark.own.has_hook and not self._session.options.prefetch_epochs

    def end_epoch(self, *, leave_rest: bool = False) -> None:
        """End the present epoch now, unless the stream is between two: its rest is dropped and ``on_epoch_end`` runs.

        The next batch is the next epoch's first one. With ``leave_rest`` and then `go_on` it is the first of the rest,
        computed as a part of the next epoch.
        """
        if self.is_current():
            self._session.end_epoch(self.next_epoch, leave_rest=leave_rest)

    def go_on(self) -> None:
        """Have the next epoch begin with the rest left by the last `end_epoch`."""
        self._session.go_on()

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """The next batch; waits for it. Errors are those of ``next(enqueuer.get())``.

        Raises StreamEnd after the end of this session and, with ``only_epoch``, after the end of that epoch.
        """
        enqueuer = self._enqueuer()
        if enqueuer is None or enqueuer._session is not self._session:
            raise StreamEnd
        return enqueuer._next_batch(only_epoch)
