"""Two threads take turns at one loop, and neither waits for the other in vain."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator

import pytest

from enqueuer_worker.process.turn_taking import TurnTaking
from tests.support.waiting import wait_until

_NEVER = 10.0


class Loop:
    """A loop that waits for news like a poller, and counts the rounds of each thread."""

    def __init__(self) -> None:
        self.turn_taking = TurnTaking(self.turn, self.wake)
        self.turns: Counter[str] = Counter()
        self.overlaps = 0
        self.inbox: deque[str] = deque()
        self.handled: list[str] = []
        self._inside = False
        self._news = threading.Event()
        self.io_thread = threading.Thread(target=self.turn_taking.run_io, name="io_thread", daemon=True)

    def turn(self, block: bool) -> bool:
        self.overlaps += self._inside
        self._inside = True
        self.turns[threading.current_thread().name] += 1
        if block:
            self._news.wait(_NEVER)
            self._news.clear()
        going_on = True
        while self.inbox:
            self.handled.append(self.inbox.popleft())
            going_on = going_on and self.handled[-1] != "end"
        self._inside = False
        return going_on

    def wake(self) -> None:
        self._news.set()

    def post(self, word: str) -> None:
        """Send a message as a peer would: either thread can read it."""
        self.inbox.append(word)
        self._news.set()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.post("end")
    made.io_thread.join(_NEVER)
    assert not made.io_thread.is_alive() and made.turn_taking.has_ended
    assert made.overlaps == 0


class _Handled:
    """The messages handled beyond ``done``, counted at each look."""

    def __init__(self, loop: Loop) -> None:
        self.done = 0
        self._loop = loop

    def __len__(self) -> int:
        return len(self._loop.handled) - self.done


def take_loop(loop: Loop) -> None:
    """Take the loop in this thread without waiting in it: there is work."""
    loop.turn_taking.wait_for(["work"])


def test_a_stale_view_of_the_io_thread_does_not_keep_the_loop_from_the_compute_thread(loop: Loop) -> None:
    loop.io_thread.start()
    wait_until(lambda: loop.turns["io_thread"] > 0, what="the I/O thread to run the loop")
    loop.turn_taking._io_runs = False  # the compute thread may see a value from a moment ago
    taker = threading.Thread(target=take_loop, args=(loop,), daemon=True)
    taker.start()
    taker.join(_NEVER / 2)
    assert not taker.is_alive()


def test_the_io_thread_runs_the_loop_until_the_compute_thread_wants_it(loop: Loop) -> None:
    loop.io_thread.start()
    loop.post("first")
    wait_until(lambda: loop.handled == ["first"])
    assert set(loop.turns) == {"io_thread"} and not loop.turn_taking.is_free
    loop.turn_taking.wait_for(loop.handled)
    assert loop.turn_taking.is_free


def test_a_result_is_sent_by_the_io_thread_while_that_runs_the_loop(loop: Loop) -> None:
    loop.io_thread.start()
    wait_until(lambda: loop.turns["io_thread"] > 0)
    loop.inbox.append("result")
    loop.turn_taking.turn_once()
    wait_until(lambda: loop.handled == ["result"])
    assert set(loop.turns) == {"io_thread"}


def test_between_short_items_only_the_compute_thread_runs_the_loop(loop: Loop) -> None:
    me = threading.current_thread().name
    loop.io_thread.start()
    take_loop(loop)
    turned_by_io_thread, turned_by_me = loop.turns["io_thread"], loop.turns[me]
    for _ in range(200):
        loop.inbox.append("result")
        loop.turn_taking.turn_once()
    assert loop.turns["io_thread"] == turned_by_io_thread
    assert loop.turns[me] == turned_by_me + 200


def test_the_io_thread_takes_the_loop_during_a_long_item_and_gives_it_back(loop: Loop) -> None:
    loop.io_thread.start()
    for number in range(3):
        take_loop(loop)
        assert loop.turn_taking.is_free
        # During the item neither thread runs the loop until the I/O thread has to.
        turned = loop.turns["io_thread"]
        loop.post(f"heartbeat {number}")
        wait_until(lambda number=number: f"heartbeat {number}" in loop.handled)  # type: ignore[misc]
        assert loop.turns["io_thread"] > turned


def test_the_io_thread_sleeps_while_the_compute_thread_waits_in_the_loop(loop: Loop) -> None:
    loop.io_thread.start()
    take_loop(loop)
    waiting = threading.Thread(target=loop.turn_taking.wait_for, args=([],), name="compute", daemon=True)
    waiting.start()
    wait_until(lambda: loop.turns["compute"] == 1)
    wait_until(lambda: not loop.turn_taking._round_over.is_set())
    used = time.process_time()
    turned = loop.turns["io_thread"]
    time.sleep(0.1)
    assert loop.turns["io_thread"] == turned and time.process_time() - used < 0.05
    loop.post("news")
    waiting.join(_NEVER)
    assert not waiting.is_alive() and loop.handled[-1] == "news"


def test_the_last_round_ends_the_io_thread_whichever_thread_ran_it(loop: Loop) -> None:
    loop.io_thread.start()
    take_loop(loop)
    loop.inbox.append("end")
    loop.turn_taking.turn_once()
    assert loop.turn_taking.has_ended
    loop.io_thread.join(_NEVER)
    assert not loop.io_thread.is_alive()
    loop.turn_taking.wait_for([])  # returns at once, as no round will come
    loop.inbox.clear()


def test_taking_the_loop_with_work_at_hand_does_not_wait(loop: Loop) -> None:
    loop.io_thread.start()
    wait_until(lambda: loop.turns["io_thread"] > 0)
    loop.turn_taking.wait_for(["work"])
    loop.turn_taking.wait_for(["work"])
    assert loop.handled == []


def test_the_loop_changes_threads_thousands_of_times_and_no_message_is_left_unread(loop: Loop) -> None:
    loop.io_thread.start()
    work = _Handled(loop)
    for number in range(3000):
        work.done = number
        loop.post(f"grant {number}")
        while not work:
            loop.turn_taking.wait_for(work)
        if number % 3 == 0:
            loop.turn_taking.turn_once()
        if number % 100 == 1:
            # From time to time long enough for the I/O thread to take the loop.
            turned = loop.turns["io_thread"]
            wait_until(lambda turned=turned: loop.turns["io_thread"] > turned)  # type: ignore[misc]
    assert loop.handled == [f"grant {number}" for number in range(3000)]
