"""A worker with a valid connection that lies: named, counted, cut off, and nothing of it reaches the trainer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from enqueuer.core import events as ev
from enqueuer.core.actions import Deliver, RemoteLine
from enqueuer.core.peer import OFFENCES_LIMIT, UNIDENTIFIED_LIMIT
from enqueuer.core.worker import WorkerState
from enqueuer.protocol import messages as m
from enqueuer.rate_limit import RateLimit
from tests.core.driver import SESSION, Driver, Peer, supervisor

LENGTH = 40


def fleet(**settings: object) -> tuple[Driver, Peer, Peer]:
    """An honest worker and one that is not, each with leases."""
    driver = Driver(max_queue_size=8, **settings)
    driver.open(LENGTH)
    honest, liar = Peer(driver, 1).join(LENGTH), Peer(driver, 2).join(LENGTH)
    assert honest.leases and liar.leases
    return driver, honest, liar


def finish(driver: Driver, worker: Peer) -> None:
    """This worker computes all that is left."""
    while driver.core.state.ledger.runs:
        worker.answer()
        driver.take(driver.core.state.ledger.ready_count)


def offences(driver: Driver) -> dict[str, int]:
    return {offender.name: offender.offences_count for offender in driver.core.state.peers.offenders}


LIES: dict[str, Callable[[Driver, Peer, Peer], object]] = {
    "answers another's lease": lambda driver, honest, liar: liar.answer([honest.leases[0]]),
    "answers a lease that was never granted": lambda driver, honest, liar: liar.answer([10_000]),
    "fails another's lease": lambda driver, honest, liar: liar.fail(honest.leases[0]),
    "numbers its results absurdly": lambda driver, honest, liar: liar.answer(seq=2**62),
    "was busy for ages": lambda driver, honest, liar: liar.answer(busy=1e300),
    "is far away": lambda driver, honest, liar: liar.heartbeat(round_trip=1e300),
    "holds another's lease": lambda driver, honest, liar: liar.heartbeat(honest.leases),
    "holds what was never granted": lambda driver, honest, liar: liar.heartbeat([2**40]),
    "says goodbye before its time": lambda driver, honest, liar: (
        liar.answer() if not liar.record.received_seq else None,
        liar.say(m.Goodbye(0)),
    ),
    "says goodbye far beyond": lambda driver, honest, liar: liar.say(m.Goodbye(2**60)),
    "announces a death": lambda driver, honest, liar: liar.say(m.WorkerExited(honest.incarnation, 0, -9, 0)),
    "grants": lambda driver, honest, liar: liar.say(m.Grant(0, 0, 0, 1, (1,))),
    "sends what cannot be read": lambda driver, honest, liar: driver.step(ev.Malformed(liar.route, "no msgpack")),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_and_counted_and_the_liar_is_cut_off_when_it_is_clear(lie: str) -> None:
    driver, honest, liar = fleet()
    held = set(liar.leases)
    LIES[lie](driver, honest, liar)
    assert offences(driver) == {"worker w2 on host": 1}
    assert "worker w2 on host" in driver.reports()
    for _ in range(OFFENCES_LIMIT - 1):
        assert liar.record.state is not WorkerState.GONE, "one offence could be a mistake of ours"
        LIES[lie](driver, honest, liar)
    assert liar.record.state is WorkerState.GONE
    assert driver.sent(m.Reject, liar), "it is told why"
    assert driver.core.state.peers.is_banned(liar.route) and driver.core.state.peers.is_banned(liar.incarnation)
    assert not liar.leases and (held <= set(liar.leases) or honest.record.state is WorkerState.SERVING)
    finish(driver, honest)
    assert len(driver.delivered) == LENGTH, "every position, once"
    assert offences(driver) == {"worker w2 on host": OFFENCES_LIMIT}


def test_an_answer_that_is_given_twice_is_delivered_once_and_an_offence() -> None:
    driver, honest, liar = fleet()
    lease = liar.leases[0]
    liar.answer([lease])
    for _ in range(OFFENCES_LIMIT):
        liar.answer([lease])
    assert liar.record.state is WorkerState.GONE
    finish(driver, honest)
    assert driver.delivered.count(f"b{lease}") == 1
    assert len(driver.delivered) == LENGTH


def test_batches_that_are_not_what_they_say_are_granted_to_others_at_once() -> None:
    driver, honest, liar = fleet()
    lease = liar.leases[0]
    position = driver.core.state.ledger.find(lease)[1]  # type: ignore[index]
    driver.step(ev.ResultsRefused(liar.incarnation, 1, [lease], "frames"))
    assert not driver.core.state.ledger.runs[0].is_live(position, lease)
    assert liar.record.received_seq == 1, "else an honest worker would send the same bytes for ever"
    assert driver.core.state.peers.malformed_count == 1
    for seq in range(2, OFFENCES_LIMIT + 1):
        driver.step(ev.ResultsRefused(liar.incarnation, seq, [10_000], "frames"))
    assert liar.record.state is WorkerState.GONE
    finish(driver, honest)
    assert len(driver.delivered) == LENGTH


def test_a_worker_whose_blocks_cannot_be_read_is_asked_for_frames_and_cut_off_only_if_it_does_not_stop() -> None:
    driver, honest, liar = fleet()
    unavailable = ev.BlockUnavailable(liar.incarnation, "no such slab")
    for _ in range(100):
        driver.step(unavailable)
        assert driver.sent(m.NoBlocks, liar)
    assert driver.reports().count("come through the socket") == 1
    driver.core.handle([unavailable] * 6_000, driver.now)
    assert liar.record.state is WorkerState.GONE
    finish(driver, honest)
    assert len(driver.delivered) == LENGTH


# ---------------------------------------------------------------- others' names


def test_a_peer_that_claims_anothers_incarnation_is_banned_at_once_and_the_other_one_stays() -> None:
    driver, honest, _ = fleet()
    leases = honest.leases
    thief = Peer(driver, 3)
    thief.hello(incarnation=honest.incarnation)
    assert driver.sent(m.Reject, thief)
    assert driver.core.state.peers.is_banned(thief.route)
    assert (honest.leases, honest.record.route) == (leases, honest.route)
    assert offences(driver) == {"worker w3 on host": OFFENCES_LIMIT}


@pytest.mark.parametrize("role", list(m.Role))
def test_one_connection_is_one_workers(role: m.Role) -> None:
    driver, honest, liar = fleet()
    liar.hello(role=role, incarnation=b"n" * 16, worker_id="other")
    assert liar.record.state is WorkerState.GONE
    assert driver.core.state.fleet.find(b"n" * 16) is None
    finish(driver, honest)


def test_a_supervisor_cannot_become_a_worker_or_another_supervisor() -> None:
    for changes in ({"role": m.Role.WORKER}, {"role": m.Role.SUPERVISOR, "supervisor": b"q" * 16}):
        driver, _, _ = fleet()
        boss = supervisor(driver)
        boss.hello(**changes)
        assert driver.core.state.peers.is_banned(boss.route)
        assert boss.route not in driver.core.state.fleet.supervisors


def test_a_supervisor_that_speaks_of_others_children_changes_nothing_and_is_cut_off() -> None:
    for message in (m.WorkerExited(b"\1" * 16, 0, -9, 0), m.Children((b"\1" * 16,))):
        driver, honest, _ = fleet()
        boss = supervisor(driver, name=b"q" * 16)
        for _ in range(OFFENCES_LIMIT):
            assert honest.record.state is WorkerState.SERVING
            boss.say(message)
        assert honest.record.state is WorkerState.SERVING
        assert driver.core.state.peers.is_banned(boss.route)
        assert offences(driver) == {"supervisor w200 on host": OFFENCES_LIMIT}


def test_a_remote_supervisor_cannot_speak_of_the_trainers_own_children() -> None:
    driver = Driver()
    driver.open(LENGTH)
    own = Peer(driver, 1, "local").join(LENGTH)
    boss = supervisor(driver, "remote")
    boss.say(m.WorkerExited(own.incarnation, 0, -9, 0))
    assert own.record.state is WorkerState.SERVING
    assert driver.core.state.peers.offences_count == 1


# ---------------------------------------------------------------- keys


def keyed(driver: Driver, number: int, key: str) -> Peer:
    peer = Peer(driver, number, supervisor=key.encode() * 4)
    peer.key = key
    return peer.join(LENGTH)


def test_a_workers_name_is_its_keys_on_both_channels() -> None:
    driver = Driver(max_queue_size=8)
    driver.open(LENGTH)
    honest, other = keyed(driver, 1, "red"), keyed(driver, 2, "blue")
    lease = honest.leases[0]
    driver.step(ev.ResultsReceived(honest.incarnation, 0, 0, 1, 0.1, [lease], ["forged"], 1, "blue"))
    assert driver.of(Deliver) == []
    assert honest.record.received_seq == 0, "its own message of that number is still to come"
    assert offences(driver) == {"an owner of key blue": 1}
    other.on_new_link().hello(
        session=SESSION, incarnation=honest.incarnation, worker_id="w1", supervisor=honest.record.supervisor
    )
    assert driver.core.state.peers.is_banned(other.route)
    honest.answer()
    assert f"b{lease}" in driver.delivered


def test_with_keys_nobody_speaks_as_the_supervisor_of_anothers_children() -> None:
    driver = Driver()
    driver.open(LENGTH)
    honest = keyed(driver, 1, "red")
    boss = Peer(driver, 200, supervisor=honest.record.supervisor)
    boss.key = "blue"
    boss.hello(role=m.Role.SUPERVISOR)
    assert driver.core.state.peers.is_banned(boss.route)
    boss = Peer(driver, 201, supervisor=honest.record.supervisor)
    boss.key = "red"
    boss.hello(role=m.Role.SUPERVISOR)
    assert boss.route in driver.core.state.fleet.supervisors
    assert honest.record.state is WorkerState.SERVING


# ---------------------------------------------------------------- floods


@pytest.mark.parametrize("message", [m.Drain(), m.Ready(7, 7, 1, b""), m.Log(20, "root", "x")])
def test_a_flood_is_cut_off(message: m.Message) -> None:
    driver, honest, liar = fleet()
    for _ in range(20):
        driver.core.handle([ev.ControlReceived(liar.route, SESSION, message)] * 1000, driver.now)
        driver.now += 0.5
    assert liar.record.state is WorkerState.GONE
    finish(driver, honest)
    assert len(driver.delivered) == LENGTH


def test_a_flood_of_long_lists_in_short_messages_is_cut_off_before_it_has_taken_much_time() -> None:
    driver, honest, liar = fleet()
    driver.core.state.ledger.next_lease = 1_000_000
    beat = m.Heartbeat(tuple(range(1_000, 1_000 + 65_536)), 1_000_000, 0, 0, 0, 0.0, 0.0)
    for _ in range(100):
        liar.say(beat)
    assert liar.record.state is WorkerState.GONE
    finish(driver, honest)


def test_what_an_honest_worker_says_is_no_flood_even_after_a_long_pause_of_the_trainers() -> None:
    driver, honest, _ = fleet()
    # With many small batches, of which those are listed as well whose acknowledgement is on its way.
    driver.core.state.ledger.next_lease = 1_000_000
    held = (*honest.leases, *range(1_000, 21_000))
    beat = m.Heartbeat(held, 1_000_000, 0, 0, 0, 0.0, 0.001)
    lines = [m.Log(20, "root", "x")] * 100
    backlog = [ev.ControlReceived(honest.route, SESSION, message) for message in (beat, *lines)] * 40
    driver.step(*backlog)
    assert honest.record.state is WorkerState.SERVING
    assert len(driver.of(RemoteLine)) == 400, "more lines than that help nobody"
    driver.now += 10.0
    driver.step(*backlog[:101])
    assert len(driver.of(RemoteLine)) == 100


def test_a_strangers_noise_is_answered_for_a_while_and_then_ignored_without_a_line_each() -> None:
    driver = Driver()
    driver.open(LENGTH)
    stranger = Peer(driver, 9)
    for _ in range(UNIDENTIFIED_LIMIT):
        assert not driver.core.state.peers.is_banned(stranger.route)
        driver.step(ev.Malformed(stranger.route, "no msgpack"))
    assert driver.core.state.peers.is_banned(stranger.route)
    assert driver.reports().count("a peer without a name") == 1


def test_an_old_version_that_does_not_take_no_for_an_answer_is_ignored() -> None:
    driver = Driver()
    driver.open(LENGTH)
    old = Peer(driver, 9)
    old.hello(protocol=0)
    assert driver.core.state.peers.offences_count == 0, "an old worker is no offender"
    hello = ev.ControlReceived(old.route, m.NO_ID, m.Hello(0, m.Role.WORKER, *["w"] * 11))  # type: ignore[arg-type]
    driver.core.handle([hello] * 6_000, driver.now)
    assert driver.core.state.peers.is_banned(old.route)
    assert driver.reports().count("rejected worker w9") == 1


def test_what_is_remembered_of_strangers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enqueuer.core.peer.MOST_KEPT", 3)
    driver = Driver()
    peers = driver.core.state.peers
    routes = [ev.Route("remote", bytes([number])) for number in range(9)]
    for route in routes:
        peers.unidentified(route)
        peers.ban(route)
    assert [peers.is_banned(route) for route in routes] == [False] * 6 + [True] * 3
    assert len(peers._unidentified) == 3


def test_a_rate_allows_a_burst_and_then_so_many_a_second() -> None:
    rate = RateLimit(3, 2.0)
    assert [rate.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [rate.take(1.0) for _ in range(3)] == [True, True, False]
    assert [rate.take(100.0) for _ in range(4)] == [True, True, True, False]


# ---------------------------------------------------------------- what is no offence


def test_late_and_repeated_messages_are_no_offences() -> None:
    driver, honest, other = fleet()
    lease = honest.leases[0]
    driver.step(ev.RouteLost(honest.route))
    driver.wait(3.0)  # lost; its leases are the other one's
    honest.on_new_link().hello(session=SESSION, held=[lease])
    honest.ready(LENGTH)
    honest.answer([lease], seq=1)
    honest.answer([lease], seq=1)
    honest.fail(lease)
    other.heartbeat(other.leases)
    assert driver.core.state.peers.offences_count == 0


def test_an_answer_for_a_state_that_was_replaced_is_no_offence() -> None:
    driver, honest, _ = fleet()
    leases = honest.leases
    driver.open(LENGTH, generation=5)
    honest.answer(leases, generation=0)
    assert driver.core.state.peers.offences_count == 0


def test_a_worker_that_was_forgotten_and_comes_back_with_an_answer_is_no_offender() -> None:
    driver, honest, other = fleet()
    (lease, *_) = honest.leases
    record = honest.record
    driver.step(ev.RouteLost(honest.route))
    for _ in range(80):
        driver.wait(5.0)
        other.heartbeat()
    assert driver.core.state.fleet.find(honest.incarnation) is None
    honest.on_new_link().hello(session=SESSION, held=[lease])
    assert honest.record is not record
    honest.answer([lease])
    assert driver.core.state.peers.offences_count == 0
