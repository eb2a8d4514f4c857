"""One stream in passes: what a framework's loops receive, without any framework."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.adapters._passes import KEPT_COUNT, Passes
from tests.support.waiting import wait_until


class Numbers:
    """Batch ``i`` is ``i`` + 100 for each ``on_epoch_end`` + ``level``; None where ``absent`` says so."""

    def __init__(self, length: int = 20, absent: tuple[int, ...] = ()) -> None:
        self.length, self.absent, self.ends_count = length, absent, 0
        self.level = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int | None:
        self.asked.append(index)
        assert self.gate.wait(10)
        return None if index in self.absent else index + 100 * self.ends_count + self.level

    def on_epoch_end(self) -> None:
        self.ends_count += 1


class Loop:
    """A generator of Keras', as far as the passes are concerned."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes

    def take(self, count: int) -> list[Any]:
        return [self.passes.next(self) for _ in range(count)]


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture(params=[0, 2], ids=["serial", "threads"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def passes(numbers: Numbers, workers: int) -> Iterator[Passes]:
    with SequenceEnqueuer(numbers) as enq:
        enq.start(workers, 4)
        yield Passes(enq)


def test_one_loop_after_another_gets_one_epoch_after_another(passes: Passes) -> None:
    assert Loop(passes).take(20) == list(range(20))
    assert Loop(passes).take(20) == list(range(100, 120))


def test_the_same_loop_goes_on_with_the_next_epoch(passes: Passes) -> None:
    assert Loop(passes).take(45) == [*range(20), *range(100, 120), *range(200, 205)]


@pytest.mark.parametrize("count", [1, KEPT_COUNT])
def test_what_a_loop_took_before_it_was_left_early_comes_again(passes: Passes, numbers: Numbers, count: int) -> None:
    assert Loop(passes).take(count) == list(range(count))
    assert Loop(passes).take(20) == list(range(20))
    assert sorted(numbers.asked)[:20] == list(range(20)), "nothing is computed twice"


def test_who_only_looks_uses_nothing_up(passes: Passes) -> None:
    assert [passes.next(None) for _ in range(3)] == [0, 1, 2]
    assert Loop(passes).take(20) == list(range(20))


def test_a_peek_that_saw_the_whole_of_a_short_epoch_uses_nothing_up() -> None:
    with SequenceEnqueuer(Numbers(2)) as enq:
        enq.start(1)
        passes = Passes(enq)
        assert [passes.next(None) for _ in range(2)] == [0, 1]
        assert Loop(passes).take(4) == [0, 1, 100, 101]


def test_a_loop_that_was_left_late_is_followed_by_a_new_pass_that_is_no_epochs_end(
    passes: Passes, numbers: Numbers
) -> None:
    assert Loop(passes).take(12) == list(range(12))
    assert Loop(passes).take(20) == list(range(20))
    wait_until(lambda: numbers.ends_count == 1 or not passes.enqueuer.workers)


def test_a_pass_that_was_broken_off_is_not_taken_up_again_however_short_it_was() -> None:
    with SequenceEnqueuer(Numbers(), shuffle=True, seed=3) as enq:
        enq.start(2)
        passes = Passes(enq)
        first = Loop(passes).take(5)
        passes.break_off()
        second = Loop(passes).take(20)
        assert sorted(second) == list(range(20)) and second[:5] != first


def test_a_loop_that_another_has_replaced_is_told_so_and_takes_nothing(passes: Passes) -> None:
    late = Loop(passes)
    late.take(2)
    current = Loop(passes)
    current.take(1)
    with pytest.raises(RuntimeError, match="another loop"):
        late.take(1)
    assert current.take(19) == list(range(1, 20))


def test_a_thread_of_a_loop_that_was_left_takes_nothing_from_the_next(numbers: Numbers) -> None:
    """As a prefetching thread does, which waits for a batch while the next loop begins."""
    with SequenceEnqueuer(numbers) as enq:
        numbers.gate.clear()
        enq.start(2)
        passes = Passes(enq)
        thread = threading.Thread(target=Loop(passes).take, args=(1,))
        thread.start()
        wait_until(lambda: passes._lock.locked() and numbers.asked)
        taken: list[int] = []
        follower = threading.Thread(target=lambda: taken.extend(Loop(passes).take(20)))
        follower.start()
        numbers.gate.set()
        follower.join(10)
        thread.join(10)
    assert taken == list(range(20))


def test_a_restart_by_the_caller_begins_a_pass(passes: Passes, workers: int) -> None:
    loop = Loop(passes)
    loop.take(3)
    passes.enqueuer.stop()
    with pytest.raises(RuntimeError, match="call its start"):
        loop.take(1)
    passes.enqueuer.start(workers)
    assert loop.take(20) == list(range(20))


def test_stop_releases_a_loop_that_waits_with_an_error_that_says_so(numbers: Numbers) -> None:
    """An ordinary end of the stream would be a short epoch to a framework."""
    with SequenceEnqueuer(numbers) as enq:
        numbers.gate.clear()
        enq.start(2)
        stopper = threading.Thread(target=lambda: (wait_until(lambda: numbers.asked), enq.stop()))
        stopper.start()
        with pytest.raises(RuntimeError, match=r"was stopped|is not running"):
            Loop(Passes(enq)).take(1)
        numbers.gate.set()
        stopper.join(10)


def test_an_epoch_that_lacks_batches_is_filled_up_from_the_next() -> None:
    with SequenceEnqueuer(Numbers(4, absent=(1,))) as enq:
        enq.start(2)
        passes = Passes(enq)
        assert [Loop(passes).take(4) for _ in range(3)] == [[0, 2, 3, 100], [102, 103, 200, 202], [203, 300, 302, 303]]


def test_a_change_between_two_epochs_is_in_force_for_the_whole_of_the_next(passes: Passes, numbers: Numbers) -> None:
    for epoch, level in enumerate([0, 1000, 5000]):
        numbers.level = level
        assert Loop(passes).take(20) == [index + 100 * epoch + level for index in range(20)]
        # The hook of the last take, which would let threads begin at once.
        wait_until(lambda epoch=epoch: numbers.ends_count == epoch + 1 or not passes.enqueuer.workers)


def test_an_error_is_raised_as_it_is_and_the_next_start_goes_well(numbers: Numbers) -> None:
    with SequenceEnqueuer(Numbers(length=0)) as enq:
        enq.start(1)
        passes = Passes(enq)
        with pytest.raises(ValueError, match="empty"):
            passes.next(None)
        enq.sequence = numbers
        enq.start(1)
        assert Loop(passes).take(20) == list(range(20))
