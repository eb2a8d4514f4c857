from __future__ import annotations

import pytest

from enqueuer.monitoring.short_texts import counted, cut, duration, short_bytes, short_rate, short_seconds


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (12_345_678, "12.3 MB"), (10**30, "huge")]
)
def test_sizes_have_three_digits(nbytes: int, text: str) -> None:
    assert short_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0.0"), (45.23, "45.2"), (99.96, "100"), (9_999.0, "9999"), (1e4, "10k"), (1e9, "huge")]
)
def test_rates_have_at_most_five_characters(rate: float, text: str) -> None:
    assert short_rate(rate) == text


def test_no_text_is_longer_than_it_may_be() -> None:
    for power in range(-40, 110):
        value = 1.7**power
        assert len(short_bytes(int(value))) <= 7 and len(short_seconds(value)) <= 7 and len(short_rate(value)) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 µs"), (0.000121, "121 µs"), (0.00105, "1.05 ms"), (0.99999, "1 s"), (12.34, "12.3 s"), (7_200, "2.0 h")],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert short_seconds(seconds) == text


def test_durations_have_two_units() -> None:
    assert (duration(5.9), duration(65), duration(7_260)) == ("5 s", "1 min 5 s", "2 h 1 min")


def test_what_does_not_fit_is_cut() -> None:
    assert (cut("worker", 6), cut("worker", 4), cut("worker", 1), cut("worker", 0)) == ("worker", "wor…", "…", "")


@pytest.mark.parametrize(
    ("number", "plural", "text"),
    [(0, "hedges", "0 hedges"), (1, "hedges", "1 hedge"), (1, "retries", "1 retry"), (1, "skipped", "1 skipped")],
)
def test_a_noun_after_one_is_singular(number: int, plural: str, text: str) -> None:
    assert counted(number, plural) == text
