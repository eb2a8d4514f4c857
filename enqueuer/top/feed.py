"""The thread for requests to the trainer. It lives as long as the program: the trainer may end and start again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from enqueuer.observer import Observer
from enqueuer.protocol.observation import Snapshot
from enqueuer.top.paging import INTERVAL, Paging


class Feed:
    """Calls ``on_page`` with each page of a snapshot, and ``on_silence`` with the reason when there is none.

    ``connect`` makes an observer; it raises OSError where no trainer can be asked. All three are called in the feed's
    own thread.
    """

    def __init__(
        self, connect: Callable[[], Observer], on_page: Callable[[Snapshot], None], on_silence: Callable[[str], None]
    ) -> None:
        self._connect, self._on_page, self._on_silence = connect, on_page, on_silence
        self._is_over = threading.Event()
        # A daemon: the program ends at once, also while the thread waits for an answer.
        self._thread = threading.Thread(target=self._run, name="enqueuer-top-feed", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking. An answer on its way now is dropped. Does not wait."""
        self._is_over.set()

    def join(self) -> None:
        """Wait for the thread's end, after `stop`: one answer's time-out at most."""
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                with self._connect() as observer:
                    self._ask(observer)
            except OSError as error:
                if not self._is_over.is_set():
                    self._on_silence(str(error))
            self._is_over.wait(INTERVAL)

    def _ask(self, observer: Observer) -> None:
        paging = Paging()
        while not self._is_over.is_set():
            page = observer.page(paging.first_row, paging.rows_count, after_event=paging.after_event)
            seconds = paging.take(page)
            if not self._is_over.is_set():
                self._on_page(page)
            self._is_over.wait(seconds)
