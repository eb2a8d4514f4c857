"""The verdict of a window: its cause, its number and its words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enqueuer.core.verdict import Cause, judge
from enqueuer.core.window import LateBatch, Window

# A minute of a trainer that takes 10 batches a second and waits half of its time, beside two busy slots.
BUSY = Window(60.0, 300, 30.0, slots_count=2, busy_seconds=119.0, item_seconds=(0.39, 0.41), computing_share=0.99)
IDLE = replace(BUSY, busy_seconds=60.0)


@pytest.mark.parametrize(
    ("window", "cause", "words"),
    [
        (replace(BUSY, seconds=29.0), Cause.TOO_EARLY, "too early"),
        (replace(BUSY, batches_count=19, wait_seconds=6.0), Cause.TOO_EARLY, "too early"),
        (
            replace(BUSY, slots_count=0, batches_count=0, wait_seconds=60.0),
            Cause.NO_WORKERS,
            "enqueuer worker --connect",
        ),
        (
            replace(BUSY, slots_count=0, wait_seconds=60.0, refused="worker w was refused: another length"),
            Cause.NO_WORKERS,
            "no worker is there; worker w was refused: another length",
        ),
        (replace(BUSY, failures_count=301), Cause.ERRORS, "301 failures for 300 batches"),
        (replace(IDLE, wait_seconds=2.9), Cause.NOTHING, "data is not the limit"),
        (BUSY, Cause.WORKERS, "2 slots compute 99% of the time, 400 ms a batch: add 3 "),
        (replace(BUSY, slots_count=1, slot_seconds=60.0, busy_seconds=60.0), Cause.WORKERS, "1 slot computes 100%"),
        (replace(BUSY, computing_share=0.17), Cause.WORKERS, "400 ms a batch, 83% of it waiting: add 3 "),
        (
            replace(BUSY, computing_share=0.17, read_bytes=60 * 10**6),
            Cause.STORAGE,
            "compute 17% of their items' time, read 1 MB/s and wait for storage",
        ),
        (
            replace(IDLE, blocked_seconds=15.0, late_batch=LateBatch(3, 17, "node-4")),
            Cause.ORDER,
            "behind batch 17 of epoch 3 on node-4: a larger max_queue_size",
        ),
        (replace(BUSY, blocked_seconds=15.0, late_batch=LateBatch(3, 17, "node-4")), Cause.ORDER, "behind batch 17"),
        (
            replace(IDLE, received_bytes=55 * 10**8, sending_seconds=48.0),
            Cause.NETWORK,
            "brings 91.7 MB/s, and slots wait for it 40% of the time: compression='lz4'",
        ),
        (
            replace(IDLE, received_bytes=55 * 10**8, sending_seconds=48.0, compression_ratio=2.5),
            Cause.NETWORK,
            "91.7 MB/s, compressed 2.5 : 1, and",
        ),
        (replace(IDLE, received_bytes=55 * 10**8, sending_seconds=24.0), Cause.UNKNOWN, "no counter says why"),
        (replace(IDLE, io_thread_seconds=52.0), Cause.COORDINATOR, "uses 87% of a core"),
        (replace(IDLE, computing_share=0.2, read_bytes=10**6), Cause.STORAGE, "wait for storage"),
        (replace(IDLE, computing_share=0.2, read_bytes=300 * 1023), Cause.UNKNOWN, "no counter says why"),
        (replace(IDLE, ready_wait_seconds=16.0), Cause.INTERPRETER, "ready and taken late, 16.0 s"),
        (replace(IDLE, probes_count=20, held_count=15), Cause.INTERPRETER, "in 75% of looks, another thread"),
        (replace(IDLE, probes_count=2, held_count=2), Cause.UNKNOWN, "no counter says why"),
        (replace(IDLE, probes_count=20, held_count=9), Cause.UNKNOWN, "no counter says why"),
        (replace(BUSY, busy_seconds=90.0), Cause.WORKERS, "2 slots compute 75% of the time"),
        (replace(BUSY, busy_seconds=90.0, held_count=9, probes_count=9), Cause.INTERPRETER, "100% of looks"),
        (IDLE, Cause.UNKNOWN, "enqueuer doctor"),
    ],
)
def test_each_cause_is_named_with_its_figures(window: Window, cause: Cause, words: str) -> None:
    verdict = judge(window)
    assert verdict.cause is cause
    assert words in str(verdict)


def test_a_probed_rate_takes_the_place_of_what_the_window_shows() -> None:
    verdict = judge(replace(BUSY, probed_rate=30.0))
    assert verdict.desired_slots == math.ceil(1.1 * 30.0 * 0.4)
    assert "add 12 " in str(verdict)


def test_nothing_taken_at_all_is_no_reason_to_wait_for_twenty_batches() -> None:
    assert judge(replace(BUSY, batches_count=0, wait_seconds=60.0)).cause is Cause.WORKERS


def test_a_probed_rate_below_what_the_trainer_takes_says_nothing_any_more() -> None:
    window = replace(BUSY, probed_rate=4.0)
    assert (window.demand, window.desired_slots) == (BUSY.demand, BUSY.desired_slots)


def test_slots_beyond_the_need_could_go() -> None:
    window = replace(IDLE, wait_seconds=0.0, batches_count=120, slots_count=8)
    assert "7 slots of 8 could go" in judge(window).sentence


def test_the_desired_slots_keep_up_with_the_trainer_and_a_tenth_more() -> None:
    assert BUSY.demand == 10.0
    assert judge(BUSY).desired_slots == math.ceil(1.1 * 10.0 * 0.4)
    assert replace(BUSY, item_seconds=()).desired_slots is None
    assert replace(BUSY, batches_count=0).desired_slots is None, "it took nothing: there is no demand to see"


@pytest.mark.parametrize("waited", [54.0, 59.99, 60.0, 70.0])
def test_a_trainer_that_does_nothing_but_wait_is_advised_a_step_and_no_absurd_number(waited: float) -> None:
    window = replace(BUSY, wait_seconds=waited)
    assert window.demand == 8 * 300 / 60.0
    assert judge(window).desired_slots == math.ceil(1.1 * 40.0 * 0.4)
    assert "its own limit does not show yet: add 16, then judge again " in str(judge(window))
    assert "add 3 " in str(judge(replace(BUSY, wait_seconds=30.0))), "a trainer that works shows its limit"


def test_one_slow_part_of_the_window_does_not_change_the_number() -> None:
    window = replace(BUSY, item_seconds=(0.4,) * 9 + (4.0,))
    assert window.work_seconds == pytest.approx(0.4)


def test_an_early_verdict_has_no_number() -> None:
    assert judge(replace(BUSY, seconds=1.0, wait_seconds=0.5)).desired_slots is None


SECONDS = st.floats(0.0, 1e5)


@given(
    st.builds(
        Window,
        seconds=SECONDS,
        batches_count=st.integers(0, 10**9),
        wait_seconds=SECONDS,
        slots_count=st.integers(0, 10_000),
        busy_seconds=SECONDS,
        item_seconds=st.lists(SECONDS, max_size=5).map(tuple),
        failures_count=st.integers(0, 100),
        blocked_seconds=SECONDS,
        ready_wait_seconds=SECONDS,
        received_bytes=st.integers(0, 10**15),
        io_thread_seconds=SECONDS,
        probes_count=st.integers(0, 100),
        held_count=st.integers(0, 100),
        sending_seconds=SECONDS,
        computing_share=st.none() | SECONDS,
        read_bytes=st.integers(0, 10**15),
    )
)
def test_every_window_has_a_verdict_within_bounds(window: Window) -> None:
    verdict = judge(window)
    assert 0.0 <= verdict.wait_share <= 1.0
    assert verdict.desired_slots is None or verdict.desired_slots >= 1
    assert str(verdict)
