"""How a worker goes: drained, with its supervisor, and what is said to one that did not hear it."""

from __future__ import annotations

from enqueuer.core import events as ev
from enqueuer.core.worker import WorkerState
from enqueuer.protocol import messages as m
from tests.core.driver import SESSION, SUPERVISOR, serving


def test_a_drain_is_exact() -> None:
    driver, (worker, _) = serving(workers=2)
    held = worker.leases
    worker.say(m.Drain())
    worker.say(m.Drain())
    assert worker.state() is WorkerState.DRAINING
    worker.say(m.Goodbye(1))
    assert driver.sent(m.Bye) == [], "its last result has not arrived"
    worker.answer(held, seq=1)
    assert driver.sent(m.Bye, worker) == [m.Bye()]
    assert driver.delivered == ["b1"]
    assert worker.state() is WorkerState.GONE


def test_a_bye_that_was_lost_is_said_again() -> None:
    driver, (worker,) = serving(0)
    worker.say(m.Drain())
    worker.say(m.Goodbye(0))
    worker.say(m.Goodbye(0))
    assert driver.sent(m.WhoAreYou, worker)
    worker.hello(session=SESSION)
    assert driver.sent(m.Bye, worker) == [m.Bye()]
    assert driver.sent(m.Welcome) == []


def test_a_result_after_goodbye_and_loss_is_still_taken_and_ends_it() -> None:
    driver, (worker,) = serving(1)
    worker.say(m.Goodbye(1))
    driver.wait(11.0)
    assert worker.state() is WorkerState.LOST
    worker.answer([1], seq=1)
    assert driver.delivered == ["b1"]
    assert worker.state() is WorkerState.GONE
    worker.answer([2], seq=2)
    assert worker.state() is WorkerState.GONE


def test_all_workers_of_a_supervisor_that_died_are_lost() -> None:
    driver, (one, other) = serving(10, workers=2)
    driver.step(ev.SupervisorDied(SUPERVISOR))
    assert {one.record.state, other.record.state} == {WorkerState.LOST}
    assert len(driver.core.state.fleet) == 0
