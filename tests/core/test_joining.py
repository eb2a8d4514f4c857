"""The workers that are there: joining, being turned away, signs of life, reconciliation, death."""

from __future__ import annotations

import math
from typing import Any

import pytest

from enqueuer.core import events as ev
from enqueuer.core.actions import FleetFailed
from enqueuer.core.worker import WorkerState
from enqueuer.protocol import messages as m
from tests.core.driver import ERROR, SESSION, SUPERVISOR, Driver, Peer, serving, supervisor

# ---------------------------------------------------------------- joining


def test_a_hello_is_answered_with_welcome_and_the_open_epochs() -> None:
    driver = Driver()
    driver.open(3)
    driver.open(4, epoch=1, gated=True)
    worker = Peer(driver, 1)
    worker.hello()
    (welcome,) = driver.sent(m.Welcome)
    assert welcome.data_endpoint == "tcp://*:5556"
    assert welcome.sequence == ["m:f", {}]
    assert [message.epoch for message in driver.sent(m.Epoch)] == [0, 1]
    assert worker.state() is WorkerState.JOINING


def test_a_worker_that_comes_before_the_first_epoch_is_welcomed_with_it() -> None:
    driver = Driver()
    worker = Peer(driver, 1)
    worker.hello()
    assert driver.actions == []
    driver.open(3)
    assert driver.sent(m.Welcome, worker)
    assert driver.sent(m.Epoch, worker)
    worker.ready(3)
    assert worker.state() is WorkerState.SERVING


def test_workers_elsewhere_get_the_state_that_is_meant_for_them() -> None:
    driver = Driver()
    driver.open(3, sequence=None, state={"path": "/here"}, remote_state={"parts": []})
    near, far = Peer(driver, 1, channel="local"), Peer(driver, 2)
    near.hello()
    assert driver.sent(m.Epoch, near)[0].state == {"path": "/here"}
    far.hello()
    assert driver.sent(m.Epoch, far)[0].state == {"parts": []}


def test_a_live_object_that_cannot_travel_is_refused_with_its_reason() -> None:
    driver = Driver()
    driver.open(3, sequence=None, remote_refusal="it is too large")
    Peer(driver, 1).hello()
    assert driver.sent(m.Reject)[0].reason == "it is too large"


def test_a_sequence_that_is_on_its_way_is_not_sent_again_with_every_heartbeat() -> None:
    driver = Driver()
    driver.open(3, sequence=None, remote_state={"parts": []})
    worker = Peer(driver, 1)
    worker.hello()
    for _ in range(10):
        driver.now += 1.0
        worker.heartbeat()
        assert not driver.sent(m.Epoch)
    driver.now += driver.core.state.options.timing.coordinator_timeout
    worker.heartbeat()
    assert driver.sent(m.Epoch)


def test_only_the_two_newest_epochs_are_announced() -> None:
    driver = Driver()
    for epoch in range(4):
        driver.open(0, epoch=epoch)
    Peer(driver, 1).hello()
    assert [epoch.epoch for epoch in driver.sent(m.Epoch)] == [2, 3]


def test_new_options_are_welcomed_again_with_the_epoch_they_come_with() -> None:
    driver, (worker,) = serving(0)
    driver.open(0, epoch=1)
    assert driver.sent(m.Welcome) == []
    driver.open(0, epoch=2, options={"max_batches": 3})
    assert [welcome.options for welcome in driver.sent(m.Welcome, worker)] == [{"max_batches": 3}]


def test_ready_for_what_is_not_wanted_any_more_is_ignored() -> None:
    driver = Driver()
    driver.open(3, generation=1)
    worker = Peer(driver, 1)
    worker.hello()
    worker.ready(99, generation=0)
    worker.ready(99, epoch=8)
    assert worker.state() is WorkerState.JOINING
    worker.ready(3, generation=1)
    worker.ready(3, generation=1)
    assert worker.state() is WorkerState.SERVING


