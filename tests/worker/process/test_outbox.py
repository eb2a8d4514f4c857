"""Coalescing of small batches between the compute thread and the I/O loop."""

from __future__ import annotations

import math
import os
import select

import pytest

from enqueuer.protocol.messages import Epoch
from enqueuer_worker.core.events import Computed, DrainRequested
from enqueuer_worker.process.outbox import (
    COALESCE_BYTES,
    COALESCE_COUNT,
    COALESCE_SECONDS,
    Finished,
    Followup,
    Outbox,
    Waker,
)
from tests.support.kept_blocks import blocks_kept_by

SESSION = b"s" * 16
SHORT = COALESCE_SECONDS / 100
EPOCHS = [Epoch(0, generation, 7, None) for generation in range(2)]


def finished(lease: int, started: float = 0.0, took: float = SHORT, generation: int = 0) -> Finished:
    return SESSION, EPOCHS[generation], lease, f"batch {lease}", started, started + took


def woken(waker: Waker) -> bool:
    return bool(select.select([waker.fd], [], [], 0)[0])


def leases(outbox: Outbox, now: float) -> list[tuple[int, ...]]:
    return [event.leases for event in outbox.collect(now) if isinstance(event, Computed)]


def test_the_last_batch_for_now_goes_out_at_once_with_those_before_it() -> None:
    outbox = Outbox(Waker())
    outbox.add(finished(1), 10, left=9)
    outbox.add(finished(2, SHORT), 10, left=9)
    assert leases(outbox, 3 * SHORT) == []
    assert outbox.add(finished(3, 2 * SHORT), 10, left=0) is Followup.SEND
    (event,) = outbox.collect(3 * SHORT)
    assert isinstance(event, Computed)
    assert event.leases == (1, 2, 3) and event.batches == ("batch 1", "batch 2", "batch 3")
    assert math.isclose(event.busy, 3 * SHORT)


@pytest.mark.parametrize(
    ("took", "sent_after"),
    [(0.02, [1, 2, 3, 4, 5, 6]), (0.005, [3, 5, 6]), (0.001, [3, 5, 6]), (0.00001, [6])],
    ids=["20 ms", "5 ms", "1 ms", "10 us"],
)
def test_batches_that_are_worth_a_message_leave_while_half_of_the_leases_are_left(
    took: float, sent_after: list[int]
) -> None:
    outbox = Outbox(Waker())
    followups = {lease: outbox.add(finished(lease, took=took), 10, left=6 - lease) for lease in range(1, 7)}
    assert [lease for lease, followup in followups.items() if followup is Followup.SEND] == sent_after


def test_a_batch_does_not_wait_for_a_slow_one_behind_it() -> None:
    outbox = Outbox(Waker())
    assert outbox.due() == math.inf
    assert outbox.add(finished(1, started=5.0), 10, left=9) is Followup.NEW_DEADLINE
    assert outbox.add(finished(2, started=5.0), 10, left=9) is Followup.NOTHING
    assert outbox.due() == 5.0 + COALESCE_SECONDS
    assert leases(outbox, 5.0 + COALESCE_SECONDS) == [(1, 2)]


def test_a_batch_that_took_long_does_not_wait() -> None:
    outbox = Outbox(Waker())
    outbox.add(finished(1, took=COALESCE_SECONDS), 10, left=9)
    outbox.add(finished(2, COALESCE_SECONDS), 10, left=9)
    assert leases(outbox, COALESCE_SECONDS) == [(1, 2)]


def test_many_bytes_do_not_wait() -> None:
    outbox = Outbox(Waker())
    outbox.add(finished(1), COALESCE_BYTES - 1, left=9)
    assert leases(outbox, SHORT) == []
    outbox.add(finished(2, SHORT), 1, left=9)
    assert leases(outbox, 2 * SHORT) == [(1, 2)]


def test_each_epoch_and_generation_gets_its_own_event() -> None:
    outbox = Outbox(Waker())
    for lease, generation in ((1, 0), (2, 0), (3, 1)):
        outbox.add(finished(lease, generation=generation), 10, left=9 if lease < 3 else 0)
    assert leases(outbox, SHORT) == [(1, 2), (3,)]


def test_a_message_has_a_limited_number_of_batches_and_the_rest_follows() -> None:
    waker = Waker()
    outbox = Outbox(waker)
    for lease in range(COALESCE_COUNT + 1):
        outbox.add(finished(lease), 0, left=2 * COALESCE_COUNT if lease < COALESCE_COUNT else 0)
    waker.clear()
    assert len(leases(outbox, SHORT)[0]) == COALESCE_COUNT
    assert woken(waker)
    assert leases(outbox, SHORT) == [(COALESCE_COUNT,)]


def test_other_events_never_wait() -> None:
    waker = Waker()
    outbox = Outbox(waker)
    outbox.put(DrainRequested())
    assert woken(waker)
    assert outbox.collect(0.0) == [DrainRequested()]


def test_a_pending_wake_up_is_not_repeated() -> None:
    waker = Waker()
    for _ in range(3):
        waker.wake()
    assert os.read(waker.fd, 10) == b"\0"
    waker.clear()
    assert not woken(waker)
    waker.wake()
    assert woken(waker)


def test_sending_batches_keeps_no_memory() -> None:
    outbox = Outbox(Waker())

    def send() -> None:
        for lease in range(7):
            outbox.add(finished(lease), 10, left=9 if lease < 6 else 0)
        assert leases(outbox, 1.0)

    assert blocks_kept_by(send) < 100
