"""Observers: what they are shown, how often, and that they can do nothing else."""

from __future__ import annotations

import pytest

from enqueuer.core import events as ev
from enqueuer.core.actions import Send, Show
from enqueuer.core.events import Right
from enqueuer.core.observers import Observers
from enqueuer.core.peer import UNIDENTIFIED_LIMIT
from enqueuer.protocol import messages as m
from tests.core.driver import ERROR, SESSION, Driver, Peer, serving, supervisor

ROUTE = ev.Route("remote", b"observer")
ID = b"i" * 16
LOOK = m.Observe(0, 128, 0)

# One of each kind, and each would do something if a worker said it.
WORKER_MESSAGES: list[m.Message] = [
    m.Hello(1, m.Role.WORKER, "w", ID, m.NO_ID, 0, "host", 1, "2.1.3", "0.1.0", b"", (), 0),
    m.Ready(0, 0, 10, b"code"),
    m.Heartbeat((), 0, 0, 0, 0, 0.0, 0.0),
    m.Failure(0, 0, 1, ERROR),
    m.LoadFailure(0, 0, ERROR),
    m.Drain(),
    m.Goodbye(0),
    m.WorkerExited(ID, 0, -9, 1),
    m.Children((ID,)),
    m.Log(40, "root", "text"),
    m.Welcome("tcp://*:1", 1.0, 1.0, 0, None, {}),
    m.Reject("no"),
    m.Epoch(0, 0, 0, None),
    m.HeartbeatReply(0, 0, 0.0),
    m.Grant(0, 0, 0, 1, (0,)),
    m.Revoke((1,)),
    m.Bye(),
    m.WhoAreYou(),
    m.Stop(),
    m.NoBlocks(),
]


def say(driver: Driver, message: m.Message, right: Right = Right.ALL, route: ev.Route = ROUTE) -> None:
    driver.step(ev.ControlReceived(route, m.NO_ID, message, "key", right))


def shown(driver: Driver) -> list[Show]:
    return driver.of(Show)


def test_each_kind_of_message_is_tried_here() -> None:
    tried = {type(message).__name__ for message in (*WORKER_MESSAGES, LOOK)}
    named = {kind.name.title().replace("_", "") for kind in m.Kind} - {"Results", "Snapshot"}
    assert tried == named


