"""Two threads and one loop: who turns it when, and that neither waits for the other in vain."""

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
    """What is turned: waits for news like a poller, and notes who turned it."""

    def __init__(self) -> None:
        self.turn_taking = TurnTaking(self.turn, self.wake)
        self.turns: Counter[str] = Counter()
        self.overlaps = 0
        self.inbox: deque[str] = deque()
        self.handled: list[str] = []
        self._inside = False
        self._news = threading.Event()
        self.standby = threading.Thread(target=self.turn_taking.run_io, name="standby", daemon=True)

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
        """As a peer would: it can be read, whoever reads."""
        self.inbox.append(word)
        self._news.set()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.post("end")
    made.standby.join(_NEVER)
    assert not made.standby.is_alive() and made.turn_taking.has_ended
    assert made.overlaps == 0


class _Handled:
    """What was handled beyond ``done``, as it is when it is looked at."""

    def __init__(self, loop: Loop) -> None:
        self.done = 0
        self._loop = loop

    def __len__(self) -> int:
        return len(self._loop.handled) - self.done


def take_wheel(loop: Loop) -> None:
    """Without waiting: as if something to do had come with it."""
    loop.turn_taking.wait_for(["work"])


def test_who_took_the_other_one_for_standing_by_gets_the_wheel_all_the_same(loop: Loop) -> None:
    loop.standby.start()
    wait_until(lambda: loop.turns["standby"] > 0, what="the I/O thread to have the turn_taking")
    loop.turn_taking._io_runs = False  # as it was a moment before, when the one who computes looked
    taker = threading.Thread(target=take_wheel, args=(loop,), daemon=True)
    taker.start()
    taker.join(_NEVER / 2)
    assert not taker.is_alive()


def test_the_io_thread_has_the_wheel_until_the_other_one_wants_it(loop: Loop) -> None:
    loop.standby.start()
    loop.post("first")
    wait_until(lambda: loop.handled == ["first"])
    assert set(loop.turns) == {"standby"} and not loop.turn_taking.is_free
    loop.turn_taking.wait_for(loop.handled)
    assert loop.turn_taking.is_free


def test_while_the_io_thread_has_the_wheel_it_is_told_and_sends(loop: Loop) -> None:
    loop.standby.start()
    wait_until(lambda: loop.turns["standby"] > 0)
    loop.inbox.append("result")
    loop.turn_taking.turn_once()
    wait_until(lambda: loop.handled == ["result"])
    assert set(loop.turns) == {"standby"}


def test_between_short_items_the_compute_thread_turns_and_nobody_else(loop: Loop) -> None:
    me = threading.current_thread().name
    loop.standby.start()
    take_wheel(loop)
    turned_by_standby, turned_by_me = loop.turns["standby"], loop.turns[me]
    for _ in range(200):
        loop.inbox.append("result")
        loop.turn_taking.turn_once()
    assert loop.turns["standby"] == turned_by_standby
    assert loop.turns[me] == turned_by_me + 200


def test_the_io_thread_takes_over_when_an_item_takes_long_and_gives_back(loop: Loop) -> None:
    loop.standby.start()
    for number in range(3):
        take_wheel(loop)
        assert loop.turn_taking.is_free
        # The item: nobody turns until somebody has to.
        turned = loop.turns["standby"]
        loop.post(f"heartbeat {number}")
        wait_until(lambda number=number: f"heartbeat {number}" in loop.handled)  # type: ignore[misc]
        assert loop.turns["standby"] > turned


def test_while_the_compute_thread_waits_at_the_wheel_the_io_thread_sleeps(loop: Loop) -> None:
    loop.standby.start()
    take_wheel(loop)
    waiting = threading.Thread(target=loop.turn_taking.wait_for, args=([],), name="compute", daemon=True)
    waiting.start()
    wait_until(lambda: loop.turns["compute"] == 1)
    wait_until(lambda: not loop.turn_taking._round_over.is_set())
    used = time.process_time()
    turned = loop.turns["standby"]
    time.sleep(0.1)
    assert loop.turns["standby"] == turned and time.process_time() - used < 0.05
    loop.post("news")
    waiting.join(_NEVER)
    assert not waiting.is_alive() and loop.handled[-1] == "news"


def test_the_last_round_ends_the_io_threads_watch_whoever_has_turned_it(loop: Loop) -> None:
    loop.standby.start()
    take_wheel(loop)
    loop.inbox.append("end")
    loop.turn_taking.turn_once()
    assert loop.turn_taking.has_ended
    loop.standby.join(_NEVER)
    assert not loop.standby.is_alive()
    loop.turn_taking.wait_for([])  # not for what will not come
    loop.inbox.clear()


def test_what_came_before_the_wheel_did_is_not_waited_for(loop: Loop) -> None:
    loop.standby.start()
    wait_until(lambda: loop.turns["standby"] > 0)
    loop.turn_taking.wait_for(["work"])
    loop.turn_taking.wait_for(["work"])
    assert loop.handled == []


def test_the_wheel_changes_hands_thousands_of_times_and_nothing_is_left_unread(loop: Loop) -> None:
    loop.standby.start()
    work = _Handled(loop)
    for number in range(3000):
        work.done = number
        loop.post(f"grant {number}")
        while not work:
            loop.turn_taking.wait_for(work)
        if number % 3 == 0:
            loop.turn_taking.turn_once()
        if number % 100 == 1:
            # Long enough, now and then, for the other one to take it.
            turned = loop.turns["standby"]
            wait_until(lambda turned=turned: loop.turns["standby"] > turned)  # type: ignore[misc]
    assert loop.handled == [f"grant {number}" for number in range(3000)]
