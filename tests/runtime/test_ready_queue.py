"""The queue between the I/O thread and the training loop, with the callbacks that tie it to both."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import Any

import pytest

from enqueuer.core.actions import BatchFailed, BatchSkipped
from enqueuer.runtime.ready_queue import End, ReadyQueue
from enqueuer.runtime.receipts import Received
from enqueuer.stream.ranges import Ranges
from tests.support.waiting import wait_until

DEADLINE = 30.0


class Ends:
    """A queue, and the calls of its callbacks."""

    def __init__(self, first_epoch: int = 0) -> None:
        self.wakes_count = 0
        self.taken: list[int] = []
        self.wanted: list[int] = []
        self._lengths: dict[int, int] = {}
        self._at = (first_epoch, 0)
        self.queue = ReadyQueue(first_epoch, self._wake, self.taken.append, self.wanted.append)

    def _wake(self) -> None:
        self.wakes_count += 1

    def set_length(self, epoch: int, length: int) -> None:
        self.queue.set_length(epoch, length)
        self._lengths[epoch] = length

    def put(self, outcomes: list[Any]) -> None:
        """Put the next positions in order."""
        epoch, first = self._at
        last = first + len(outcomes)
        self._at = (epoch + 1, 0) if last == self._lengths.get(epoch) else (epoch, last)
        self.queue.put(epoch, range(first, last), outcomes)

    def fill(self, *epochs: list[Any]) -> None:
        for epoch, outcomes in enumerate(epochs):
            self.set_length(epoch, len(outcomes))
            self.put(outcomes)

    def take(self, count: int) -> list[Any]:
        return [self.queue.take() for _ in range(count)]

    def consumers(self, pool: ThreadPoolExecutor, *epochs: int | None) -> list[Future[Any]]:
        """Start one waiting consumer for each entry; returns once all of them wait."""
        futures = [pool.submit(self.queue.take, epoch) for epoch in epochs]
        wait_until(lambda: len(self.queue._condition._waiters) == len(epochs), what="waiting consumers")  # type: ignore[attr-defined]
        return futures


def results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(DEADLINE) for future in futures]


def test_outcomes_are_taken_in_the_order_in_which_they_were_put() -> None:
    ends = Ends()
    ends.set_length(0, 5)
    ends.put(["a", "b"])
    ends.put(["c"])
    assert ends.take(3) == ["a", "b", "c"]
    assert ends.queue.taken_total == 3


def test_a_waiting_consumer_gets_the_next_outcome() -> None:
    ends = Ends()
    ends.set_length(0, 1)
    with ThreadPoolExecutor(1) as pool:
        (consumer,) = ends.consumers(pool, None)
        ends.put(["late"])
        assert consumer.result(DEADLINE) == "late"


def test_close_releases_every_waiting_consumer_and_drops_the_outcomes() -> None:
    ends = Ends()
    with ThreadPoolExecutor(3) as pool:
        waiting = ends.consumers(pool, None, None, 0)
        ends.queue.close()
        assert results(waiting) == [End.CLOSED] * 3
    ends.put(["too late"])
    assert ends.queue.take() is End.CLOSED
    assert ends.queue.progress[3] == 0


def test_an_error_comes_after_the_queued_outcomes_and_on_every_later_take() -> None:
    ends = Ends()
    ends.fill(["a", "b", "c"])
    ends.queue.fail(LookupError("first"))
    ends.queue.fail(LookupError("second"))
    assert ends.take(3) == ["a", "b", "c"]
    for _ in range(2):
        with pytest.raises(LookupError, match="first"):
            ends.queue.take()


def test_an_error_releases_every_waiting_consumer() -> None:
    ends = Ends()
    with ThreadPoolExecutor(2) as pool:
        waiting = ends.consumers(pool, None, 0)
        ends.queue.fail(LookupError("broken"))
        assert [type(future.exception(DEADLINE)) for future in waiting] == [LookupError] * 2


def test_a_failure_can_be_seen_before_its_turn() -> None:
    ends = Ends()
    ends.fill(["a"])
    ends.queue.raise_failure()
    ends.queue.fail(LookupError("broken"))
    with pytest.raises(LookupError, match="broken"):
        ends.queue.raise_failure()
    assert ends.queue.take() == "a"


def test_a_queue_that_is_closed_and_failed_ends_as_closed() -> None:
    ends = Ends()
    ends.queue.fail(LookupError("broken"))
    ends.queue.close()
    assert ends.queue.take() is End.CLOSED


def test_progress_follows_the_takes_over_epochs() -> None:
    ends = Ends()
    assert ends.queue.progress == (0, 0, 0, 0) and ends.queue.next_epoch == 0
    ends.fill(["a", "b"], ["c"])
    assert ends.queue.progress == (0, 0, 2, 3)
    ends.take(1)
    assert ends.queue.progress == (0, 1, 2, 2) and ends.queue.next_epoch == 0
    ends.take(1)
    assert ends.queue.progress == (0, 2, 2, 1) and ends.queue.next_epoch == 1
    ends.take(1)
    assert ends.queue.progress == (1, 1, 1, 0) and ends.queue.next_epoch == 2


def test_the_first_epoch_has_the_number_it_was_given() -> None:
    ends = Ends(first_epoch=7)
    assert ends.queue.next_epoch == 7
    ends.set_length(7, 1)
    ends.put(["a"])
    assert ends.queue.take(7) == "a"
    assert ends.taken == [7] and ends.queue.next_epoch == 8


def test_the_end_of_each_epoch_is_reported_once_with_its_last_take() -> None:
    ends = Ends()
    ends.fill(["a", "b"], ["c"], ["d", "e"])
    ends.take(1)
    assert ends.taken == []
    ends.take(1)
    assert ends.taken == [0]
    ends.take(1)
    assert ends.taken == [0, 1]
    ends.take(2)
    assert ends.taken == [0, 1, 2]


def test_an_epoch_is_wanted_once_when_a_consumer_waits_for_its_first_outcome() -> None:
    ends = Ends()
    ends.fill(["a", "b"])
    ends.take(2)
    assert ends.wanted == []
    with ThreadPoolExecutor(2) as pool:
        waiting = ends.consumers(pool, None, 1)
        assert ends.wanted == [1]
        ends.set_length(1, 3)
        ends.put(["c", "d"])
        assert sorted(results(waiting)) == ["c", "d"]
        (waiting_inside,) = ends.consumers(pool, None)
        assert ends.wanted == [1]
        ends.put(["e"])
        assert waiting_inside.result(DEADLINE) == "e"


def test_an_epoch_whose_first_outcome_is_there_is_not_asked_for() -> None:
    ends = Ends()
    ends.fill(["a"], ["b"])
    ends.take(2)
    assert ends.wanted == []


def test_the_io_thread_is_woken_after_the_number_of_takes_it_asked_for() -> None:
    ends = Ends()
    ends.fill(list(range(10)))
    ends.queue.wake_at(3)
    ends.take(2)
    assert ends.wakes_count == 0
    ends.take(1)
    assert ends.wakes_count == 1
    ends.take(3)
    assert ends.wakes_count == 1
    ends.queue.wake_at(7)
    ends.queue.wake_at(None)
    ends.take(3)
    assert ends.wakes_count == 1


def test_takes_that_the_io_thread_has_missed_wake_it_at_once() -> None:
    ends = Ends()
    ends.fill(list(range(10)))
    ends.take(4)
    ends.queue.wake_at(4)
    assert ends.wakes_count == 1
    ends.queue.wake_at(5)
    assert ends.wakes_count == 1


def test_a_waiting_consumer_does_not_wake_the_io_thread_unasked() -> None:
    ends = Ends()
    ends.set_length(0, 2)
    with ThreadPoolExecutor(1) as pool:
        (consumer,) = ends.consumers(pool, None)
        ends.put(["a"])
        consumer.result(DEADLINE)
    assert ends.wakes_count == 0


def test_only_epoch_ends_where_the_next_one_begins() -> None:
    ends = Ends()
    ends.fill(["a", "b"], ["c"])
    assert [ends.queue.take(0) for _ in range(4)] == ["a", "b", End.EPOCH, End.EPOCH]
    assert ends.queue.take(1) == "c"


def test_only_epoch_ends_without_waiting_for_the_next_epoch_to_open() -> None:
    ends = Ends()
    ends.fill(["a"])
    assert ends.queue.take(0) == "a"
    assert ends.queue.take(0) is End.EPOCH
    assert ends.wanted == []


def test_an_error_of_the_next_epoch_does_not_spoil_the_end_of_this_one() -> None:
    ends = Ends()
    ends.fill(["a"])
    ends.queue.take(0)
    ends.queue.fail(LookupError("on_epoch_end"))
    assert ends.queue.take(0) is End.EPOCH
    with pytest.raises(LookupError):
        ends.queue.take(1)


def test_all_consumers_that_wait_for_an_epoch_are_released_by_its_last_outcome() -> None:
    """The next epoch may never be delivered, because no consumer has asked for it."""
    ends = Ends()
    ends.set_length(0, 1)
    with ThreadPoolExecutor(3) as pool:
        waiting = ends.consumers(pool, 0, 0, 0)
        ends.put(["last"])
        assert sorted(map(str, results(waiting))) == sorted(map(str, ["last", End.EPOCH, End.EPOCH]))


def test_a_consumer_that_waited_while_others_took_the_rest_ends_the_epoch() -> None:
    ends = Ends()
    ends.set_length(0, 4)
    ends.put(["a"])
    assert ends.queue.take() == "a"
    with ThreadPoolExecutor(1) as pool:
        (waiting,) = ends.consumers(pool, None)
        with ends.queue._lock:  # it was woken, and is overtaken
            ends.put(["b", "c", "d"])
            assert ends.take(2) == ["b", "c"]
        assert waiting.result(DEADLINE) == "d"
    assert ends.taken == [0]


def test_an_outcome_of_the_next_epoch_wakes_a_consumer_that_may_take_it() -> None:
    ends = Ends()
    ends.set_length(0, 1)
    with ThreadPoolExecutor(3) as pool:
        waiting = ends.consumers(pool, 0, 0, None)
        ends.set_length(1, 1)
        ends.put(["a"])
        ends.put(["b"])
        done, _ = wait(waiting, DEADLINE)
        assert len(done) == 3, "a consumer still waits"
        # Either of the three may have been the first.
        outcomes = results(waiting)
        assert outcomes.count(End.EPOCH) in (1, 2)
        if outcomes[2] == "b":
            assert "a" in outcomes[:2]


@pytest.mark.parametrize("consumers_count", [2, 5])
def test_several_consumers_take_each_outcome_once_over_many_epochs_of_one(consumers_count: int) -> None:
    ends = Ends()
    total = 300

    def consume() -> list[int]:
        taken = []
        while (outcome := ends.queue.take()) is not End.CLOSED:
            taken.append(outcome)
        return taken

    with ThreadPoolExecutor(consumers_count) as pool:
        futures = [pool.submit(consume) for _ in range(consumers_count)]
        for epoch in range(total):
            ends.set_length(epoch, 1)
            ends.put([epoch])
        wait_until(lambda: ends.queue.taken_total == total, what="all takes")
        ends.queue.close()
        shares = results(futures)
    assert sorted(chain(*shares)) == list(range(total))
    assert all(share == sorted(share) for share in shares)
    assert ends.taken == list(range(total))
    assert ends.wanted == sorted(set(ends.wanted))


def test_wait_seconds_counts_waiting_and_no_take_that_is_ready() -> None:
    ends = Ends()
    ends.fill(["a", "b"])
    ends.take(2)
    assert ends.queue.times.wait_seconds == 0.0
    with ThreadPoolExecutor(1) as pool:
        (consumer,) = ends.consumers(pool, None)
        ends.set_length(1, 1)
        ends.put(["c"])
        consumer.result(DEADLINE)
    assert 0.0 < ends.queue.times.wait_seconds < DEADLINE


def test_a_length_set_again_before_the_first_take_replaces_the_first_one() -> None:
    ends = Ends()
    ends.set_length(0, 5)
    ends.set_length(0, 2)
    ends.put(["a", "b"])
    ends.take(2)
    assert ends.taken == [0]


# ---------------------------------------------------------------- what was received


def failed(index: int) -> BatchFailed:
    return BatchFailed(index, 0, "worker", "host", None)


def test_an_outcome_that_is_only_ready_is_not_received() -> None:
    ends = Ends(first_epoch=3)
    ends.set_length(3, 3)
    ends.put(["a", "b", "c"])
    assert ends.queue.received() == Received(3, Ranges(), (), False)
    ends.take(2)
    assert ends.queue.received() == Received(3, Ranges([(0, 2)]), (), True)
    ends.queue.close()
    assert ends.queue.received() == Received(3, Ranges([(0, 2)]), (), True)


def test_positions_are_received_in_the_order_of_delivery() -> None:
    ends = Ends()
    ends.set_length(0, 4)
    ends.queue.put(0, [2, 0], ["c", "a"])
    ends.queue.put(0, [3], ["d"])
    ends.take(2)
    assert ends.queue.received().positions == Ranges([(0, 1), (2, 3)])
    ends.take(1)
    assert ends.queue.received().positions == Ranges([(0, 1), (2, 4)])


def test_an_epoch_with_a_failed_batch_is_not_over_with_its_last_take() -> None:
    ends = Ends()
    ends.set_length(0, 2)
    ends.put(["a", failed(1)])
    ends.take(2)
    assert ends.taken == []
    assert ends.queue.received().positions == Ranges([(0, 1)])


def test_an_epoch_with_a_skipped_batch_is_over() -> None:
    ends = Ends()
    ends.set_length(0, 2)
    ends.put([BatchSkipped(4, 0), "b"])
    ends.take(2)
    assert ends.taken == [0]
    assert ends.queue.received() == Received(0, Ranges([(0, 2)]), ((0, 4),), True)


def test_a_batch_that_could_not_be_used_is_taken_back_but_not_an_epochs_last() -> None:
    ends = Ends()
    ends.fill(["a", "b"])
    ends.take(1)
    ends.queue.take_back()
    assert ends.queue.received().positions == Ranges()
    ends = Ends()
    ends.fill(["a", "b"])
    ends.take(2)
    ends.queue.take_back()
    assert ends.taken == [0] and ends.queue.received().positions == Ranges([(0, 2)])


@pytest.mark.parametrize("taken", range(1, 7))
def test_an_outcome_put_back_is_taken_next(taken: int) -> None:
    ends = Ends()
    ends.fill(["a", "b", "c"], ["d", "e", "f"])
    stream = list("abcdef")
    outcomes = ends.take(taken)
    assert outcomes == stream[:taken]
    ends.queue.put_back(outcomes[-1])
    assert ends.queue.taken_total == taken - 1
    epoch, received = divmod(taken - 1, 3)
    if received == 2:
        received = 3  # an epoch that is over stays so
    assert ends.queue.received().positions == Ranges([(0, received)] if received else [])
    assert ends.queue.received().epoch == epoch
    assert ends.take(7 - taken) == stream[taken - 1 :]
    assert ends.taken == [0, 1], "each epoch is over once"
    assert ends.queue.received() == Received(1, Ranges([(0, 3)]), (), True)


def test_an_outcome_that_others_have_passed_is_not_put_back() -> None:
    ends = Ends()
    outcomes = [object() for _ in range(4)]
    ends.fill(outcomes)
    ends.take(2)
    ends.queue.put_back(outcomes[0])
    assert ends.take(2) == outcomes[2:]
    assert ends.taken == [0]


def test_a_waiting_consumer_gets_an_outcome_put_back() -> None:
    ends = Ends()
    ends.set_length(0, 2)
    ends.put(["a"])
    (outcome,) = ends.take(1)
    with ThreadPoolExecutor() as pool:
        consumers = ends.consumers(pool, None)
        ends.queue.put_back(outcome)
        assert results(consumers) == ["a"]


def test_nothing_is_put_back_into_a_queue_that_was_closed() -> None:
    ends = Ends()
    ends.fill(["a", "b"])
    (outcome,) = ends.take(1)
    ends.queue.close()
    ends.queue.put_back(outcome)
    assert ends.queue.take() is End.CLOSED
    assert ends.queue.received().positions == Ranges([(0, 1)])


# ------------------------------------------------------------ an epoch that ends early


def test_an_epoch_that_ends_early_is_dropped_and_the_next_one_follows() -> None:
    ends = Ends()
    ends.set_length(0, 4)
    ends.put(["a", "b", "c"])
    assert ends.take(1) == ["a"]
    assert ends.queue.end_epoch(0) == Ranges([(0, 1)])
    assert (ends.queue.taken_total, ends.queue.removed_total, ends.queue.next_epoch) == (1, 3, 1)
    assert ends.queue.received() == Received(0, Ranges([(0, 4)]), (), True)
    ends.queue.put(0, range(3, 4), ["late"])
    assert ends.queue.removed_total == 4
    ends.set_length(1, 2)
    ends.queue.put(1, range(2), ["x", "y"])
    assert ends.take(2) == ["x", "y"] and ends.taken == [1]


def test_an_epoch_ends_early_only_while_the_stream_is_in_its_middle() -> None:
    ends = Ends()
    ends.fill(["a", "b"], ["x"])
    assert ends.queue.end_epoch(0) is None, "it has not begun"
    ends.take(1)
    assert ends.queue.end_epoch(1) is None, "it is not the present one"
    ends.take(1)
    assert ends.queue.end_epoch(0) is None, "it is over"
    assert ends.take(1) == ["x"]


def test_the_outcomes_of_the_next_epoch_stay_when_one_ends_early() -> None:
    ends = Ends()
    ends.fill(["a", failed(1), BatchSkipped(2, 0)], ["x", BatchSkipped(1, 1), "z"])
    ends.take(1)
    ends.queue.end_epoch(0)
    assert ends.take(3) == ["x", BatchSkipped(1, 1), "z"]
    assert ends.queue.received() == Received(1, Ranges([(0, 3)]), ((1, 1),), True)


def test_the_end_of_an_epoch_releases_the_consumers_that_wait_for_more_of_it() -> None:
    ends = Ends()
    ends.set_length(0, 3)
    ends.put(["a"])
    ends.take(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = ends.consumers(pool, 0)
        ends.queue.end_epoch(0)
        assert results(waiting) == [End.EPOCH]


def test_the_io_thread_is_woken_by_takes_after_dropped_outcomes() -> None:
    ends = Ends()
    ends.fill(["a", "b", "c"], ["x", "y"])
    ends.take(1)
    ends.queue.end_epoch(0)
    ends.queue.wake_at(4)
    assert ends.wakes_count == 0
    ends.take(1)
    assert ends.wakes_count == 1


def test_a_wait_for_the_hook_ends_with_it_or_with_the_session() -> None:
    ends = Ends()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ends.queue.wait_for_hook, 0)
        ends.queue.note_hook_done(0)
        waiting.result(DEADLINE)
        waiting = pool.submit(ends.queue.wait_for_hook, 1)
        ends.queue.close()
        waiting.result(DEADLINE)