@pytest.mark.proves("a remote worker speaks another protocol version or has an incompatible NumPy")
@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"protocol": 99}, "it speaks protocol version 99, this trainer speaks 1"),
        ({"numpy_version": "1.26.4"}, "it has NumPy 1.26.4 and the trainer 2.1.0"),
    ],
)
def test_a_worker_that_cannot_serve_is_told_why_and_so_is_the_trainer(hello: dict[str, Any], reason: str) -> None:
    driver = Driver()
    driver.open(3)
    stranger = Peer(driver, 1)
    stranger.hello(**hello)
    (reject,) = driver.sent(m.Reject)
    assert reject.reason.startswith(reason)
    assert f"rejected worker w1 on host: {reason}" in driver.reports()
    assert len(driver.core.state.fleet) == 0


@pytest.mark.proves("a worker has another Python or NumPy than the trainer")
def test_other_versions_than_the_trainers_are_warned_of_once_with_both_named() -> None:
    driver = Driver()
    driver.open(3)
    Peer(driver, 1, python_version="3.11.9").join(3)
    assert driver.reports() == "worker w1 on host (pid 1) joined", "another patch release draws the same"
    for number in (2, 3):
        Peer(driver, number, python_version="3.12.4", numpy_version="2.2.0").join(3)
    told = [text for text in driver.reports().splitlines() if "install the same" in text]
    assert len(told) == 2, "once for two workers"
    assert "worker w2 on host has Python 3.12.4 and the trainer has 3.11.2" in told[0]
    assert "has NumPy 2.2.0 and the trainer has 2.1.0" in told[1]


@pytest.mark.proves("a remote worker has another Sequence (length, code)")
@pytest.mark.parametrize(
    ("ready", "reason"),
    [
        ((4, 0, 0, b"code"), "its Sequence has 4 batches and the trainer's has 3"),
        ((3, 0, 0, b"other"), "its Sequence's code has digest 6f74686572 and the trainer's 636f6465"),
    ],
)
def test_another_sequence_is_turned_away_with_both_named(ready: tuple[int, int, int, bytes], reason: str) -> None:
    driver = Driver()
    driver.open(3)
    worker = Peer(driver, 1)
    worker.hello()
    worker.ready(*ready)
    (reject,) = driver.sent(m.Reject, worker)
    assert reject.reason.startswith(reason)
    assert f"rejected worker w1 on host: {reason}" in driver.reports()
    assert worker.state() is WorkerState.GONE
    assert "__len__ must return the same number" in reject.reason or ready[0] == 3
    worker.hello()
    assert driver.sent(m.Reject, worker) == [reject], "it did not hear it, so it is said again"


@pytest.mark.parametrize("digest", [b"", b"code"])
def test_a_digest_that_one_side_does_not_know_is_not_compared(digest: bytes) -> None:
    driver = Driver()
    driver.open(3, digest=b"" if digest else b"code")
    worker = Peer(driver, 1).join(3, digest=digest)
    assert worker.state() is WorkerState.SERVING


def test_a_remote_worker_that_meets_a_live_object_learns_of_the_spec() -> None:
    driver = Driver()
    remote, local = Peer(driver, 1), Peer(driver, 2, channel="local")
    remote.hello()
    local.hello()
    driver.open(3, sequence=None)
    (reject,) = driver.sent(m.Reject, remote)
    assert "SequenceSpec" in reject.reason
    assert driver.sent(m.Welcome, local)
    assert driver.sent(m.Epoch, remote) == []


def test_a_worker_that_a_live_object_cannot_reach_is_refused_before_it_is_recorded() -> None:
    driver = Driver()
    driver.open(3, sequence=None)
    remote = Peer(driver, 1)
    remote.hello()
    assert "SequenceSpec" in driver.sent(m.Reject, remote)[0].reason
    assert "rejected worker w1 on host" in driver.reports()
    assert len(driver.core.state.fleet) == 0


def test_a_worker_whose_link_is_down_when_a_live_object_is_announced_is_refused_on_its_return() -> None:
    driver = Driver()
    remote = Peer(driver, 1)
    remote.hello()
    driver.step(ev.RouteLost(remote.route))
    driver.open(3, sequence=None)
    remote.hello()
    assert "SequenceSpec" in driver.sent(m.Reject, remote)[0].reason
    assert driver.sent(m.Welcome, remote) == []


