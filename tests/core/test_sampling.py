"""A host's batches are used once samples of them agree with what is known, or nothing is known and it is the first."""

from __future__ import annotations

from typing import Any

import pytest

from enqueuer.core import events as ev
from enqueuer.core.digests import BatchDigest
from enqueuer.core.settings import ChannelFacts
from enqueuer.core.worker import WorkerState
from enqueuer.protocol import messages as m
from tests.core.driver import ERROR, SESSION, Driver, Peer, supervisor

HERE, THERE, ELSEWHERE = b"h" * 16, b"t" * 16, b"e" * 16
REMOTE = (ChannelFacts("remote", "tcp://*:5556", local=False),)


def digest_of(payload: Any) -> BatchDigest | None:
    """A payload is its exact content, or that and a rounding behind a colon; "?" cannot be compared."""
    content, _, rest = str(payload).partition(":")
    return None if content == "?" else {"batch": (content.encode(), rest.encode())}


def fleet(channels: tuple[ChannelFacts, ...] = REMOTE, length: int = 20, **settings: Any) -> Driver:
    driver = Driver(**{"digest_of": digest_of, "channels": channels, "max_queue_size": 8, **settings})
    driver.open(length)
    return driver


def worker(driver: Driver, number: int, host: bytes, *, ready: bool = True, channel: str = "remote") -> Peer:
    peer = Peer(driver, number, channel, supervisor=host)
    peer.hello()
    if ready:
        peer.ready(20)
    return peer


def compute(peer: Peer, contents: dict[int, str] | str = "{}", busy: float = 0.01) -> None:
    """Answer all leases it was granted; by default the content of a batch is its index."""
    driver = peer.driver
    indices: dict[int, int] = {}
    for grant in driver.ever_sent(m.Grant, peer):
        indices.update(enumerate(grant.indices, grant.first_lease))
    leases = peer.leases
    payloads = [contents.format(indices[lease]) if isinstance(contents, str) else contents[lease] for lease in leases]
    peer._seq += 1
    driver.step(ev.ResultsReceived(peer.incarnation, 0, 0, peer._seq, busy, leases, payloads, 100 * len(leases), ""))


def agreed(driver: Driver) -> tuple[Peer, Peer]:
    """Two workers of two hosts: the first one has delivered, the second one is asked for samples."""
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    compute(one)
    return one, other


# ---------------------------------------------------------------- the first host


def test_the_first_host_serves_at_once_and_another_waits_for_its_first_answer() -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    assert (one.state(), other.state()) == (WorkerState.SERVING, WorkerState.JOINING)
    assert not driver.ever_sent(m.Grant, other)
    compute(one)
    assert driver.sent(m.Grant, other)[0].indices == (0, 1, 2)[: len(driver.sent(m.Grant, other)[0].indices)]
    assert driver.delivered


def test_all_workers_of_the_first_host_serve_at_once() -> None:
    driver = fleet()
    assert worker(driver, 1, HERE).state() is worker(driver, 2, HERE).state() is WorkerState.SERVING


def test_without_digests_nobody_waits() -> None:
    driver = fleet(digest_of=None)
    assert worker(driver, 1, HERE).state() is worker(driver, 2, THERE).state() is WorkerState.SERVING


def test_hosts_wait_for_the_trainers_own_workers() -> None:
    driver = fleet((ChannelFacts("local", "ipc:///x", local=True), *REMOTE))
    far = worker(driver, 2, THERE)
    assert far.state() is WorkerState.JOINING
    near = worker(driver, 1, HERE, channel="local")
    assert (near.state(), far.state()) == (WorkerState.SERVING, WorkerState.JOINING)
    compute(near)
    assert driver.sent(m.Grant, far)


def test_the_trainers_threads_are_compared_with() -> None:
    driver = fleet()
    route = ev.Route("threads", b"")
    driver.step(ev.ThreadsJoined(route, b"i" * 16, "here", 1, 2))
    far = worker(driver, 2, THERE)
    assert far.state() is WorkerState.JOINING
    driver.step(ev.ResultsReceived(b"i" * 16, 0, 0, 1, 0.01, [1], ["0"], 100, ""))
    assert driver.sent(m.Grant, far)[0].indices == (0,)


def test_those_that_wait_count_as_present() -> None:
    driver = fleet(min_workers=2)
    one = worker(driver, 1, HERE)
    assert not one.leases
    worker(driver, 2, THERE)
    assert one.leases, "both are there, and the second one needs a sample of the first one"


