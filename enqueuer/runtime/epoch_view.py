"""The seam between a running enqueuer and the adapters: its stream, seen in epochs. Internal: no user's code needs it.

training loop ── adapter ── EpochLoops ── EpochView ── Session or SerialSession
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from enqueuer.options import QueueSize
from enqueuer.runtime.iteration import StreamEnd

if TYPE_CHECKING:
    from enqueuer.runtime.serial_session import SerialSession
    from enqueuer.runtime.session import Session


class EpochView:
    """The stream of one session, from ``start()`` to ``stop()``; `SequenceEnqueuer._epoch_view` makes it.

    ``take_batch`` is the enqueuer's own way to the next batch, which stops the enqueuer after an error; ``is_current``
    tells whether the enqueuer still runs this session. Any thread may use a view.
    """

    def __init__(
        self,
        session: Session | SerialSession,
        take_batch: Callable[[int | None], Any],
        is_current: Callable[[], bool],
    ) -> None:
        self._session = session
        self._take_batch = take_batch
        self.is_current = is_current

    @property
    def next_epoch(self) -> int:
        """The epoch of the next batch."""
        return self._session.next_epoch

    @property
    def max_queue_size(self) -> QueueSize:
        """The bound of this session, as ``start()`` takes it."""
        return self._session.max_queue_size

    def open_epochs_on_demand(self) -> None:
        """Compute no epoch before its first batch is asked for, unless a change of the Sequence can be seen then."""
        self._session.open_epochs_on_demand()

    def next_batch(self, only_epoch: int | None = None) -> Any:
        """The next batch; waits for it, and raises what ``next(enqueuer.get())`` raises.

        Raises StreamEnd after the end of this session and, with ``only_epoch``, after the end of that epoch.
        """
        if not self.is_current():
            raise StreamEnd
        return self._take_batch(only_epoch)