def test_a_local_worker_that_cannot_serve_fails_the_fleet() -> None:
    driver = Driver()
    driver.open(3)
    Peer(driver, 1, channel="local").join(4)
    (failed,) = driver.of(FleetFailed)
    assert "4 batches" in failed.reason


def test_a_worker_that_comes_again_and_is_refused_again_is_told_of_once() -> None:
    driver = Driver()
    driver.open(3)
    for incarnation, name in enumerate(["w1", "w1", "w2", "w1", "w2"], start=1):
        peer = Peer(driver, incarnation)
        peer.name = name
        peer.hello()
        peer.say(m.LoadFailure(0, 0, ERROR))
    told = driver.reports()
    assert told.count("worker w1 on host cannot build") == told.count("worker w2 on host cannot build") == 1
    assert told.count("Traceback ...") == 1, "the reason is the same"
    for incarnation in (11, 12):
        peer = Peer(driver, incarnation)
        peer.name = "w3"
        peer.join(4)
    assert driver.reports().count("rejected worker w3") == 1


def test_a_load_failure_fails_the_fleet_only_if_it_is_the_trainers_own() -> None:
    driver = Driver()
    driver.open(3)
    remote, local = Peer(driver, 1), Peer(driver, 2, channel="local")
    remote.hello()
    local.hello()
    remote.say(m.LoadFailure(0, 0, ERROR))
    assert driver.of(FleetFailed) == []
    assert "cannot build the Sequence: ValueError: bad item\nTraceback ..." in driver.reports()
    local.say(m.LoadFailure(0, 0, ERROR))
    (failed,) = driver.of(FleetFailed)
    assert failed.error == ERROR
    assert len(driver.core.state.fleet) == 0


def test_a_workers_own_refusal_has_no_traceback_in_the_trainers_log() -> None:
    driver = Driver()
    driver.open(3)
    peer = Peer(driver, 1)
    peer.hello()
    refusal = m.ErrorRecord("enqueuer.errors", "AuthenticationError", "its owner allows --allow os", "Traceback ...")
    peer.say(m.LoadFailure(0, 0, refusal))
    assert "its owner allows --allow os" in driver.reports() and "Traceback" not in driver.reports()


def test_a_worker_that_did_not_hear_its_rejection_for_a_load_failure_hears_it_again() -> None:
    driver = Driver()
    driver.open(3)
    remote = Peer(driver, 1)
    remote.hello()
    remote.say(m.LoadFailure(0, 0, ERROR))
    (reject,) = driver.sent(m.Reject, remote)
    remote.heartbeat()
    assert driver.sent(m.WhoAreYou, remote)
    remote.hello(SESSION)
    assert driver.sent(m.Reject, remote) == [reject]


def test_a_load_failure_of_a_state_that_was_given_up_means_nothing() -> None:
    driver = Driver()
    driver.open(3)
    local = Peer(driver, 2, channel="local")
    local.hello()
    driver.open(3, generation=1)
    local.say(m.LoadFailure(0, 0, ERROR))
    assert driver.of(FleetFailed) == []
    assert len(driver.core.state.fleet) == 1


def test_the_trainers_threads_serve_at_once_and_are_never_lost() -> None:
    driver = Driver()
    driver.open(20)
    route = ev.Route("threads", b"")
    driver.step(ev.ThreadsJoined(route, b"t" * 16, "host", 1, 4))
    assert driver.core.state.scheduler.slots_count == 4
    assert sum(len(grant.indices) for grant in driver.sent(m.Grant)) == 4
    driver.step(ev.RouteLost(route))
    driver.wait(100.0)
    assert driver.core.state.scheduler.slots_count == 4
    driver.open(20, epoch=0, generation=1)
    assert driver.sent(m.Revoke) == [] and driver.sent(m.Epoch) == []


# ---------------------------------------------------------------- links


