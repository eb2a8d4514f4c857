"""The wait of a serving command ends with Ctrl-C, whichever thread the kernel gives the signal to."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import signal, threading, time
from enqueuer.cli.until_interrupted import wait_until_interrupted

def take_the_signal():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(60)

threading.Thread(target=take_the_signal, daemon=True).start()
try:
    wait_until_interrupted()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_that_another_thread_receives_ends_the_wait() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\n", "", 0)
