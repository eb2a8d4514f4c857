"""The figures of a worker's heartbeat: the kernel's, of this process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from enqueuer.protocol.messages import Heartbeat
from enqueuer_worker.process.usage import Usage

BEAT = Heartbeat((), 0, 0, 0, 0, 1.0, 0.0)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux")


def test_work_of_this_process_and_of_programs_that_it_waited_for_is_in_its_processor_seconds() -> None:
    usage = Usage(0.0)
    before = usage.told_in(BEAT).cpu_seconds
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    own = usage.told_in(BEAT).cpu_seconds - before
    assert own >= 0.08  # the kernel counts in hundredths of a second
    program = "import time\nwhile time.thread_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert usage.told_in(BEAT).cpu_seconds - before >= own + 0.18


def test_what_it_reads_and_its_memory_are_told(tmp_path: Path) -> None:
    usage = Usage(0.0)
    before = usage.told_in(BEAT)
    file = tmp_path / "file"
    file.write_bytes(bytes(300_000))
    kept = bytearray(50_000_000)
    kept[:] = b"x" * len(kept)
    assert len(file.read_bytes()) == 300_000
    after = usage.told_in(BEAT)
    assert 300_000 <= after.read_bytes - before.read_bytes < 400_000
    assert after.memory_bytes >= before.memory_bytes + 40_000_000


def test_a_moment_of_sending_stands_for_the_time_since_the_moment_before() -> None:
    usage = Usage(10.0)
    for now, is_sending in ((11.0, True), (12.0, False), (13.5, True)):
        usage.note_sending(is_sending, now)
    assert usage.told_in(BEAT).sending_seconds == 2.5