def test_a_new_link_keeps_the_leases_that_the_worker_still_holds() -> None:
    driver, (worker,) = serving(100, max_queue_size=0)
    worker.answer(busy=0.001)
    kept, lost, *_ = worker.leases
    worker.on_new_link().hello(session=SESSION, held=(kept,))
    assert worker.leases == [kept]
    assert worker.state() is WorkerState.JOINING
    worker.ready(100)
    (run,) = driver.core.state.ledger.runs.values()
    assert not run.is_live(lost - 1, lost)
    assert driver.sent(m.Grant, worker)[0].indices[0] == lost - 1


def test_leases_of_another_session_are_nobodys() -> None:
    _, (worker,) = serving()
    worker.on_new_link().hello(session=b"x" * 16, held=tuple(worker.leases))
    assert worker.leases == []


def test_a_hello_repeated_on_the_same_link_changes_nothing() -> None:
    driver, (worker,) = serving()
    leases = worker.leases
    worker.hello(session=SESSION, held=())
    assert worker.leases == leases
    assert driver.sent(m.Welcome)
    assert worker.state() is WorkerState.SERVING


def test_two_workers_cannot_be_on_one_connection() -> None:
    driver, (one,) = serving()
    other = Peer(driver, 2)
    other.route = one.route
    other.hello()
    assert driver.core.state.fleet.find(other.incarnation) is None
    assert driver.core.state.peers.is_banned(one.route), "the peer at the other end is no honest worker"


def test_a_lost_route_gives_the_worker_a_moment_to_come_back() -> None:
    driver, (worker,) = serving()
    leases = worker.leases
    driver.step(ev.RouteLost(worker.route))
    driver.wait(1.9)
    assert worker.leases == leases
    worker.on_new_link().hello(session=SESSION, held=leases)
    driver.wait(5.0)
    assert worker.leases == leases


def test_a_lost_route_that_nobody_comes_back_to_is_a_lost_worker_after_two_heartbeats() -> None:
    driver, (worker,) = serving()
    driver.step(ev.RouteLost(worker.route))
    driver.wait(3.0)
    assert worker.state() is WorkerState.LOST
    assert driver.core.state.fleet.lost_count == 1


def test_a_death_that_is_reported_after_the_connection_broke_is_no_second_loss() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver)
    driver.step(ev.RouteLost(worker.route))
    driver.wait(3.0)
    boss.say(m.WorkerExited(worker.incarnation, 0, -9, 0))
    assert worker.state() is WorkerState.GONE
    assert driver.core.state.fleet.lost_count == 1


def test_nobodys_word_keeps_a_worker_without_a_connection_alive() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver)
    driver.step(ev.RouteLost(worker.route))
    for _ in range(4):
        driver.wait(0.9)
        boss.say(m.Children((worker.incarnation,)))
    assert worker.state() is WorkerState.LOST
    assert "lost worker w1 on host (its connection broke); granting its 1 leases again" in driver.reports()


def test_a_worker_that_has_come_back_is_not_lost_for_its_old_connection() -> None:
    driver, (worker,) = serving()
    leases = worker.leases
    driver.step(ev.RouteLost(worker.route))
    driver.wait(1.0)
    worker.on_new_link().hello(session=SESSION, held=leases)
    driver.wait(5.0)
    assert worker.state() is WorkerState.JOINING


def test_losing_an_unknown_route_is_nothing() -> None:
    driver, _ = serving()
    assert driver.step(ev.RouteLost(ev.Route("remote", b"?"))) == []


# ---------------------------------------------------------------- signs of life


def test_a_silent_worker_is_probed_then_lost() -> None:
    driver, (worker,) = serving()
    driver.wait(3.0)
    assert m.HeartbeatReply(0, 0, math.inf) in driver.ever_sent(m.HeartbeatReply, worker)
    driver.wait(7.5)
    assert worker.state() is WorkerState.LOST
    assert worker.leases == []
    assert "lost worker w1 on host (silent for 10.0 s); granting its 1 leases again" in driver.reports()


