"""The probe for threads that hold the interpreter."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from enqueuer.monitoring import interpreter
from enqueuer.monitoring.interpreter import InterpreterProbe, measure_delay


def test_it_probes_once_a_second_and_only_while_a_consumer_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    delays = iter([0.005, 0.001, 0.004])
    monkeypatch.setattr(interpreter, "measure_delay", lambda: next(delays))
    probe = InterpreterProbe(100.0)
    probe.look(100.0, is_waiting=False)
    assert probe.probes_count == 0
    for now in (100.2, 100.9, 101.1, 101.3, 102.2):
        probe.look(now, is_waiting=True)
    probe.look(200.0, is_waiting=False)
    assert (probe.probes_count, probe.held_count) == (2, 1)
    probe.look(200.0, is_waiting=True)
    assert (probe.probes_count, probe.held_count) == (3, 2)


def test_python_code_in_another_thread_delays_the_next_turn_and_an_idle_thread_does_not() -> None:
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            sum(range(10_000))

    least = sys.getswitchinterval() / 2
    assert min(measure_delay() for _ in range(31)) < least
    thread = threading.Thread(target=hold)
    thread.start()
    try:
        # On a busy machine the thread may miss the moments in which the interpreter is free.
        deadline = time.monotonic() + 60
        while measure_delay() < least:
            assert time.monotonic() < deadline, "the thread was never seen to hold the interpreter"
    finally:
        stop.set()
        thread.join()