@pytest.mark.parametrize("message", WORKER_MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("session", [m.NO_ID, SESSION])
def test_an_observers_key_can_do_nothing_but_observe(message: m.Message, session: bytes) -> None:
    driver, [worker] = serving()
    before = (list(worker.leases), worker.state(), dict(driver.core.state.fleet.supervisors))
    driver.step(ev.ControlReceived(ROUTE, session, message, "key", Right.OBSERVE))
    assert [type(action.message) for action in driver.of(Send)] == [m.Reject]
    assert "nothing but observe" in driver.sent(m.Reject)[0].reason
    assert driver.core.state.fleet.at(ROUTE) is None
    assert (list(worker.leases), worker.state(), dict(driver.core.state.fleet.supervisors)) == before
    assert driver.core.state.peers.offences_count == 1
    worker.answer()
    assert driver.delivered, "the epoch goes on"


def test_an_observer_that_goes_on_to_say_other_things_is_banned() -> None:
    driver, _ = serving()
    for _ in range(UNIDENTIFIED_LIMIT):
        say(driver, m.Drain(), Right.OBSERVE)
    assert driver.core.ignores(ROUTE)


@pytest.mark.parametrize("right", [Right.ALL, Right.OBSERVE])
def test_an_observer_is_shown_as_many_workers_as_there_are(right: Right) -> None:
    driver, _ = serving(workers=3)
    say(driver, m.Observe(1, 2**60, 7), right)
    [show] = shown(driver)
    assert (show.route, show.first_row, show.rows_count, show.after_event) == (ROUTE, 1, 2, 7)
    assert not driver.of(Send)


def test_a_number_beyond_the_fleet_shows_no_worker() -> None:
    driver, _ = serving(workers=3)
    say(driver, m.Observe(2**63, 10, 2**63))
    assert shown(driver)[0].rows_count == 0


def test_a_workers_key_cannot_observe() -> None:
    driver, [worker] = serving()
    say(driver, LOOK, Right.SERVE)
    assert not shown(driver) and "--add-observer" in driver.sent(m.Reject)[0].reason
    assert driver.core.state.peers.offences_count == 0, "it may be a mistake"
    driver.step(ev.ControlReceived(worker.route, SESSION, LOOK, worker.key, Right.SERVE))
    assert not shown(driver) and worker.leases


def test_workers_and_supervisors_without_keys_may_look() -> None:
    driver, [worker] = serving()
    watching = supervisor(driver)
    for peer in (worker, watching):
        say(driver, LOOK, route=peer.route)
        assert shown(driver)
    assert driver.core.state.peers.offences_count == 0


def looks(driver: Driver, request: m.Observe, most: int = 1_000, route: ev.Route = ROUTE) -> int:
    """How many of these requests are answered now."""
    for count in range(most):
        say(driver, request, route=route)
        if not shown(driver):
            return count
    return most


def test_one_look_at_a_thousand_workers_is_answered_at_once_and_a_flood_is_not() -> None:
    driver = Driver()
    driver.open(10)
    for number in range(1_000):
        peer = Peer(driver, 1)
        peer.incarnation, peer.route, peer.name = (
            number.to_bytes(16, "big"),
            ev.Route("remote", bytes([1, *divmod(number, 256)])),
            f"w{number}",
        )
        peer.hello(supervisor=b"")
    pages = [m.Observe(first, m.MOST_ROWS, 0 if first == 0 else 2**40) for first in range(0, 1_000, m.MOST_ROWS)]
    answered = []
    for page in pages:
        say(driver, page)
        answered += shown(driver)
    assert sum(show.rows_count for show in answered) == 1_000
    assert looks(driver, LOOK) <= 6


def test_an_observer_is_told_when_as_much_is_shown_again() -> None:
    driver, _ = serving(workers=2)
    assert looks(driver, LOOK) > 100, "an allowance for the begin"
    # What is refused moves nothing, so the time of the last answer holds.
    seconds = [action for action in driver.history if isinstance(action, Show)][-1].seconds
    assert 0 < seconds < 2
    driver.now += seconds / 2
    assert looks(driver, LOOK) == 0
    driver.now += seconds / 2 + 1e-6
    assert looks(driver, LOOK) == 1


def test_the_observers_of_a_channel_share_an_allowance_and_another_channel_has_its_own() -> None:
    observers = Observers()
    answered = 0
    for number in range(2_000):
        route = ev.Route("remote", number.to_bytes(2, "big"))
        answered += observers.take(route, 100_000, now=0.0) is not None
    assert answered == 10
    assert observers.take(ev.Route("observers", b"local"), 100_000, now=0.0) is not None
    assert observers.take(ev.Route("remote", b"new"), 700, now=30.0) is not None, "it comes back"


def test_the_history_tells_when_workers_joined_and_went() -> None:
    driver, [first, second, third] = serving(workers=3)
    driver.now += 1.0
    first.say(m.Drain())
    first.answer()
    first.say(m.Goodbye(first._seq))
    driver.now += 1.0
    driver.step(ev.RouteLost(second.route))
    driver.wait(5.0)
    events = driver.core.state.history.events
    assert [(event.number, event.what, event.worker) for event in events] == [
        (1, "joined", "w1 on host"),
        (2, "joined", "w2 on host"),
        (3, "joined", "w3 on host"),
        (4, "draining", "w1 on host"),
        (5, "left", "w1 on host"),
        (6, "lost", "w2 on host"),
    ]
    assert [event.seconds for event in events][:5] == [0.0, 0.0, 0.0, 1.0, 1.0] and events[-1].seconds > 2.0
    assert third.leases
