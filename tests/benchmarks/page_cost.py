"""What `enqueuer dashboard` costs: `python -m tests.benchmarks.page_cost [--workers 1000] [--seconds 30]`.

Processor time of the server and of the whole browser (Debian's `chromium`, headless) with the page open in it, beside
a real trainer with a fleet of workers on the wire (`fake_fleet.py`). The start and the first round of pages are left
out. The bar is a fifth of a core for each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks.top_cost import cpu_seconds, trainer
from tests.support.leaks import descendants
from tests.support.remote import REPOSITORY, environment

_WIDTHS = (1280, 360)
_WARM_UP_SECONDS = 20.0
_BAR = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    print(f"{arguments.workers} workers; the bar is {_BAR:.0%} of a core")
    with trainer(arguments.workers) as endpoint, dashboard(endpoint) as (server, url):
        for width in _WIDTHS:
            with browser(url, width) as root:
                time.sleep(_WARM_UP_SECONDS)
                before, began = (cpu_seconds(server), tree_cpu_seconds(root)), time.monotonic()
                time.sleep(arguments.seconds)
                after, passed = (cpu_seconds(server), tree_cpu_seconds(root)), time.monotonic() - began
            shares = [(late - early) / passed for early, late in zip(before, after, strict=True)]
            print(f"{width} px wide: server {shares[0]:.1%}, browser {shares[1]:.1%}", flush=True)


@contextmanager
def dashboard(endpoint: str) -> Iterator[tuple[int, str]]:
    """The process id of the server, and the address of its page."""
    command = [sys.executable, "-m", "enqueuer", "dashboard", endpoint, "--port", "0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        assert program.stdout is not None
        try:
            line = next(line for line in program.stdout if "http://" in line)
            yield program.pid, next(word for word in line.split() if word.startswith("http://"))
        finally:
            program.kill()


@contextmanager
def browser(url: str, width: int) -> Iterator[int]:
    """The process id of a browser with the page open; its other processes are this one's descendants."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-extensions"]
        options += [f"--user-data-dir={profile}", f"--window-size={width},800"]
        with subprocess.Popen(
            ["chromium", *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as program:
            try:
                yield program.pid
            finally:
                program.terminate()


def tree_cpu_seconds(root: int) -> float:
    """The processor time of the process and all its descendants."""
    return sum(map(cpu_seconds, {root, *descendants(root)}))


if __name__ == "__main__":
    main()
