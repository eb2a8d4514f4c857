"""The token bucket that bounds what peers and log lines may cost."""

from __future__ import annotations

from enqueuer.rate_limit import RateLimit


def test_a_rate_limit_allows_a_burst_and_then_so_many_a_second() -> None:
    limit = RateLimit(3, 2.0)
    assert [limit.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.take(1.0) for _ in range(3)] == [True, True, False]
    assert [limit.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_a_heavy_item_takes_more_and_one_beyond_the_burst_never_passes() -> None:
    limit = RateLimit(10, 1.0)
    assert limit.take(0.0, weight=8)
    assert not limit.take(0.0, weight=3)
    assert limit.take(0.0, weight=2)
    assert not limit.take(1e9, weight=11)


def test_one_in_a_while_is_allowed_at_the_end_of_its_interval_however_often_it_was_asked() -> None:
    limit = RateLimit(1, 1 / 30)
    assert [now for now in range(61) if limit.take(float(now))] == [0, 30, 60]
