"""A real supervisor that ends with the program at its standard input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from enqueuer import __version__
from enqueuer.protocol.messages import Drain, Heartbeat, Role
from enqueuer.security.keys import WorkerToken, new_secret_key, public_key_of
from tests.support.leaks import alive, descendants
from tests.support.remote import REPOSITORY, environment, free_address
from tests.worker.scripted_coordinator import ScriptedCoordinator

Program = subprocess.Popen[bytes]
Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a worker with a pipe as its standard input; killed after the test if it still runs."""
    started: list[Program] = []

    def start_one(address: str, *arguments: str) -> Program:
        command = [sys.executable, "-m", "enqueuer_worker", "--connect", address, "--allow", "tests", *arguments]
        started.append(
            subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        )
        return started[-1]

    yield start_one
    for program in started:
        with program:  # closes its pipes
            program.kill()


def write(program: Program, line: bytes) -> None:
    assert program.stdin is not None
    program.stdin.write(line)


def ended(program: Program) -> tuple[int, str]:
    """The exit code, and what it has logged. Leaves its standard input open."""
    assert program.stderr is not None
    log = program.stderr.read().decode()
    return program.wait(30), log


def test_the_token_is_the_first_line_of_standard_input_and_a_line_drains(start: Start) -> None:
    program = start(free_address(), "--token-file", "-", "--stdin-timeout", "60")
    token = WorkerToken(public_key_of(new_secret_key()), new_secret_key()).to_text()
    write(program, f"{token}\n\ndra".encode())
    write(program, b"in\n")
    assert program.stdout is not None and program.stdout.read() == f"enqueuer {__version__}\n".encode()
    code, log = ended(program)
    assert code == 0, log
    assert "SIGTERM: draining" in log and token not in log


def test_a_line_that_is_no_token_is_an_error_that_does_not_repeat_it(start: Start) -> None:
    program = start(free_address(), "--token-file", "-")
    write(program, b"a secret of another kind\n")
    code, log = ended(program)
    assert code == 2 and "the first line of standard input is not a worker's token" in log
    assert "secret" not in log


def test_the_end_of_standard_input_drains(start: Start) -> None:
    program = start(free_address(), "--stdin-timeout", "60")
    assert program.stdin is not None
    program.stdin.close()
    code, log = ended(program)
    assert code == 0 and "standard input has ended" in log


def test_silence_on_standard_input_drains_and_is_a_failure(start: Start) -> None:
    code, log = ended(start(free_address(), "--stdin-timeout", "0.2"))
    assert code == 1 and "nothing came on standard input for 0.2 s" in log


def test_the_end_of_standard_input_ends_a_drain_at_once(start: Start) -> None:
    with ScriptedCoordinator(sequence=["tests.worker.sequences:Moody", {"moods": {"0": "sleep 60"}}]) as coordinator:
        program = start(coordinator.address, "--stdin-timeout", "60")
        coordinator.let_in(Role.SUPERVISOR)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        children = descendants(program.pid)
        write(program, b"drain\n")
        coordinator.expect(Drain)
        assert program.stdin is not None
        program.stdin.close()
        assert ended(program)[0] == 128 + 15
    assert children and not alive(children)
