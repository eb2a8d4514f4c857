"""The timers of a worker's link: pauses between attempts, the next sign of life, the coordinator's silence."""

from __future__ import annotations

import math

import pytest

from enqueuer.protocol.messages import Welcome
from enqueuer_worker.core.link_timers import LinkTimers
from enqueuer_worker.core.policy import Policy

POLICY = Policy(first_reconnect_interval=1.0, max_reconnect_interval=5.0, hello_interval=0.5)
WELCOME = Welcome("tcp://*:5556", 2.0, 60.0, 0, None, {})


@pytest.fixture
def timers() -> LinkTimers:
    return LinkTimers(POLICY, 100.0)


def test_the_first_link_is_opened_at_once_and_nothing_else_is_due(timers: LinkTimers) -> None:
    assert (timers.open_at, timers.heartbeat_at) == (100.0, math.inf)


def test_the_pause_before_the_next_link_doubles_up_to_the_limit(timers: LinkTimers) -> None:
    pauses = []
    for _ in range(4):
        timers.link_opened(100.0)
        assert timers.open_at == math.inf
        timers.link_closed(100.0)
        pauses.append(timers.open_at - 100.0)
    assert pauses == [1.0, 2.0, 4.0, 5.0]


def test_a_welcome_makes_the_pause_short_again_and_brings_its_intervals(timers: LinkTimers) -> None:
    timers.link_closed(100.0)
    timers.link_opened(101.0)
    timers.said_hello(101.0)
    assert timers.heartbeat_at == 101.5
    timers.welcomed(WELCOME, 102.0)
    assert (timers.heartbeat_at, timers.silent_at) == (104.0, 101.0 + 60.0)
    timers.link_closed(103.0)
    assert (timers.heartbeat_at, timers.open_at) == (math.inf, 104.0)


def test_the_intervals_of_a_welcome_end_with_its_session(timers: LinkTimers) -> None:
    before = timers.silent_at
    timers.welcomed(WELCOME, 100.0)
    timers.session_dropped()
    assert timers.silent_at == before


def test_a_pause_of_this_process_is_not_the_coordinators_silence(timers: LinkTimers) -> None:
    silent_at = timers.silent_at
    timers.shift_over_a_gap(101.0)
    assert timers.silent_at == silent_at, "two heartbeat intervals are no pause"
    timers.shift_over_a_gap(201.0)
    assert timers.silent_at == silent_at + 98.0
