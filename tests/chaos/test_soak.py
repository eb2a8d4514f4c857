"""The soak in short: as a command, to its end and to a Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from tests.support.remote import REPOSITORY, environment


def start_soak(minutes: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.soak", "--minutes", str(minutes), "--seed", "1"],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def assert_all_is_well(process: subprocess.Popen[str], said: str = "") -> str:
    output, _ = process.communicate(timeout=100)
    output = said + output
    assert process.returncode == 0, output
    assert "lost 0, repeated 0, out of order 0, wrong 0" in output
    assert output.endswith("left behind: nothing\nall is well\n"), output
    return output


def test_twenty_seconds_of_faults_lose_and_leave_nothing() -> None:
    output = assert_all_is_well(start_soak(20 / 60))
    found = re.search(r"^faults (.*)$", output, re.MULTILINE)
    assert found is not None
    assert sum(int(count.split(" x ")[0]) for count in found[1].split(", ")) >= 15


def test_ctrl_c_ends_the_soak_with_its_summary() -> None:
    process = start_soak(30)
    assert process.stdout is not None
    said = ""
    while "soaking" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    assert_all_is_well(process, said)
