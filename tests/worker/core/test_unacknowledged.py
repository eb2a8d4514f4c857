"""Results are kept until they are acknowledged, and sent again in time."""

from __future__ import annotations

import math

import pytest

from enqueuer_worker.core.events import Computed
from enqueuer_worker.core.unacknowledged import Unacknowledged

SESSION = b"s" * 16


def computed(*leases: int) -> Computed:
    return Computed(SESSION, 0, 0, leases, tuple(leases), 0.0)


@pytest.fixture
def kept() -> Unacknowledged:
    """Three of them, added at 10 s; a heartbeat a second."""
    made = Unacknowledged(heartbeat_interval=1.0)
    assert [made.add(computed(lease), now=10.0) for lease in (5, 6, 7)] == [1, 2, 3]
    return made


def test_results_are_kept_with_their_leases_until_they_are_acknowledged(kept: Unacknowledged) -> None:
    assert kept.leases() == {5, 6, 7}
    kept.acknowledge(2, now=10.5)
    assert list(kept) == [(3, computed(7))]
    assert kept.leases() == {7}
    assert kept.sent_seq == 3


def test_a_result_that_is_missing_before_an_arrived_number_is_lost(kept: Unacknowledged) -> None:
    kept.acknowledge(1, now=10.5)
    assert kept.below(3) == [(2, computed(6))]
    assert kept.below(0) == []


def test_the_oldest_result_is_sent_again_ever_more_rarely_without_an_acknowledgement(kept: Unacknowledged) -> None:
    assert kept.overdue(now=12.9) == []
    assert kept.overdue(now=13.0) == [(1, computed(5))]
    assert kept.resend_at == 13.0 + 6.0
    assert kept.overdue(now=19.0) == [(1, computed(5))]
    assert kept.resend_at == 19.0 + 12.0


def test_an_acknowledgement_starts_the_wait_anew(kept: Unacknowledged) -> None:
    kept.overdue(now=13.0)
    kept.acknowledge(1, now=14.0)
    assert kept.resend_at == 14.0 + 3.0
    kept.acknowledge(1, now=15.0)
    assert kept.resend_at == 17.0, "nothing new was said"


def test_nothing_is_sent_again_once_everything_is_acknowledged(kept: Unacknowledged) -> None:
    kept.acknowledge(3, now=11.0)
    kept.link_opened(now=12.0)
    assert kept.resend_at == math.inf
    assert kept.overdue(now=1e9) == []


def test_a_new_link_counts_as_having_sent_all_again(kept: Unacknowledged) -> None:
    kept.link_opened(now=20.0)
    assert kept.resend_at == 23.0


def test_a_tail_of_lost_results_is_sent_again_twice_as_many_each_time() -> None:
    made = Unacknowledged(heartbeat_interval=1.0)
    for lease in range(1, 17):
        made.add(computed(lease), now=0.0)
    rounds, now = [], 0.0
    while list(made):
        now = made.resend_at
        again = [seq for seq, _ in made.overdue(now)]
        rounds.append(len(again))
        made.acknowledge(again[-1], now + 0.5)
    assert rounds == [1, 2, 4, 8, 1]


def test_results_that_come_by_themselves_are_sent_again_one_at_a_time() -> None:
    made = Unacknowledged(heartbeat_interval=1.0)
    for lease in range(1, 9):
        made.add(computed(lease), now=0.0)
    assert len(made.overdue(3.0)) == 1
    made.acknowledge(2, now=3.5)  # the first had only been late
    assert len(made.overdue(made.resend_at)) == 1
