"""Which of a worker's two threads turns the I/O loop: the one that computes, or the one that stands by.

A switch between threads takes as long as several small batches (on two busy cores up to 0.1 ms), so who computes those
also sends them and waits for the next grant: no other thread runs then. The I/O thread takes the wheel when nothing was
turned for a while, as the compute thread is in user code, and keeps it while items are long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sized

# Longer items leave the wheel to the I/O thread. Until then nobody reads what arrives, which matters to no one; and a
# thread that only looks whether it is needed does so 200 times a second.
PATIENCE_SECONDS = 0.005


class Wheel:
    """One lock, and who may take it when. ``turn(block)`` does one round of the loop: with ``block`` it waits for
    something to happen, else it returns at once. It is False when it was the last one.

    Flags are read without the lock: each is written by one thread, and a stale one costs a look more. The lock alone
    keeps the two out of each other's rounds (and is the full fence that ZeroMQ wants between threads).
    """

    def __init__(self, turn: Callable[[bool], bool], wake: Callable[[], None]) -> None:
        self._turn = turn
        self._wake = wake
        self._lock = threading.Lock()
        # Written by the I/O thread: it has the wheel. It begins with it, while the rest is imported.
        self._stands_in = True
        # Written by the compute thread: it wants the wheel back; it has it; how often it had it.
        self._wanted = False
        self._at_wheel = False
        self._turns_count = 0
        # Set when the compute thread lets go, if the I/O thread waits for that.
        self._let_go = threading.Event()
        # The last round is over. Written by both.
        self.has_ended = False

    # ------------------------------------------------------------ the compute thread

    def turn_once(self) -> None:
        """There is something to send: do it, or have it done where the I/O thread has the wheel."""
        if self._stands_in or not self._lock.acquire(blocking=False):
            self._wake()
        else:
            self._turn_as_owner(block=False)

    def look_again(self) -> None:
        """There will be something to send: the I/O thread, if it has the wheel, has to know until when to wait."""
        if self._stands_in:
            self._wake()

    def wait_for(self, work: Sized) -> None:
        """Wait at the wheel for something to happen, if there is no ``work``; it may have come with the wheel."""
        # Said first: the other one may take the wheel at any moment, and would not look for who waits for it.
        self._wanted = True
        if not self._lock.acquire(blocking=False):
            self._wake()
            self._lock.acquire()
        self._wanted = False
        if self.has_ended:
            self._lock.release()
        else:
            self._turn_as_owner(block=not work)

    @property
    def is_free(self) -> bool:
        """Whether the I/O thread does not have it."""
        return not self._stands_in

    def _turn_as_owner(self, *, block: bool) -> None:
        self._at_wheel = True
        try:
            self.has_ended = self.has_ended or not self._turn(block)
        finally:
            self._at_wheel = False
            self._lock.release()
        self._turns_count += 1
        if self.has_ended or not self._let_go.is_set():
            self._let_go.set()

    # ------------------------------------------------------------ the I/O thread

    def stand_by(self) -> None:
        """Have the wheel whenever the compute thread has not; returns after the last round."""
        while self._stand_in():
            while not self.has_ended and not self._is_deserted():
                pass

    def _stand_in(self) -> bool:
        """Turn until the other one wants to; False after the last round."""
        with self._lock:
            self._stands_in = True
            while not self.has_ended and not self._wanted:
                self.has_ended = not self._turn(True)
            self._stands_in = False
        return not self.has_ended

    def _is_deserted(self) -> bool:
        """Whether nothing was turned for a while. While the other one waits at the wheel, this one waits for it."""
        turns_count = self._turns_count
        time.sleep(PATIENCE_SECONDS)
        if self._turns_count != turns_count:
            return False
        if not self._at_wheel:
            return True
        self._let_go.clear()
        if self._at_wheel:  # else it has let go before that, and may not have set it
            self._let_go.wait()
        return False