def test_a_host_that_only_fails_keeps_no_other_from_being_the_first() -> None:
    driver = fleet(retries=5)
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    one.fail(one.leases[0])
    driver.wait(1.0)
    assert other.state() is WorkerState.SERVING


def test_a_host_that_hangs_keeps_no_other_from_being_the_first_for_long() -> None:
    driver = fleet(worker_timeout=10.0)
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    for _ in range(59):
        driver.wait(1.0)
        one.heartbeat()
        other.heartbeat()
    assert other.state() is WorkerState.JOINING
    for _ in range(2):
        driver.wait(1.0)
        one.heartbeat()
        other.heartbeat()
    assert other.state() is WorkerState.SERVING


def test_of_two_that_are_first_the_slower_one_is_sampled_and_what_it_computed_is_not_used() -> None:
    driver = fleet(retries=5)
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    one.fail(one.leases[0])
    driver.wait(1.0)
    own = other.leases
    compute(one)
    assert other.state() is WorkerState.JOINING
    assert set(driver.sent(m.Revoke, other)[0].leases) == set(own)
    delivered = list(driver.delivered)
    driver.step(ev.ResultsReceived(other.incarnation, 0, 0, 1, 0.01, own, ["x"] * len(own), 100, ""))
    assert "x" not in driver.delivered
    assert driver.delivered[: len(delivered)] == delivered
    assert not driver.core.state.peers.offenders


def test_when_the_first_host_has_left_and_nothing_is_known_another_one_serves() -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    driver.step(ev.RouteLost(one.route))
    for _ in range(4):
        driver.wait(1.0)
        other.heartbeat()
    assert other.state() is WorkerState.SERVING


def test_a_worker_that_waits_and_answers_leases_of_others_commits_an_offence() -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    driver.step(ev.ResultsReceived(other.incarnation, 0, 0, 1, 0.01, [one.leases[0]], ["forged"], 100, ""))
    assert "worker w2 on host answered lease 1 of w1 on host" in driver.reports()
    assert not driver.delivered


# ---------------------------------------------------------------- the sample


def test_a_host_whose_sample_agrees_serves_with_all_its_workers() -> None:
    driver = fleet()
    _, other = agreed(driver)
    third = worker(driver, 3, THERE)
    assert third.state() is WorkerState.JOINING
    assert not driver.ever_sent(m.Grant, third), "one worker of a host is enough"
    compute(other)
    assert (other.state(), third.state()) == (WorkerState.SERVING, WorkerState.SERVING)
    assert worker(driver, 4, THERE).state() is WorkerState.SERVING
    assert len(driver.delivered) == len(set(driver.delivered)), "a sample is no answer"


def test_a_host_whose_sample_differs_is_turned_away_by_name_of_index_and_field() -> None:
    driver = fleet()
    one, other = agreed(driver)
    third = worker(driver, 3, THERE)
    compute(other, "other {}")
    assert driver.sent(m.Grant, one), "the index is computed once more, to see whether it is random"
    compute(one)
    (reject,) = driver.sent(m.Reject, other)
    assert "batch 0 is not the same as that of worker w1 on host: batch differs" in reject.reason
    assert "--allow-skew" in reject.reason
    assert driver.sent(m.Reject, third)
    assert "rejected worker w2 on host: its batch 0" in driver.reports()
    assert not any("other" in payload for payload in driver.delivered)


def test_a_host_that_serves_before_its_sample_differs_is_turned_away_with_all_its_workers() -> None:
    driver = fleet()
    one, other = agreed(driver)
    third = worker(driver, 3, THERE)
    driver.open(20, epoch=1)
    driver.open(20, epoch=2)  # what one computed is forgotten
    driver.step(ev.RouteLost(one.route))
    for _ in range(4):
        driver.wait(1.0)
        for peer in (other, third):
            peer.heartbeat()
    assert (other.state(), third.state()) == (WorkerState.SERVING, WorkerState.SERVING), "nobody else is here"
    sample = driver.ever_sent(m.Grant, other)[0].first_lease
    driver.step(ev.ResultsReceived(other.incarnation, 0, 0, 1, 0.01, [sample], ["other 0"], 100, ""))
    assert driver.sent(m.Reject, other)
    assert driver.sent(m.Reject, third)


def test_a_host_that_was_turned_away_is_sampled_again_when_it_comes_again() -> None:
    driver = fleet()
    one, other = agreed(driver)
    compute(other, "other {}")
    compute(one)
    again = worker(driver, 5, THERE)
    assert again.state() is WorkerState.JOINING
    compute(again)
    assert again.state() is WorkerState.SERVING


