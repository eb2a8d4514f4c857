"""Which batch keeps others waiting, and which workers were refused, as the verdict's counters say."""

from __future__ import annotations

from enqueuer.core import refusals
from enqueuer.core.window import LateBatch
from enqueuer.runtime.counters import _describe_refused, _find_late_batch
from tests.core.driver import Driver, serving


def test_the_head_is_late_once_half_of_the_bound_waits_behind_it_and_a_slot_is_idle_or_computes_it_too() -> None:
    driver, (slow, fast) = serving(100, workers=2, hedge=3.0)
    state = driver.core.state
    for _ in range(10):  # what a hedge is measured by
        for worker in (slow, fast):
            worker.answer(worker.leases[:1], busy=0.01, taken_total=len(driver.delivered))
    driver.take(len(driver.delivered) - state.ledger.taken_total)
    run = state.ledger.runs[0]
    head = min(slow.leases)
    for lease in sorted(fast.leases):
        if lease < head:
            fast.answer([lease], busy=0.01)
    assert _find_late_batch(state) is None, "both compute, and nothing waits"
    for _ in range(40):
        for lease in [lease for lease in slow.leases if lease != head]:
            slow.answer([lease], busy=0.01)
        if not fast.leases:
            break
        fast.answer(busy=0.01)
    position = run.head_in_waiting
    assert position is not None
    late = LateBatch(0, run.order[position], "host")
    assert _find_late_batch(state) == late
    for _ in range(100):
        if len(run.leases_of(position)) == 2:
            break
        driver.wait(1.0)
    else:
        raise AssertionError("never hedged")
    assert _find_late_batch(state) == late
    slow.answer([head])
    assert _find_late_batch(state) is None


def test_refused_workers_are_told_while_no_other_serves_in_words_of_a_bounded_length() -> None:
    state = Driver(max_queue_size=10).core.state
    assert _describe_refused(state) == ""
    refusals.note(state, "w on far", "its Sequence has another length " + 50 * "and so on ")
    text = _describe_refused(state)
    assert text.startswith("worker w on far was refused: its Sequence has another length") and len(text) <= 200
    serving_state = serving(10)[0].core.state
    refusals.note(serving_state, "w on far", "its Sequence has another length")
    assert _describe_refused(serving_state) == ""