def test_a_supervisor_vouches_for_children_that_hold_their_gil() -> None:
    driver, (worker, other) = serving(workers=2)
    boss = supervisor(driver)
    for _ in range(20):
        driver.wait(1.0)
        boss.say(m.Children((worker.incarnation, b"?" * 16)))
        assert driver.sent(m.HeartbeatReply, boss)
    assert worker.state() is WorkerState.SERVING
    assert other.state() is WorkerState.LOST


def test_a_silent_supervisor_is_forgotten_and_asked_for_a_hello_when_it_speaks() -> None:
    driver, _ = serving()
    boss = supervisor(driver)
    for _ in range(12):
        driver.wait(0.9)
        boss.say(m.Children(()))
    assert boss.route in driver.core.state.fleet.supervisors
    driver.wait(11.0)
    assert driver.core.state.fleet.supervisors == {}
    boss.say(m.Children(()))
    assert driver.sent(m.WhoAreYou, boss)
    boss.hello(role=m.Role.SUPERVISOR, supervisor=SUPERVISOR, numpy_version="")
    driver.wait(60.0, until_done=False)
    assert boss.route in driver.core.state.fleet.supervisors, "the coordinator's own pause is nobody's silence"


def test_a_stranger_cannot_vouch() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver, name=b"x" * 16)
    for _ in range(11):
        driver.wait(1.0)
        boss.say(m.Children((worker.incarnation,)))
    assert worker.state() is WorkerState.LOST


def test_the_coordinators_own_pause_is_nobodys_silence() -> None:
    driver, (worker,) = serving()
    driver.wait(60.0, until_done=False)
    assert worker.state() is WorkerState.SERVING
    driver.wait(11.0)
    assert worker.state() is WorkerState.LOST


def test_a_lost_worker_that_comes_back_keeps_what_it_holds() -> None:
    driver, (worker,) = serving()
    held = worker.leases
    driver.wait(11.0)
    worker.say(m.Heartbeat(tuple(held), held[-1], 0, 0, 0, 0.0, 0.0))
    assert driver.sent(m.WhoAreYou, worker)
    worker.hello(session=SESSION, held=held)
    assert worker.state() is WorkerState.JOINING
    worker.heartbeat(held)
    assert worker.leases == held, "they occupy it again"
    worker.answer(held)
    assert driver.delivered == ["b1"]


def test_waiting_for_a_worker_is_logged_with_the_address() -> None:
    driver = Driver(address="tcp://trainer:5555")
    driver.open(3)
    driver.wait(61.0)
    for waited in (30, 60):
        assert f"no worker connected to tcp://trainer:5555 for {waited} s; waiting" in driver.reports()


def test_a_wait_without_any_worker_ends_where_a_limit_was_set() -> None:
    driver = Driver(address="tcp://trainer:5555", no_worker_timeout=5.0)
    driver.open(3)
    driver.wait(4.9)
    assert not any(isinstance(action, FleetFailed) for action in driver.history)
    driver.wait(1.0)
    (failed,) = [action for action in driver.history if isinstance(action, FleetFailed)]
    assert failed.reason.startswith("no worker connected to tcp://trainer:5555 for 5 s, and no_worker_timeout=5")


def test_the_limit_counts_from_when_the_last_worker_was_gone() -> None:
    driver, (worker,) = serving(no_worker_timeout=5.0)
    for _ in range(10):
        driver.wait(1.0)
        worker.heartbeat()
    driver.step(ev.RouteLost(worker.route))
    driver.wait(4.9)
    assert not any(isinstance(action, FleetFailed) for action in driver.history)
    driver.wait(1.0)
    assert any(isinstance(action, FleetFailed) for action in driver.history)


def test_waiting_for_the_last_of_min_workers_is_logged_too() -> None:
    driver = Driver(min_workers=2)
    driver.open(3)
    worker = Peer(driver, 1).join(3)
    for _ in range(31):
        driver.wait(1.0)
        worker.heartbeat()
    assert driver.reports().count("only 1 of min_workers=2 workers for 30 s; waiting") == 1


# ---------------------------------------------------------------- reconciliation


