"""The long run: one trainer, a random fault each second, everything counted.

`python -m tests.chaos.soak --minutes 30 [--seed S]` feeds a trainer from three local processes and from two under a
remote worker program, and kills, stops and drains them all the time. It prints a line every 10 s and a summary at the
end (or at Ctrl-C); the exit code is 1 if a batch was lost, repeated, out of order or wrong, if anything was left on the
host, if the stream stood still for as long as a hang, or if the trainer's memory grew after the first minute.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from tests.support.chaos import Chaos, kill, kill_with_children, left_behind, warm_up
from tests.support.chaos_sequences import Steady
from tests.support.leaks import descendants, resources

_LOCAL, _REMOTE = 3, 2
_EPOCH_LENGTH = 300
_FAULT_SECONDS = 1.0
_REPORT_SECONDS = 10.0
_STEP_SECONDS = 0.02
_BASELINE_SECONDS = 60.0
_MAX_GROWTH = 1.05
# Several faults in a row may hit the batch that is next; no row of them is this long.
_HANG_SECONDS = 30.0
# Three local supervisors in a row that die younger than 5 s end the run, as they should.
_SUPERVISOR_AGE = 6.0
_FLEET_SECONDS = 60.0
_END_SECONDS = 120.0


class Soak:
    """One run. ``random_source`` chooses each fault, its time and its victim."""

    def __init__(self, directory: Path, random_source: random.Random) -> None:
        self._random = random_source
        self._chaos = Chaos(directory)
        self._run = self._chaos.run(
            Steady(length=_EPOCH_LENGTH), local=_LOCAL, remote=_REMOTE, epochs=None, max_worker_deaths=None
        )
        self._address = str(self._run.enqueuer.endpoint)
        self._remote = self._chaos.remotes[0]
        self._supervisor = self._run.local_supervisor()
        self._supervisor_born = time.monotonic()
        self._faults: dict[str, Callable[[], bool]] = {
            "worker killed": self._kill_worker,
            "worker stopped": self._stop_worker,
            "supervisor stopped": self._stop_supervisor,
            "remote program killed": self._kill_remote,
            "remote program drained": self._drain_remote,
            "local supervisor killed": self._kill_local_supervisor,
        }
        # (when to continue it, pid)
        self._stopped: list[tuple[float, int]] = []
        self._recent: deque[tuple[float, str]] = deque(maxlen=30)
        self._longest_gap = 0.0
        self._around_gap = "nothing"
        self._baseline_bytes = 0
        self.counts: Counter[str] = Counter()

    # ------------------------------------------------------------ the run

    def go_on(self, seconds: float) -> None:
        """Inject faults until the time is over or the stream has ended."""
        began = time.monotonic()
        fault_at, report_at = began + _FAULT_SECONDS, began + _REPORT_SECONDS
        while (now := time.monotonic()) < began + seconds and not self._run.is_over():
            self._continue_stopped(now)
            self._look_at_gap()
            if now >= fault_at:
                self._inject(now)
                fault_at += _FAULT_SECONDS
            if now >= report_at:
                self._chaos.forget_ended()
                print(self._progress(now - began), flush=True)
                report_at += _REPORT_SECONDS
            if not self._baseline_bytes and now - began >= _BASELINE_SECONDS:
                self._baseline_bytes = resident_bytes()
            time.sleep(_STEP_SECONDS)

    def end(self) -> list[str]:
        """Let the epoch end and close everything; returns the problems, in words."""
        self._continue_stopped(float("inf"))
        grown = self._growth()
        try:
            tally = self._run.end(_END_SECONDS)
        finally:
            self._chaos.close()
        self._look_at_gap()
        wrong = [f"{count} batches {kind}" for kind, count in tally.faults().items()]
        if self._run.error is not None:
            wrong.append(f"the stream ended with {self._run.error!r}")
        if tally.longest_gap > _HANG_SECONDS:
            wrong.append(f"the stream stood still for {tally.longest_gap:.1f} s")
        if grown > _MAX_GROWTH:
            wrong.append(f"the trainer's memory grew to {grown:.1%}")
        return wrong

    def summary(self) -> str:
        tally = self._run.tally
        memory = f"RSS {self._growth():.1%} of what it was after {_BASELINE_SECONDS:.0f} s"
        return "\n".join(
            [
                f"batches {tally.taken_count}, in {tally.epoch} epochs",
                f"lost {tally.lost_count}, repeated {tally.repeated_count}, out of order {tally.out_of_order_count}, "
                f"wrong {tally.wrong_count}",
                f"faults {self._counts()}",
                f"longest gap {tally.longest_gap:.3f} s, around it: {self._around_gap}",
                memory if self._baseline_bytes else "too short to judge the RSS",
            ]
        )

    def _progress(self, elapsed: float) -> str:
        return (
            f"{elapsed:6.0f} s: {self._run.tally.taken_count} batches; {self._counts()}; longest gap "
            f"{self._run.tally.longest_gap:.3f} s; RSS {resident_bytes() / 1e6:.1f} MB"
        )

    def _counts(self) -> str:
        return ", ".join(f"{count} x {kind}" for kind, count in sorted(self.counts.items())) or "none"

    def _growth(self) -> float:
        return resident_bytes() / self._baseline_bytes if self._baseline_bytes else 1.0

    def _look_at_gap(self) -> None:
        gap, end = self._run.tally.longest_gap, self._run.tally.gap_end
        if gap > self._longest_gap:
            self._longest_gap = gap
            around = [f"{kind} {end - at:.2f} s before its end" for at, kind in self._recent if at > end - gap - 1]
            self._around_gap = ", ".join(around) or "nothing"

    # ------------------------------------------------------------ faults

    def _inject(self, now: float) -> None:
        """Inject the next fault that is possible now: there may be no process to stop."""
        kinds = list(self._faults)
        self._random.shuffle(kinds)
        for kind in kinds:
            with contextlib.suppress(ProcessLookupError):
                if self._faults[kind]():
                    self.counts[kind] += 1
                    self._recent.append((now, kind))
                    return

    def _continue_stopped(self, now: float) -> None:
        for entry in [entry for entry in self._stopped if entry[0] <= now]:
            self._stopped.remove(entry)
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry[1], signal.SIGCONT)

    def _stop_for_a_while(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + self._random.uniform(0.1, 3.0), pid))

    def _kill_worker(self) -> bool:
        pids = self._run.worker_pids()
        if pids:
            kill(self._random.choice(pids))
        return bool(pids)

    def _stop_worker(self) -> bool:
        pids = self._run.worker_pids()
        if pids:
            self._stop_for_a_while(self._random.choice(pids))
        return bool(pids)

    def _stop_supervisor(self) -> bool:
        local = self._local_supervisor()
        self._stop_for_a_while(self._random.choice([self._remote.pid, *([local] if local else [])]))
        return True

    def _kill_remote(self) -> bool:
        self._random.choice([kill, kill_with_children])(self._remote.pid)
        self._remote.stop()
        self._remote = self._chaos.remote(self._address, _REMOTE)
        return True

    def _drain_remote(self) -> bool:
        os.kill(self._remote.pid, signal.SIGTERM)
        self._remote = self._chaos.remote(self._address, _REMOTE)
        return True

    def _kill_local_supervisor(self) -> bool:
        found = self._local_supervisor()
        if found is None or time.monotonic() < self._supervisor_born + _SUPERVISOR_AGE:
            return False
        self._random.choice([kill, kill_with_children])(found)
        return True

    def _local_supervisor(self) -> int | None:
        """The pid of the local supervisor; its age counts from the first time that it was seen."""
        found = next((pid for pid in descendants(os.getpid()) if "enqueuer_worker.local" in command_of(pid)), None)
        if found is not None and found != self._supervisor:
            self._supervisor, self._supervisor_born = found, time.monotonic()
        return found


def command_of(pid: int) -> str:
    """The command line of a process; '' once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def resident_bytes() -> int:
    """The resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def soak(seconds: float, seed: int) -> list[str]:
    """Do a whole run; returns the problems, in words."""
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, tempfile.TemporaryDirectory(prefix="logs-") as logs:
        tempfile.tempdir = os.environ["TMPDIR"] = directory
        warm_up()
        before = resources()
        made = Soak(Path(logs), random.Random(seed))
        with contextlib.suppress(KeyboardInterrupt):
            print("soaking", flush=True)
            made.go_on(seconds)
        wrong = made.end()
        print(made.summary())
        del made
        left = left_behind(before)
        tempfile.tempdir = None
    print(f"left behind: {', '.join(left) or 'nothing'}")
    return wrong + left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    # Each fault is reported; that is not what is of interest here.
    logging.getLogger("enqueuer").setLevel(logging.ERROR)
    print(f"seed {seed}", flush=True)
    wrong = soak(60 * arguments.minutes, seed)
    print("\n".join(["WRONG:", *wrong]) if wrong else "all is well", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
