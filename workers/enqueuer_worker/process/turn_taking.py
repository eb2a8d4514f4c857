"""Two threads of a worker take turns at one I/O loop; the loop never runs in both.

    compute thread   compute · send · receive │ compute · send │ compute a long item ············│ wait for the loop
    I/O thread       (asleep)                 │ (asleep)       │ run the loop: answer, heartbeat │ sleep again

Short items: the compute thread runs the loop itself between items. A switch between threads takes as long as several
small batches (up to 0.1 ms on two busy cores), so no other thread runs then.

Long items: the compute thread is in user code, so arriving messages stay unread. Once the loop has stood still for
`PATIENCE_SECONDS`, the I/O thread takes the loop, and keeps it until the compute thread asks for it.

The thread with the lock runs the loop; the lock is also the full fence required by ZeroMQ between threads. The flags
only announce wishes. They are read without the lock: each has one writer, and a stale value costs one more look. Each
flag's comment names its writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sized

# How long the loop may stand still before the I/O thread takes it. Messages may wait that long without harm, and an
# I/O thread without work looks only 20 times a second.
PATIENCE_SECONDS = 0.05


class TurnTaking:
    """Decides which of two threads runs the loop.

    ``turn(block)`` runs one round of the loop: with ``block`` it waits for something to happen, otherwise it returns at
    once. It returns False for the last round. ``wake()`` ends a waiting round.
    """

    def __init__(self, turn: Callable[[bool], bool], wake: Callable[[], None]) -> None:
        self._turn = turn
        self._wake = wake
        self._lock = threading.Lock()
        # The I/O thread writes it: it runs the loop. True at first, while the compute thread imports the rest.
        self._io_runs = True
        # The compute thread writes it: it waits for the lock.
        self._wanted = False
        # The compute thread writes it: it runs the loop now.
        self._compute_runs = False
        # The compute thread writes it: the rounds it has run. The I/O thread sees by it that the loop stands still.
        self._rounds_count = 0
        # Cleared by the I/O thread before it waits for the compute thread's round to end; set at that end.
        self._round_over = threading.Event()
        # Both threads write it, under the lock: the last round is over.
        self.has_ended = False

    # ------------------------------------------------------------ the compute thread

    def turn_once(self) -> None:
        """Send waiting messages: in this thread, or in the I/O thread if it runs the loop."""
        if self._io_runs or not self._lock.acquire(blocking=False):
            self._wake()
        else:
            self._run_round(block=False)

    def look_again(self) -> None:
        """Have the I/O thread, if it runs the loop, compute its next deadline anew."""
        if self._io_runs:
            self._wake()

    def wait_for(self, work: Sized) -> None:
        """Take the loop; if there is no ``work`` by then, wait in it for something to happen."""
        # Before the lock: the I/O thread may take the loop at any moment, and only then looks at this flag.
        self._wanted = True
        if not self._lock.acquire(blocking=False):
            self._wake()
            self._lock.acquire()
        self._wanted = False
        if self.has_ended:
            self._lock.release()
        else:
            self._run_round(block=not work)

    @property
    def is_free(self) -> bool:
        """Whether the compute thread may take the loop without waiting for the I/O thread."""
        return not self._io_runs

    def _run_round(self, *, block: bool) -> None:
        """Run one round, and release the lock; this thread holds it already."""
        self._compute_runs = True
        try:
            self.has_ended = self.has_ended or not self._turn(block)
        finally:
            self._compute_runs = False
            self._lock.release()
        self._rounds_count += 1
        if self.has_ended or not self._round_over.is_set():
            self._round_over.set()

    # ------------------------------------------------------------ the I/O thread

    def run_io(self) -> None:
        """Run the loop whenever the compute thread leaves it alone; return after the last round."""
        while self._run_until_wanted():
            while not self.has_ended and not self._is_idle():
                pass

    def _run_until_wanted(self) -> bool:
        """Run rounds until the compute thread asks for the loop; False after the last round."""
        with self._lock:
            self._io_runs = True
            while not self.has_ended and not self._wanted:
                self.has_ended = not self._turn(True)
            self._io_runs = False
        return not self.has_ended

    def _is_idle(self) -> bool:
        """Whether the loop stood still for `PATIENCE_SECONDS`. If the compute thread waits in it, wait for its end."""
        rounds_count = self._rounds_count
        time.sleep(PATIENCE_SECONDS)
        if self._rounds_count != rounds_count:
            return False
        if not self._compute_runs:
            return True
        self._round_over.clear()
        if self._compute_runs:  # otherwise its round ended before the line above, and may not have set the event
            self._round_over.wait()
        return False
