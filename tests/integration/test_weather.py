"""The faults of the simulated wire: as configured, and the same ones for the same seed."""

from __future__ import annotations

import itertools

import pytest

from tests.support.weather import DOWN, UP, Weather


def sent(weather: Weather, count: int = 1000, direction: int = DOWN) -> list[list[float]]:
    """The arrivals of packets sent a millisecond apart."""
    return [weather.arrivals(direction, number / 1000) for number in range(count)]


def test_a_calm_wire_only_delays() -> None:
    assert Weather(0.02).arrivals(DOWN, 5.0) == [5.02]


def test_a_cut_stops_one_direction_or_both_until_it_is_mended() -> None:
    weather = Weather(0.0)
    weather.command("cut up\n")
    assert (weather.arrivals(UP, 1.0), weather.arrivals(DOWN, 1.0)) == ([], [1.0])
    weather.command("cut")
    assert (weather.arrivals(UP, 2.0), weather.arrivals(DOWN, 2.0)) == ([], [])
    weather.command("mend")
    assert (weather.arrivals(UP, 3.0), weather.arrivals(DOWN, 3.0)) == ([3.0], [3.0])
    assert weather.command("count") == "carried=3 cut=3 lost=0 overtaken=0 duplicated=0"


@pytest.mark.parametrize(("fault", "copies"), [("loss", 0), ("duplicate", 2)])
def test_loss_and_duplication_hit_about_the_expected_share(fault: str, copies: int) -> None:
    weather = Weather(0.0, seed=3)
    weather.command(f"{fault} 0.1")
    arrivals = sent(weather)
    assert 60 < sum(len(times) == copies for times in arrivals) < 140
    assert {len(times) for times in arrivals} == {1, copies}


def test_jitter_alone_lets_nothing_overtake() -> None:
    weather = Weather(0.02, seed=3)
    weather.command("jitter 15")
    (times,) = zip(*sent(weather), strict=True)
    assert list(times) == sorted(times)
    assert max(due - number / 1000 for number, due in enumerate(times)) > 0.03


def test_packets_that_are_held_back_are_overtaken() -> None:
    weather = Weather(0.02, seed=3)
    weather.command("reorder 0.1")
    (times,) = zip(*sent(weather), strict=True)
    assert 60 < sum(earlier > later for earlier, later in itertools.pairwise(times)) < 140


def test_the_same_seed_makes_the_same_weather() -> None:
    stormy = [Weather(0.02, seed=seed) for seed in (3, 3, 4)]
    for weather in stormy:
        for command in ("loss 0.05", "jitter 10", "reorder 0.1", "duplicate 0.05"):
            weather.command(command)
    one, same, other = map(sent, stormy)
    assert one == same != other


@pytest.mark.parametrize("line", ["cut sideways", "mend all", "loss", "thunder", ""])
def test_an_unknown_command_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):
        Weather(0.0).command(line)


def test_a_slow_wire_sends_one_packet_after_the_other_and_loses_what_its_queue_does_not_hold() -> None:
    weather = Weather(0.02)
    weather.command("rate 10000")
    assert weather.arrivals(UP, 1.0, 900) == [pytest.approx(1.11)]
    assert weather.arrivals(UP, 1.0, 900) == [pytest.approx(1.20)]
    assert weather.arrivals(UP, 1.0, 900) == [], "its queue is full"
    assert weather.arrivals(DOWN, 1.0, 900) == [pytest.approx(1.11)], "each direction has its own"
    assert weather.arrivals(UP, 1.1, 900) == [pytest.approx(1.29)]
    assert weather.counts.lost == 1
    weather.command("rate 0")
    assert weather.arrivals(UP, 2.0, 10**6) == [2.02]
