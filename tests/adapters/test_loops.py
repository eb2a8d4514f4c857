"""The batches that training loops receive, without any framework."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.adapters._loops import NOT_GIVEN, EpochLoop, EpochLoops, start_arguments
from enqueuer.runtime.passes import KEPT_COUNT
from tests.support.waiting import wait_until


class Numbers:
    """Batch ``i`` is ``i`` + 100 for each ``on_epoch_end`` + ``level``; the batches in ``absent`` are None."""

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
    """A loop that counts its batches, as a generator of Keras does."""

    def __init__(self, loops: EpochLoops) -> None:
        self.loops = loops

    def take(self, count: int) -> list[Any]:
        return [self.loops.next_batch(self) for _ in range(count)]


def is_asked(loops: EpochLoops) -> bool:
    """Whether another thread is waiting for a batch."""
    lock = loops.enqueuer._passes._lock
    if lock.acquire(blocking=False):
        lock.release()
        return False
    return True


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture(params=[0, 2], ids=["serial", "threads"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def loops(numbers: Numbers, workers: int) -> Iterator[EpochLoops]:
    with SequenceEnqueuer(numbers) as enq:
        enq.start(workers, 4)
        yield EpochLoops(enq, counted=True)


def test_one_loop_after_another_gets_one_epoch_after_another(loops: EpochLoops) -> None:
    assert Loop(loops).take(20) == list(range(20))
    assert Loop(loops).take(20) == list(range(100, 120))


def test_the_same_loop_goes_on_with_the_next_epoch(loops: EpochLoops) -> None:
    assert Loop(loops).take(45) == [*range(20), *range(100, 120), *range(200, 205)]


@pytest.mark.parametrize("count", [1, KEPT_COUNT])
def test_the_batches_of_a_loop_that_was_left_early_come_again(loops: EpochLoops, numbers: Numbers, count: int) -> None:
    assert Loop(loops).take(count) == list(range(count))
    assert Loop(loops).take(20) == list(range(20))
    assert sorted(numbers.asked)[:20] == list(range(20)), "nothing is computed twice"


def test_a_look_uses_no_batch_up(loops: EpochLoops) -> None:
    assert [loops.next_batch(None) for _ in range(3)] == [0, 1, 2]
    assert Loop(loops).take(20) == list(range(20))


def test_a_look_at_the_whole_of_a_short_epoch_uses_no_batch_up() -> None:
    with SequenceEnqueuer(Numbers(2)) as enq:
        enq.start(1)
        loops = EpochLoops(enq, counted=True)
        assert [loops.next_batch(None) for _ in range(2)] == [0, 1]
        assert Loop(loops).take(4) == [0, 1, 100, 101]


def test_a_loop_that_was_left_late_is_followed_by_the_next_epoch(loops: EpochLoops, numbers: Numbers) -> None:
    assert Loop(loops).take(12) == list(range(12))
    assert Loop(loops).take(20) == list(range(100, 120))
    wait_until(lambda: numbers.ends_count == 2 or not loops.enqueuer.workers)


def test_a_pass_whose_framework_has_ended_its_epoch_is_not_taken_up_again(loops: EpochLoops, numbers: Numbers) -> None:
    assert Loop(loops).take(5) == list(range(5))
    loops.end_pass(may_go_on=False)
    assert numbers.ends_count == 1, "the hook has run"
    assert Loop(loops).take(20) == list(range(100, 120))


def test_a_loop_that_asks_again_after_the_end_of_its_pass_takes_nothing(loops: EpochLoops) -> None:
    """Such as the prefetching thread of tf-keras."""
    loop = Loop(loops)
    loop.take(5)
    loops.end_pass(may_go_on=False)
    with pytest.raises(RuntimeError, match="another loop"):
        loop.take(1)
    assert Loop(loops).take(20) == list(range(100, 120))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loop_that_goes_on_gets_the_rest_of_its_pass_computed_after_the_hook(shuffle: bool, workers: int) -> None:
    numbers = Numbers(10)
    with SequenceEnqueuer(numbers, shuffle=shuffle, seed=3) as enq:
        enq.start(workers)
        loops = EpochLoops(enq, counted=True)
        loop, taken = Loop(loops), []
        for _ in range(2):
            taken.append(loop.take(4))
            loops.end_pass(may_go_on=True)
        assert numbers.ends_count == 2
        taken.append(loop.take(2))
        assert [[batch // 100 for batch in part] for part in taken] == [[0] * 4, [1] * 4, [2] * 2]
        order = [batch % 100 for part in taken for batch in part]
        assert sorted(order) == list(range(10)) and (shuffle or order == list(range(10)))
        assert sorted(batch % 100 for batch in loop.take(10)) == list(range(10)), "then comes a new pass"


def test_the_rest_of_a_pass_that_goes_on_is_resumed_where_it_was(workers: int) -> None:
    def stream(enq: SequenceEnqueuer, count: int) -> list[Any]:
        enq.start(workers)
        return [next(enq.get()) for _ in range(count)]

    with SequenceEnqueuer(Numbers(10), shuffle=True, seed=3) as enq:
        enq.start(workers)
        loops = EpochLoops(enq, counted=True)
        loop = Loop(loops)
        loop.take(4)
        loops.end_pass(may_go_on=True)
        loop.take(3)
        state = enq.state_dict()
        rest = loop.take(13)
    with SequenceEnqueuer(Numbers(10), shuffle=True, seed=3) as enq:
        enq.load_state_dict(state)
        assert stream(enq, 13) == rest


def test_a_new_loop_begins_a_pass_though_the_one_before_could_have_gone_on(loops: EpochLoops) -> None:
    Loop(loops).take(5)
    loops.end_pass(may_go_on=True)
    assert Loop(loops).take(20) == list(range(100, 120))


def test_the_end_of_a_view_s_epoch_leaves_a_loop_of_another_view_alone(loops: EpochLoops) -> None:
    other = EpochLoops(loops.enqueuer, counted=True)
    Loop(loops).take(5)
    loop = Loop(other)
    assert loop.take(3) == [0, 1, 2]
    loops.end_pass(may_go_on=False)
    assert loop.take(17) == list(range(3, 20))


def test_two_views_are_two_readers_that_each_begin_with_an_epoch(loops: EpochLoops) -> None:
    first, second = loops, EpochLoops(loops.enqueuer, counted=True)
    assert [first.next_batch(None), second.next_batch(None), second.next_batch(None)] == [0, 0, 1], "both look"
    assert Loop(first).take(12) == list(range(12))
    assert Loop(second).take(20) == list(range(100, 120))
    assert Loop(first).take(20) == list(range(200, 220))


def test_a_view_begins_with_an_epoch_after_batches_that_were_taken_without_it(loops: EpochLoops) -> None:
    batches = loops.enqueuer.get()
    assert next(batches) == 0
    assert Loop(loops).take(20) == list(range(100, 120))
    assert next(batches) == 200
    assert list(EpochLoop(EpochLoops(loops.enqueuer))) == list(range(300, 320))


def test_a_counted_view_and_an_iterated_one_share_the_stream(loops: EpochLoops) -> None:
    iterated = EpochLoops(loops.enqueuer)
    assert Loop(loops).take(3) == [0, 1, 2]
    assert list(EpochLoop(iterated)) == list(range(100, 120))
    assert list(islice(EpochLoop(iterated), 2)) == [200, 201]
    assert Loop(loops).take(20) == list(range(300, 320))


@pytest.mark.parametrize("counted", [False, True], ids=["iterated", "counted"])
def test_an_enqueuer_that_nobody_holds_is_stopped_at_once(counted: bool, numbers: Numbers) -> None:
    enq = SequenceEnqueuer(numbers)
    loops = EpochLoops(enq, counted=counted, start={"workers": 1})
    loop = EpochLoop(loops)
    next(loop)
    is_gone = weakref.ref(enq)
    gc.disable()
    try:
        del enq, loops, loop
        wait_until(lambda: is_gone() is None)
    finally:
        gc.enable()


def test_a_replaced_loop_gets_an_error_and_takes_nothing(loops: EpochLoops) -> None:
    late = Loop(loops)
    late.take(2)
    current = Loop(loops)
    current.take(1)
    with pytest.raises(RuntimeError, match="another loop"):
        late.take(1)
    assert current.take(19) == list(range(1, 20))


def test_a_thread_of_a_loop_that_was_left_takes_nothing_from_the_next(numbers: Numbers) -> None:
    """Such as a prefetching thread, which waits for a batch while the next loop begins."""
    with SequenceEnqueuer(numbers) as enq:
        numbers.gate.clear()
        enq.start(2)
        loops = EpochLoops(enq, counted=True)
        thread = threading.Thread(target=Loop(loops).take, args=(1,))
        thread.start()
        wait_until(lambda: is_asked(loops))
        taken: list[int] = []
        follower = threading.Thread(target=lambda: taken.extend(Loop(loops).take(20)))
        follower.start()
        numbers.gate.set()
        follower.join(10)
        thread.join(10)
    assert taken == list(range(20))


def test_a_restart_by_the_caller_begins_a_pass(loops: EpochLoops, workers: int) -> None:
    loop = Loop(loops)
    loop.take(3)
    loops.enqueuer.stop()
    with pytest.raises(RuntimeError, match="call its start"):
        loop.take(1)
    loops.enqueuer.start(workers)
    assert loop.take(20) == list(range(20))


def test_stop_releases_a_loop_that_waits_with_an_error_that_says_so(numbers: Numbers) -> None:
    """An ordinary end of the stream would be a short epoch to a framework."""
    with SequenceEnqueuer(numbers) as enq:
        numbers.gate.clear()
        enq.start(2)
        stopper = threading.Thread(target=lambda: (wait_until(lambda: numbers.asked), enq.stop()))
        stopper.start()
        with pytest.raises(RuntimeError, match=r"was stopped|is not running"):
            Loop(EpochLoops(enq, counted=True)).take(1)
        numbers.gate.set()
        stopper.join(10)


def test_a_pass_whose_epoch_lacks_batches_is_filled_up_from_the_next_epoch() -> None:
    with SequenceEnqueuer(Numbers(4, absent=(1,))) as enq:
        enq.start(2)
        loops = EpochLoops(enq, counted=True)
        assert [Loop(loops).take(4) for _ in range(3)] == [[0, 2, 3, 100], [102, 103, 200, 202], [203, 300, 302, 303]]


def test_a_change_between_two_epochs_is_in_force_for_the_whole_of_the_next(loops: EpochLoops, numbers: Numbers) -> None:
    for epoch, level in enumerate([0, 1000, 5000]):
        numbers.level = level
        assert Loop(loops).take(20) == [index + 100 * epoch + level for index in range(20)]
        # The hook after the last take would let threads begin at once.
        wait_until(lambda epoch=epoch: numbers.ends_count == epoch + 1 or not loops.enqueuer.workers)


def test_an_error_is_raised_as_it_is_and_the_next_start_goes_well(numbers: Numbers) -> None:
    with SequenceEnqueuer(Numbers(length=0)) as enq:
        loops = EpochLoops(enq, counted=True, start={"workers": 1})
        with pytest.raises(ValueError, match="empty"):
            loops.next_batch(None)
        enq.sequence = numbers
        assert Loop(loops).take(20) == list(range(20))


# ------------------------------------------------------------ loops that end with their epoch


@pytest.fixture
def iterated(numbers: Numbers, workers: int) -> Iterator[EpochLoops]:
    """As PyTorch's and JAX's loops use it; the first loop starts the enqueuer."""
    with SequenceEnqueuer(numbers) as enq:
        yield EpochLoops(enq, start={"workers": workers, "max_queue_size": 4})


def test_a_for_loop_ends_with_its_epoch(iterated: EpochLoops) -> None:
    assert list(EpochLoop(iterated)) == list(range(20))
    loop = EpochLoop(iterated)
    assert list(loop) == list(range(100, 120))
    assert list(loop) == [], "a loop that is over stays so"


def test_a_for_loop_over_an_epoch_that_lacks_batches_is_shorter() -> None:
    with SequenceEnqueuer(Numbers(4, absent=(1,))) as enq:
        loops = EpochLoops(enq, start={"workers": 2})
        assert [list(EpochLoop(loops)) for _ in range(2)] == [[0, 2, 3], [100, 102, 103]]


def test_a_for_loop_that_was_left_is_followed_by_the_next_epoch(iterated: EpochLoops, numbers: Numbers) -> None:
    assert list(islice(EpochLoop(iterated), 1)) == [0]
    assert list(EpochLoop(iterated)) == list(range(100, 120))
    assert iterated.epoch == 2 and iterated.enqueuer.is_running()


def test_a_for_loop_that_was_left_after_its_last_batch_is_over(iterated: EpochLoops) -> None:
    assert list(islice(EpochLoop(iterated), 20)) == list(range(20))
    assert list(EpochLoop(iterated)) == list(range(100, 120))


def test_an_iterator_that_was_never_used_is_no_loop(iterated: EpochLoops) -> None:
    unused, loop = EpochLoop(iterated), EpochLoop(iterated)
    assert next(loop) == 0
    EpochLoop(iterated)
    assert list(loop) == list(range(1, 20))
    assert list(unused) == list(range(100, 120))


def test_a_for_loop_that_another_one_replaced_gets_an_error(iterated: EpochLoops) -> None:
    first, second = EpochLoop(iterated), EpochLoop(iterated)
    assert (next(first), next(second)) == (0, 100)
    with pytest.raises(RuntimeError, match="another loop"):
        next(first)
    assert len(list(second)) == 19


def test_a_for_loop_ends_when_the_enqueuer_is_stopped(iterated: EpochLoops) -> None:
    loop = EpochLoop(iterated)
    next(loop)
    iterated.enqueuer.stop()
    assert list(loop) == []
    assert list(EpochLoop(iterated)) == list(range(20)), "the next one starts the enqueuer, and no hook has run"


@pytest.mark.parametrize("count", [0, 7, 20, 27])
def test_a_loaded_state_continues_in_the_middle_and_at_the_end_of_an_epoch(iterated: EpochLoops, count: int) -> None:
    taken: list[Any] = []
    while len(taken) < count:
        taken += islice(EpochLoop(iterated), count - len(taken))
    state = iterated.state_dict()
    with SequenceEnqueuer(Numbers()) as enq:
        loops = EpochLoops(enq, start={"workers": 1, "epoch": 5})
        loops.load_state_dict(state)
        assert loops.epoch == count // 20
        while loops.epoch < 2:
            taken += EpochLoop(loops)
    assert taken == [*range(20), *range(100, 120)]


def test_the_first_loop_begins_at_the_epoch_that_was_given(numbers: Numbers) -> None:
    with SequenceEnqueuer(numbers) as enq:
        loops = EpochLoops(enq, start={"epoch": 5})
        next(EpochLoop(loops))
        assert loops.epoch == 5
        next(EpochLoop(loops))
        assert loops.epoch == 6, "later loops go on from there"


def test_without_arguments_of_start_the_enqueuer_must_be_running(numbers: Numbers) -> None:
    with SequenceEnqueuer(numbers) as enq:
        loops = EpochLoops(enq, start=start_arguments(NOT_GIVEN, None, None))
        loop = EpochLoop(loops)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"call its start\(workers=…\) first, or give workers= here"):
                next(loop)
        enq.start(2, 3)
        assert next(loop) == 0
        assert list(EpochLoop(loops)) == list(range(100, 120))


def test_only_arguments_that_were_given_go_to_start() -> None:
    assert start_arguments(NOT_GIVEN, None, None) == {}
    assert start_arguments(None, "auto", 3) == {"workers": None, "max_queue_size": "auto", "epoch": 3}
    assert start_arguments(0, 0, 0) == {"workers": 0, "max_queue_size": 0, "epoch": 0}


class Failing(Numbers):
    """Batch 2 is an error."""

    def __getitem__(self, index: int) -> int | None:
        if index == 2:
            raise ValueError("no batch 2")
        return super().__getitem__(index)


def test_a_loop_that_passes_over_an_error_is_told_that_the_rest_of_the_epoch_is_missing(workers: int) -> None:
    with SequenceEnqueuer(Failing(5)) as enq:
        loop = EpochLoop(EpochLoops(enq, start=start_arguments(workers, None, None)))
        assert list(islice(loop, 2)) == [0, 1]
        with pytest.raises(ValueError, match="no batch 2"):
            next(loop)
        with pytest.raises(RuntimeError, match=r'the rest of this epoch is missing.*on_error="skip"'):
            next(loop)
        assert list(loop) == [], "then it is over"
