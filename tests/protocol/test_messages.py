"""The words for a worker process's exit code."""

from __future__ import annotations

import pytest

from enqueuer.protocol.messages import ExitCode, describe_exit, describe_exits

NO_HANDLER = " (a handler that the script sets by signal.signal() is set in workers by worker_init=)"


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (ExitCode.RECYCLE, "has computed its share"),
        (ExitCode.REFUSED, "was refused, or could not build the Sequence"),
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (out of memory?)"),
        (-14, f"was killed by SIGALRM{NO_HANDLER}"),
        (-250, "was killed by signal 250"),
    ],
)
def test_an_exit_code_is_described_in_words(exit_code: int, words: str) -> None:
    assert describe_exit(exit_code) == words


def test_the_exit_code_of_a_worker_that_was_computing_is_the_users_own() -> None:
    assert describe_exit(ExitCode.REFUSED, at_work=True) == "ended with exit code 3"
    assert describe_exits([ExitCode.REFUSED, ExitCode.REFUSED, -11]) == (
        "ended with exit code 3 (2 times), was killed by SIGSEGV"
    )