def test_a_batch_that_differs_on_the_trusted_side_too_turns_nobody_away() -> None:
    driver = fleet()
    one, other = agreed(driver)
    compute(other, "other {}")
    compute(one, "yet another {}")
    assert other.state() is WorkerState.SERVING
    assert "differs each time it is computed" in driver.reports()
    assert worker(driver, 5, ELSEWHERE).state() is WorkerState.SERVING


def test_the_control_is_best_made_by_another_worker_than_the_one_compared_with() -> None:
    driver = fleet()
    one, other = agreed(driver)
    second = worker(driver, 6, HERE)
    compute(other, "other {}")
    assert not any(grant.indices == (0,) for grant in driver.sent(m.Grant, one))
    assert driver.sent(m.Grant, second)[-1].indices == (0,)


def test_a_control_that_leaves_or_fails_is_no_excuse() -> None:
    for how in ("fails", "leaves"):
        driver = fleet()
        one, other = agreed(driver)
        compute(other, "other {}")
        if how == "fails":
            one.fail(one.leases[-1])
        else:
            driver.step(ev.RouteLost(one.route))
            driver.wait(10.0)
        assert driver.ever_sent(m.Reject, other), how


def test_numbers_that_round_otherwise_are_a_warning_and_told_once() -> None:
    driver = fleet()
    _, other = agreed(driver)
    compute(other, "{}:0.1")
    assert other.state() is WorkerState.SERVING
    assert driver.reports().count("rounds otherwise") == 1


def test_a_sample_that_raises_is_no_refusal() -> None:
    driver = fleet()
    _, other = agreed(driver)
    for lease in other.leases:
        other.fail(lease)
    assert other.state() is WorkerState.SERVING
    assert "a sample of worker w2 on host, batch 0, failed there" in driver.reports()
    assert not driver.core.state.ledger.runs[0].failures


def test_what_cannot_be_compared_keeps_nobody_waiting() -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    compute(one, "?")
    assert other.state() is WorkerState.SERVING


def test_long_items_are_sampled_once() -> None:
    driver = fleet(max_queue_size=0)
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    compute(one, busy=0.02)
    compute(one, busy=500.0)
    third = worker(driver, 3, ELSEWHERE)
    assert len(driver.ever_sent(m.Grant, other)[0].indices) == 1
    assert len(driver.ever_sent(m.Grant, third)[0].indices) == 3


def test_samples_leave_a_worker_something_of_its_share() -> None:
    driver = fleet(max_queue_size=0)
    driver.open(20, options={"max_batches": 3})
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    for _ in range(3):
        compute(one)
    assert len(driver.ever_sent(m.Grant, other)[0].indices) == 1
    assert len(driver.ever_sent(m.Grant, worker(driver, 3, ELSEWHERE))[0].indices) == 2


def test_an_owner_that_allows_skew_is_not_sampled_and_nobody_is_compared_with_it() -> None:
    driver = fleet()
    skewed = Peer(driver, 1, supervisor=HERE)
    skewed.hello()
    skewed.say(m.Ready(0, 0, 20, b"code", True, ()))
    assert skewed.state() is WorkerState.SERVING
    compute(skewed)
    honest = worker(driver, 2, THERE)
    assert honest.state() is WorkerState.SERVING
    assert not driver.core.state.samples.known


# ---------------------------------------------------------------- deaths, losses, silence


def test_a_death_while_sampling_is_blamed_on_no_position() -> None:
    driver = fleet()
    boss = supervisor(driver, name=THERE)
    _, other = agreed(driver)
    for number in range(4):
        boss.say(m.WorkerExited(other.incarnation, 0, -11, other.leases[0]))
        other = worker(driver, 10 + number, THERE)
        assert driver.ever_sent(m.Grant, other), "the next worker of the host computes the sample"
    assert driver.core.state.ledger.runs[0].deaths == {}
    boss.say(m.WorkerExited(other.incarnation, 0, -11, other.leases[0]))
    assert worker(driver, 20, THERE).state() is WorkerState.SERVING
    assert "serves without a sample: its workers ended" in driver.reports()


def test_a_sample_that_was_lost_on_the_way_is_asked_for_again() -> None:
    driver = fleet()
    one, other = agreed(driver)
    for _ in range(3):
        driver.wait(1.0)
        one.heartbeat()
        other.heartbeat(held=(), highest_grant=0)
    assert len(driver.ever_sent(m.Grant, other)) >= 2
    compute(other)
    assert other.state() is WorkerState.SERVING


