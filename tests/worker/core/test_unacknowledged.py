from __future__ import annotations

import math

import pytest

from enqueuer_worker.core.events import Computed
from enqueuer_worker.core.unacknowledged import Unacknowledged

SESSION = b"s" * 16


def computed(*leases: int) -> Computed:
    return Computed(SESSION, 0, 0, leases, tuple(leases), 0.0)


@pytest.fixture
def answers() -> Unacknowledged:
    """Three of them, added at 10 s; a heartbeat a second."""
    made = Unacknowledged(heartbeat_interval=1.0)
    assert [made.add(computed(lease), now=10.0) for lease in (5, 6, 7)] == [1, 2, 3]
    return made


def test_answers_are_kept_with_their_leases_until_they_are_acknowledged(answers: Unacknowledged) -> None:
    assert answers.leases() == {5, 6, 7}
    answers.acknowledge(2, now=10.5)
    assert list(answers) == [(3, computed(7))]
    assert answers.leases() == {7}
    assert answers.sent_seq == 3


def test_what_is_missing_before_a_number_that_arrived_is_lost(answers: Unacknowledged) -> None:
    answers.acknowledge(1, now=10.5)
    assert answers.below(3) == [(2, computed(6))]
    assert answers.below(0) == []


def test_without_acknowledgement_the_oldest_is_sent_again_ever_more_rarely(answers: Unacknowledged) -> None:
    assert answers.overdue(now=12.9) == []
    assert answers.overdue(now=13.0) == [(1, computed(5))]
    assert answers.resend_at == 13.0 + 6.0
    assert answers.overdue(now=19.0) == [(1, computed(5))]
    assert answers.resend_at == 19.0 + 12.0


def test_an_acknowledgement_starts_the_wait_anew(answers: Unacknowledged) -> None:
    answers.overdue(now=13.0)
    answers.acknowledge(1, now=14.0)
    assert answers.resend_at == 14.0 + 3.0
    answers.acknowledge(1, now=15.0)
    assert answers.resend_at == 17.0, "nothing new was said"


def test_with_nothing_kept_there_is_nothing_to_wait_for(answers: Unacknowledged) -> None:
    answers.acknowledge(3, now=11.0)
    answers.link_opened(now=12.0)
    assert answers.resend_at == math.inf
    assert answers.overdue(now=1e9) == []


def test_a_new_link_counts_as_having_sent_all_again(answers: Unacknowledged) -> None:
    answers.link_opened(now=20.0)
    assert answers.resend_at == 23.0