def test_a_lost_grant_is_granted_again_after_two_heartbeats() -> None:
    driver, (worker,) = serving(1)
    worker.heartbeat(held=(), highest_grant=0)
    assert driver.sent(m.Grant) == []
    worker.heartbeat(held=(), highest_grant=0)
    assert driver.sent(m.Grant) == [m.Grant(0, 0, 0, 2, (0,))]
    assert driver.sent(m.Epoch, worker), "it may have ignored the grant for want of its Epoch"


def test_a_lease_that_was_seen_and_is_not_held_is_granted_again_at_once() -> None:
    driver, (worker,) = serving(1)
    worker.heartbeat(held=(), highest_grant=1)
    assert driver.sent(m.Grant) == [m.Grant(0, 0, 0, 2, (0,))]
    assert driver.sent(m.Epoch, worker) == []


def test_a_heartbeat_is_answered_with_what_has_arrived() -> None:
    driver, (worker,) = serving()
    worker.answer([], seq=7)
    worker.answer(worker.leases, seq=3)
    driver.now = 5.0
    worker.heartbeat()
    assert driver.sent(m.HeartbeatReply) == [m.HeartbeatReply(0, 3, 5.0)]


def test_a_worker_behind_the_newest_generation_is_told_of_it_again() -> None:
    driver, (worker,) = serving()
    worker.heartbeat(generation=0)
    assert driver.sent(m.Epoch) == []
    worker.heartbeat(generation=-1)
    assert driver.sent(m.Epoch)


def test_a_round_trip_of_any_size_is_survived() -> None:
    _, (worker,) = serving(10_000, max_queue_size=0)
    worker.answer(busy=1e-300)
    worker.heartbeat(round_trip=math.inf)
    worker.answer(busy=1e-9)
    assert len(worker.leases) <= 5000


# ---------------------------------------------------------------- death


def test_a_death_that_the_supervisor_saw_is_acted_on_at_once_and_once() -> None:
    driver, (victim, other) = serving(workers=2)
    boss = supervisor(driver)
    other.answer()
    exited = m.WorkerExited(victim.incarnation, 0, -9, 0)
    boss.say(exited)
    boss.say(exited)
    assert victim.state() is WorkerState.GONE
    assert driver.core.state.fleet.lost_count == 1
    assert "worker w1 on host (pid 1) was killed by SIGKILL (out of memory?)" in driver.reports()
    victim.hello()
    assert driver.actions == []


@pytest.mark.parametrize("exit_code", [0, 3, 4])
def test_a_deliberate_exit_is_no_death(exit_code: int) -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver)
    boss.say(m.WorkerExited(worker.incarnation, 0, exit_code, 0))
    assert worker.state() is WorkerState.GONE
    assert driver.core.state.fleet.lost_count == 0
    assert boss.say(m.WorkerExited(b"?" * 16, 0, exit_code, 0)) == []


def test_another_supervisors_word_about_a_worker_does_not_count() -> None:
    driver, (worker,) = serving()
    boss = supervisor(driver, name=b"x" * 16)
    boss.say(m.WorkerExited(worker.incarnation, 0, -9, 0))
    assert worker.state() is WorkerState.SERVING


def test_a_death_after_a_loss_is_still_blamed_on_what_was_running() -> None:
    driver, (worker,) = serving(1)
    boss = supervisor(driver)
    (running,) = worker.leases
    for _ in range(12):
        driver.wait(0.9)
        boss.say(m.Children(()))
    assert worker.state() is WorkerState.LOST
    boss.say(m.WorkerExited(worker.incarnation, 0, -11, running))
    (run,) = driver.core.state.ledger.runs.values()
    assert run.deaths == {0: [-11]}
    assert worker.state() is WorkerState.GONE


