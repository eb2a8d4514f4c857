"""``workers=0``: the same stream in the consumer's own thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceError, item_rng, worker_info
from enqueuer.compute.seeding import item_generator
from enqueuer.options import Options
from enqueuer.runtime.bookmark import Bookmark
from enqueuer.runtime.iteration import StreamEnd
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.runtime.serial_session import SerialSession
from enqueuer.runtime.trainer_sequence import TrainerSequence
from tests.support.epoch_order import epoch_order
from tests.support.journal import Journal
from tests.support.sequences import Bare, Flaky, Growing, Journaled, Nones, Reshuffling, as_spec

SEED = 9


def serve(sequence: Any, *, first_epoch: int = 0, **options: Any) -> SerialSession:
    get_sequence: Callable[[], Any] = sequence if isinstance(sequence, type(lambda: 0)) else lambda: sequence
    return SerialSession(
        Bookmark(OwnSequence(TrainerSequence(get_sequence)), Options(**options), seed=SEED, first_epoch=first_epoch)
    )


def take(session: SerialSession, count: int) -> list[Any]:
    return [session.next_batch() for _ in range(count)]


class Called(Bare):
    """A Sequence with a function of the test as its items."""

    def __init__(self, function: Callable[[int], Any], length: int = 4) -> None:
        super().__init__(length)
        self._function = function

    def __getitem__(self, index: int) -> Any:
        return self._function(index)


def test_no_batch_is_computed_before_it_is_asked_for(tmp_path: Any) -> None:
    journal = Journal(str(tmp_path / "journal"))
    session = serve(Journaled(length=3, journal=journal.path))
    assert journal.requested() == []
    session.next_batch()
    assert journal.requested() == [0]
    assert journal.entries("item")[0].thread == threading.get_ident()


def test_epochs_follow_one_another_with_the_hook_between_them() -> None:
    session = serve(Growing(length=2, step=1))
    assert take(session, 9) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), *[(2, index) for index in range(4)]]


def test_the_hook_runs_when_the_next_epochs_first_batch_is_asked_for() -> None:
    sequence = Journaled(length=2)
    session = serve(sequence)
    take(session, 2)
    assert sequence.version == 0 and session.next_epoch == 1
    session.next_batch()
    assert sequence.version == 1


def test_an_epoch_that_is_asked_for_alone_ends_with_its_hook() -> None:
    sequence = Journaled(length=2)
    session = serve(sequence)
    for _ in range(2):
        session.next_batch(0)
    for _ in range(2):
        with pytest.raises(StreamEnd):
            session.next_batch(0)
        assert (sequence.version, session.epoch, session.next_epoch) == (1, 0, 1)
    state = session.bookmark.state()
    assert state is not None and state.epoch_end and len(state.epoch_ends) == 1
    session.next_batch(1)
    assert sequence.version == 1


def test_an_error_of_the_hook_of_a_single_epoch_comes_with_the_next_epoch() -> None:
    class Failing(Bare):
        def on_epoch_end(self) -> None:
            raise OSError("hook")

    session = serve(Failing(length=1))
    session.next_batch(0)
    for _ in range(2):
        with pytest.raises(StreamEnd):
            session.next_batch(0)
    with pytest.raises(OSError, match="hook"):
        session.next_batch(1)
    state = session.bookmark.state()
    assert state is not None and not state.epoch_end


def test_order_and_shard_are_those_of_every_placement() -> None:
    session = serve(Bare(length=7), shuffle=True, shard=(1, 2), seed=SEED, first_epoch=3)
    wanted = [
        index for epoch in (3, 4) for index in epoch_order(SEED, epoch, 7, shuffle=True, shard=(1, 2), remainder="drop")
    ]
    assert [index for _, index in take(session, 6)] == wanted


def test_only_epoch_ends_where_the_next_one_begins() -> None:
    session = serve(Bare(length=2))
    assert [session.next_batch(0), session.next_batch(0)] == [(1, 0), (1, 1)]
    with pytest.raises(StreamEnd):
        session.next_batch(0)
    assert session.next_batch(1) == (1, 0)


def test_the_epoch_in_stats_is_that_of_the_batch_taken_last() -> None:
    session = serve(Bare(length=1), first_epoch=4)
    assert (session.epoch, session.next_epoch) == (4, 4)
    take(session, 2)
    assert (session.epoch, session.next_epoch) == (5, 6)


def test_a_batch_of_none_is_left_out() -> None:
    assert take(serve(Nones(length=4, every=2)), 4) == [(0, 0), (0, 2), (1, 0), (1, 2)]


def test_an_empty_sequence_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"len\(\) is 0"):
        serve(Bare(length=0)).next_batch()
    with pytest.raises(ValueError, match=r"len\(\) is 1, shard is \(0, 2\)"):
        serve(Bare(length=1), shard=(0, 2)).next_batch()


def test_a_spec_is_built_once_and_replaced_at_the_next_epoch() -> None:
    source = [as_spec(Bare(length=2, factor=1))]
    session = serve(lambda: source[0])
    assert take(session, 3) == [(1, 0), (1, 1), (1, 0)]
    source[0] = as_spec(Bare(length=1, factor=5))
    assert take(session, 3) == [(1, 1), (5, 0), (5, 0)]


def test_an_error_is_the_original_with_a_cause_that_names_the_batch() -> None:
    error = LookupError("missing")

    def item(index: int) -> int:
        if index == 2:
            raise error
        return index

    session = serve(Called(item))
    take(session, 2)
    with pytest.raises(LookupError) as caught:
        session.next_batch()
    assert caught.value is error
    cause = error.__cause__
    assert isinstance(cause, SequenceError)
    assert (cause.index, cause.epoch, cause.worker) == (2, 0, "trainer")


def test_system_exit_is_a_sequence_error() -> None:
    with pytest.raises(SequenceError, match="SystemExit"):
        serve(Called(lambda _: exit(3))).next_batch()


def test_ctrl_c_passes_and_costs_no_batch() -> None:
    interrupted: list[int] = []

    def item(index: int) -> int:
        if index == 1 and not interrupted:
            interrupted.append(index)
            raise KeyboardInterrupt
        return index

    session = serve(Called(item), retries=3, on_error="skip")
    assert session.next_batch() == 0
    with pytest.raises(KeyboardInterrupt):
        session.next_batch()
    assert take(session, 3) == [1, 2, 3]


def test_retries_and_skips_are_counted(tmp_path: Any) -> None:
    sequence = Flaky(length=4, bad=(1, 2), failures=2, journal=str(tmp_path / "journal"))
    session = serve(sequence, retries=1, on_error="skip")
    assert take(session, 2) == [(0, 0), (0, 3)]
    stats = session.stats()
    assert (stats.retries_count, stats.skipped) == (2, ((0, 1), (0, 2)))
    assert (stats.taken_count, stats.batches_total, stats.length) == (4, 4, 4)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skipped_batch_is_logged_with_and_without_workers(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    sequence = Called(lambda index: 1 // index, length=2)
    with SequenceEnqueuer(sequence, on_error="skip") as enqueuer:
        enqueuer.start(workers)
        assert list(enqueuer.epoch()) == [1]
    lines = [(record.name, record.levelname, record.message) for record in caplog.records if "skip" in record.message]
    problem = "ZeroDivisionError: integer division or modulo by zero"
    assert lines == [("enqueuer", "WARNING", f"skipped batch 0 of epoch 0: {problem}")]


def test_a_retried_batch_is_not_logged_as_skipped(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    sequence = Flaky(length=2, bad=(0,), failures=1, journal=str(tmp_path / "journal"))
    assert take(serve(sequence, retries=1, on_error="skip"), 2) == [(0, 0), (0, 1)]
    assert caplog.records == []


def test_one_more_than_max_skipped_is_raised() -> None:
    session = serve(Called(lambda index: 1 // (index % 2)), on_error="skip", max_skipped=1)
    assert session.next_batch() == 1
    with pytest.raises(ZeroDivisionError):
        session.next_batch()


def test_items_have_their_own_generator_and_are_in_no_worker() -> None:
    session = serve(Called(lambda _: (item_rng().random(), worker_info())))
    assert take(session, 2) == [(item_generator(SEED, 0, index).random(), None) for index in range(2)]


@pytest.mark.parametrize("given", [SEED, None])
def test_the_hook_is_seeded_also_by_a_drawn_seed_and_the_global_generators_are_as_before(given: int | None) -> None:
    orders = []
    for _ in range(2):
        sequence = Reshuffling(length=20)
        np.random.seed(4)
        take(serve(sequence, seed=given), 21)
        orders.append(sequence.order.tolist())
        drawn = np.random.random()
        np.random.seed(4)
        assert drawn == np.random.random()
    assert orders[0] == orders[1] != list(range(40))


def test_stop_ends_the_stream_also_from_the_hook() -> None:
    class Stopping(Bare):
        def on_epoch_end(self) -> None:
            assert session.stop(1.0)

    session = serve(Stopping(length=2))
    take(session, 2)
    with pytest.raises(StreamEnd):
        session.next_batch()
    assert not session.stats().running


def test_several_consumers_get_each_batch_once() -> None:
    session = serve(Bare(length=7))
    with ThreadPoolExecutor(3) as pool:
        shares = list(pool.map(lambda _: take(session, 70), range(3)))
    assert sorted(index for _, index in chain(*shares)) == sorted(list(range(7)) * 30)


def test_a_serial_session_has_no_workers_and_no_address() -> None:
    session = serve(Bare())
    session.raise_failure()
    assert (session.workers_count, session.endpoint, session.stats().queue_limit) == (0, None, 0)


def test_a_disarmed_session_has_ended() -> None:
    session = serve(Bare())
    session.disarm()
    with pytest.raises(StreamEnd):
        session.next_batch()
