"""The soak run for a short time as a command: to its end, and to a Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.support.remote import REPOSITORY, environment


@contextlib.contextmanager
def soak(minutes: float) -> Iterator[subprocess.Popen[str]]:
    """The program in a process group of its own, which is empty in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.soak", "--minutes", str(minutes), "--seed", "1"],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Python takes no Ctrl-C where that was ignored from the start, as shells have it for background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def assert_all_is_well(process: subprocess.Popen[str], said: str = "") -> str:
    output, _ = process.communicate(timeout=100)
    output = said + output
    assert process.returncode == 0, output
    assert "lost 0, repeated 0, out of order 0, wrong 0" in output
    assert output.endswith("left behind: nothing\nall is well\n"), output
    return output


def test_twenty_seconds_of_faults_lose_and_leave_nothing() -> None:
    with soak(20 / 60) as process:
        output = assert_all_is_well(process)
    found = re.search(r"^faults (.*)$", output, re.MULTILINE)
    assert found is not None
    assert sum(int(count.split(" x ")[0]) for count in found[1].split(", ")) >= 15


def test_ctrl_c_ends_the_soak_with_its_summary() -> None:
    with soak(30) as process:
        assert process.stdout is not None
        said = ""
        while "soaking" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        assert_all_is_well(process, said)
