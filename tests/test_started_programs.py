"""Programs are found by their mark, and by their session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from enqueuer.started_programs import end_programs, mark

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are found in /proc")


class Programs:
    """Starts sleeping programs, which end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, supervisor: str = "", incarnation: str = "", *, session: bool = False) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if supervisor:
            mark(environment, supervisor, incarnation)
        process = subprocess.Popen(["sleep", "60"], env=environment, start_new_session=session)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@pytest.fixture
def programs() -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(stack)


def test_programs_of_one_worker_end_and_those_of_another_stay(programs: Programs) -> None:
    supervisor = os.urandom(16).hex()
    one, other, unmarked = programs.start(supervisor, "01"), programs.start(supervisor, "02"), programs.start()
    end_programs(supervisor, "01")
    assert one.wait(10) < 0
    assert other.poll() is None
    assert unmarked.poll() is None


def test_programs_of_all_workers_of_one_supervisor_end(programs: Programs) -> None:
    supervisor = os.urandom(16).hex()
    one, other = programs.start(supervisor, "01"), programs.start(supervisor, "02")
    of_another = programs.start(f"{supervisor}0", "01")
    end_programs(supervisor)
    assert one.wait(10) < 0
    assert other.wait(10) < 0
    assert of_another.poll() is None


def test_programs_of_a_session_end_without_a_mark(programs: Programs) -> None:
    program, other = programs.start(session=True), programs.start(session=True)
    end_programs("none", sessions=[program.pid])
    assert program.wait(10) < 0
    assert other.poll() is None