@pytest.mark.proves("local workers die whenever they are started, or cannot load the Sequence")
@pytest.mark.parametrize("known", [True, False])
def test_local_workers_that_keep_dying_on_arrival_fail_the_fleet(known: bool) -> None:
    driver = Driver()
    driver.open(3)
    boss = supervisor(driver, channel="local")
    for number in range(1, 6):
        assert driver.of(FleetFailed) == []
        victim = Peer(driver, number, channel="local")
        if known:
            victim.hello()
        boss.say(m.WorkerExited(victim.incarnation, number, 1, 0))
    (failed,) = driver.of(FleetFailed)
    assert (
        failed.reason == "5 local workers in a row died before their first batch; the last one ended with exit code 1"
    )
    assert driver.reports().count("ended with exit code 1") == 5, "each death is told once"


def test_remote_workers_that_die_on_arrival_are_their_owners_concern() -> None:
    driver = Driver()
    driver.open(3)
    boss = supervisor(driver)
    for number in range(10):
        boss.say(m.WorkerExited(bytes([number]) * 16, number, 1, 0))
    assert [action for action in driver.history if isinstance(action, FleetFailed)] == []


def test_a_worker_that_was_lost_for_so_long_that_it_is_forgotten_serves_again_as_a_new_one() -> None:
    driver, (worker, other) = serving(100, 2)
    for _ in range(3):
        worker.answer()
    kept = worker.leases
    driver.step(ev.RouteLost(worker.route))
    while driver.core.state.fleet.find(worker.incarnation) is not None:
        driver.wait(5.0)
        other.heartbeat()
    worker.on_new_link().hello(SESSION, held=tuple(kept), sent_seq=4)
    (welcome,) = driver.sent(m.Welcome, worker)
    assert welcome.received_seq == 4, "it need not keep what others have done again"
    worker.ready(100)
    delivered = len(driver.delivered)
    driver.take(delivered - driver.core.state.ledger.taken_total)
    other.answer()
    assert worker.leases and not set(worker.leases) & set(kept)
    worker.answer(seq=5)
    assert worker.record.received_seq == 5
    assert len(driver.delivered) > delivered


# ---------------------------------------------------------------- workers that came and were refused


def test_the_warning_without_workers_tells_why_those_that_came_were_refused() -> None:
    driver = Driver(address="tcp://trainer:5555", no_worker_timeout=60.0)
    driver.open(3)
    for number in (1, 2):
        Peer(driver, number).join(3, digest=b"other")
    Peer(driver, 3).hello(protocol=0)
    driver.wait(31.0)
    assert "no worker connected to tcp://trainer:5555 for 30 s; 2 workers were refused: its Sequence's code" in (
        driver.reports()
    )
    assert "worker w3 on host was refused: it speaks protocol version 0" in driver.reports()
    driver.wait(31.0)
    (failed,) = [action for action in driver.history if isinstance(action, FleetFailed)]
    assert "no_worker_timeout=60; 2 workers were refused: " in failed.reason
    assert "start workers first" not in failed.reason


def test_a_remote_load_failure_is_told_with_type_and_text_while_no_worker_is_there() -> None:
    driver = Driver(no_worker_timeout=5.0)
    driver.open(3)
    remote = Peer(driver, 1)
    remote.hello()
    remote.say(m.LoadFailure(0, 0, ERROR))
    driver.wait(6.0)
    (failed,) = [action for action in driver.history if isinstance(action, FleetFailed)]
    assert failed.reason.endswith("worker w1 on host was refused: it cannot build the Sequence: ValueError: bad item")


def test_a_worker_that_serves_after_all_is_no_longer_told_of_as_refused() -> None:
    driver = Driver(no_worker_timeout=5.0)
    driver.open(3)
    Peer(driver, 1).join(3, digest=b"other")
    again = Peer(driver, 1)
    again.incarnation, again.route = b"n" * 16, ev.Route("remote", b"new")
    again.join(3)
    driver.step(ev.RouteLost(again.route))
    driver.wait(9.0)
    (failed,) = [action for action in driver.history if isinstance(action, FleetFailed)]
    assert failed.reason.endswith("start workers first, or allow more time")


def test_refusals_are_remembered_within_bounds() -> None:
    driver = Driver()
    driver.open(3)
    for number in range(1, 100):
        Peer(driver, number).hello(numpy_version=f"{number + 5}.0")
    assert len(driver.core.state.refusals) <= 5