def test_a_worker_that_computes_for_long_gets_no_second_sample_and_another_one_does() -> None:
    driver = fleet(worker_timeout=10.0)
    one, other = agreed(driver)
    third = worker(driver, 3, THERE)
    for _ in range(61):
        driver.wait(1.0)
        for peer in (one, other, third):
            peer.heartbeat()
    assert len(driver.ever_sent(m.Grant, other)) == 1
    assert driver.ever_sent(m.Grant, third)


def test_a_host_serves_unchecked_and_it_is_told_when_nothing_comes_to_compare_with() -> None:
    driver = fleet((ChannelFacts("local", "ipc:///x", local=True), *REMOTE), worker_timeout=10.0)
    far = worker(driver, 2, THERE)
    for _ in range(61):
        driver.wait(1.0)
        far.heartbeat()
    assert far.state() is WorkerState.SERVING
    assert "w2 on host serves without a sample" in driver.reports()


def test_a_worker_that_waits_is_told_of_no_epoch_again() -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    told = len(driver.ever_sent(m.Epoch, other))
    for _ in range(5):
        driver.wait(1.0)
        one.heartbeat()
        other.heartbeat()
    assert len(driver.ever_sent(m.Epoch, other)) == told


def test_known_batches_are_those_of_epochs_that_are_told_of() -> None:
    driver = fleet()
    agreed(driver)
    assert set(driver.core.state.samples.known) == {(0, 0)}
    driver.open(20, epoch=1)
    driver.open(20, epoch=2)
    assert not driver.core.state.samples.known


# ---------------------------------------------------------------- answers that are computed twice anyway


@pytest.mark.parametrize("content", ["0", "0:rounded", "?", "other"])
def test_two_answers_to_one_position_are_compared_and_told_once(content: str) -> None:
    driver = fleet()
    one, other = worker(driver, 1, HERE), worker(driver, 2, HERE)
    mine = one.leases[0]
    driver.step(ev.RouteLost(one.route))
    for _ in range(4):
        driver.wait(1.0)
        other.heartbeat()
    assert one.state() is WorkerState.LOST
    while 0 in driver.core.state.ledger.runs[0].twice:
        compute(other)
        driver.take(driver.core.state.ledger.ready_count)
    for seq in (1, 2):
        driver.step(ev.ResultsReceived(one.incarnation, 0, 0, seq, 0.01, [mine], [content], 100, ""))
    told = driver.reports().count("batch 0 of epoch 0 was computed twice")
    assert told == (1 if content == "other" else 0)


def test_a_hedge_that_loses_is_compared() -> None:
    driver = fleet(hedge=1.0, max_queue_size=0, length=200)
    one, other, third = (Peer(driver, number, supervisor=HERE) for number in (1, 2, 3))
    for peer in (one, other, third):
        peer.hello()
        peer.ready(200)
    held = one.leases[0]
    while not driver.core.state.hedges_count:
        if other.leases:
            compute(other)
        driver.wait(0.1)
        assert driver.now < 60.0
    compute(other)
    driver.step(ev.ResultsReceived(one.incarnation, 0, 0, 1, 0.01, [held], ["other"], 100, ""))
    assert "was computed twice" in driver.reports()


# ---------------------------------------------------------------- settings


def test_settings_of_local_workers_are_told_once_and_remote_workers_are_not_asked() -> None:
    driver = Driver()
    driver.open(3, settings={"conf:GAIN": ev.Setting(b"12345678", "10")})
    near, again, far = (Peer(driver, number, channel) for number, channel in enumerate(("local", "local", "remote"), 1))
    near.hello()
    assert driver.sent(m.Welcome, near)[0].options["settings"] == {"conf:GAIN": b"12345678"}
    again.hello()
    far.hello()
    assert "settings" not in driver.sent(m.Welcome, far)[0].options
    for peer in (near, again):
        peer.say(m.Ready(0, 0, 3, b"code", False, (("conf:GAIN", "1"), ("made:UP", "1"))))
        assert peer.state() is WorkerState.SERVING
    (line,) = [line for line in driver.reports().splitlines() if "GAIN" in line]
    assert "conf.GAIN is 10 here and 1 there" in line
    assert "worker_init=" in line
    assert "made" not in line


def test_a_failure_of_a_worker_that_is_turned_away_counts_against_nothing() -> None:
    driver = fleet(retries=5)
    one, other = worker(driver, 1, HERE), worker(driver, 2, THERE)
    one.fail(one.leases[0])
    driver.wait(1.0)
    late = other.leases[0]
    compute(one)
    before = dict(driver.core.state.ledger.runs[0].failures)
    other.say(m.Failure(0, 0, late, ERROR), SESSION)
    assert driver.core.state.ledger.runs[0].failures == before
