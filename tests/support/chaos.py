"""The chaos harness: a run that is consumed and checked while a test injects faults, and the faults.

    def test_…(chaos: Chaos) -> None:
        run = chaos.run(Steady(length=200), local=2)         # starts consuming, in a thread of its own
        run.wait_for_taken(20)
        kill(run.worker_pids()[0])                           # the fault
        tally = run.finish()                                 # to the end of the epoch; asserts that nothing is wrong
        assert tally.longest_gap <= 0.5

Afterwards the fixture ends what was started, by pid, and asserts that nothing is left on the host.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enqueuer import SequenceEnqueuer
from enqueuer.monitoring.stats import Stats
from tests.support.chaos_sequences import Steady
from tests.support.chaos_tally import Tally
from tests.support.leaks import Resources, alive, descendants, resources
from tests.support.remote import RemoteWorker, free_address
from tests.support.sequences import as_spec
from tests.support.waiting import wait_until

SEED = 7
# Generous, since other work may have the CPUs: a hang is what these find.
DEADLINE_SECONDS = 60.0


class Run:
    """One ``start()``, consumed in a thread of its own: ``epochs`` epochs, or until `finish` (None)."""

    def __init__(self, enqueuer: SequenceEnqueuer, tally: Tally, epochs: int | None) -> None:
        self.enqueuer = enqueuer
        self.tally = tally
        self.error: BaseException | None = None
        # As they were at the end.
        self.stats: Stats = self.enqueuer.stats()
        self._epochs_left = epochs
        self._is_last = False
        self._thread = threading.Thread(target=self._consume, name="chaos-consumer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ consuming

    def _consume(self) -> None:
        try:
            while not self._is_last and self._epochs_left != 0 and self.enqueuer.is_running():
                for batch in self.enqueuer.epoch():
                    self.tally.take(batch, time.monotonic())
                self.tally.end_epoch()
                if self._epochs_left is not None:
                    self._epochs_left -= 1
        except BaseException as error:
            self.error = error

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait_for_taken(self, count: int, deadline: float = DEADLINE_SECONDS) -> None:
        """Wait until that many batches were taken since the start."""
        wait_until(lambda: self.tally.taken_count >= count or self.is_over(), deadline, f"{count} batches")
        assert self.tally.taken_count >= count, f"it ended after {self.tally.taken_count} batches: {self.error!r}"

    def wait_for_more(self, count: int, deadline: float = DEADLINE_SECONDS) -> None:
        """Wait until that many more batches were taken."""
        self.wait_for_taken(self.tally.taken_count + count, deadline)

    def finish(self, deadline: float = DEADLINE_SECONDS) -> Tally:
        """Let the run end after its epochs, or after the present one. Asserts that each position was delivered once, in
        order and right; raises the error that ``next()`` raised.
        """
        tally = self.end(deadline)
        if self.error is not None:
            raise self.error
        assert tally.faults() == {}, tally.summary()
        assert tally.taken_count == (tally.epoch - tally.first_epoch) * tally.length > 0
        return tally

    def failure(self, deadline: float = DEADLINE_SECONDS) -> BaseException:
        """Wait for the run to end with an error, and return it."""
        wait_until(self.is_over, deadline, "the end of the run")
        assert self.error is not None, f"it ended well, after {self.tally.taken_count} batches"
        return self.error

    def end(self, deadline: float = DEADLINE_SECONDS) -> Tally:
        """Let the run end as `finish` does, without checking its batches."""
        self._is_last = self._epochs_left is None
        wait_until(self.is_over, deadline, "the end of the run")
        self.stats = self.enqueuer.stats()
        self.enqueuer.stop()
        return self.tally

    def abandon(self) -> None:
        """Stop the run at once."""
        self.enqueuer.close()
        self._thread.join(DEADLINE_SECONDS)
        assert self.is_over(), "the consumer was not released by stop()"

    # ------------------------------------------------------------ the fleet

    def worker_pids(self) -> list[int]:
        """The pids of the worker processes that serve now."""
        return [worker.pid for worker in self.enqueuer.stats().workers]

    def wait_for_workers(self, count: int, apart_from: int = 0, deadline: float = DEADLINE_SECONDS) -> list[int]:
        """Wait until ``count`` workers serve, none of them process ``apart_from``; returns their pids."""

        def is_whole() -> bool:
            pids = self.worker_pids()
            return self.is_over() or (len(pids) == count and apart_from not in pids)

        wait_until(is_whole, deadline, f"a fleet of {count} workers")
        assert not self.is_over(), f"the run ended meanwhile: {self.error!r}"
        return self.worker_pids()

    def local_supervisor(self) -> int:
        """The pid of the parent of the local worker processes."""
        local = [worker.pid for worker in self.enqueuer.stats().workers if worker.local]
        return parent_of(local[0])


class Chaos:
    """Starts runs and remote worker programs, and ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runs: list[Run] = []
        self._enqueuers: list[SequenceEnqueuer] = []
        self._remotes: list[RemoteWorker] = []
        self._numbers = itertools.count()

    def run(
        self,
        sequence: Any,
        *,
        local: int = 2,
        remote: int = 0,
        epochs: int | None = 1,
        max_queue_size: int = 10,
        **options: Any,
    ) -> Run:
        """Start an enqueuer of this dataclass Sequence, as its spec, and consume it; shuffled and seeded unless
        ``options`` say otherwise. ``remote`` > 0 also starts that many remote worker processes, under one supervisor.
        Nothing is computed before all workers serve; returns when they do.
        """
        options.setdefault("min_workers", local + remote)
        if remote:
            options.setdefault("bind", free_address())
            self.remote(options["bind"], remote)
        enqueuer = self.enqueuer(as_spec(sequence), **options)
        enqueuer.start(local, max_queue_size)
        run = self.consume(enqueuer, sequence, epochs)
        run.wait_for_workers(local + remote)
        return run

    def enqueuer(self, sequence: Any, **options: Any) -> SequenceEnqueuer:
        """Make an enqueuer that is closed after the test: shuffled, seeded, with processes as local workers."""
        made = SequenceEnqueuer(sequence, True, **{"shuffle": True, "seed": SEED, **options})
        self._enqueuers.append(made)
        return made

    def consume(self, enqueuer: SequenceEnqueuer, sequence: Any, epochs: int | None = 1, first_epoch: int = 0) -> Run:
        """Make a run that consumes a started enqueuer."""
        options = enqueuer._options
        seed = options.seed if options.shuffle else None
        tally = Tally(len(sequence), seed=seed, first_epoch=first_epoch, tag=sequence.tag, ordered=options.ordered)
        run = Run(enqueuer, tally, epochs)
        self._runs.append(run)
        return run

    def remote(self, address: str, processes: int = 2, *arguments: str) -> RemoteWorker:
        """Start a remote worker program that connects to this address; it is ended after the test."""
        log = self.directory / f"remote-{next(self._numbers)}.log"
        started = RemoteWorker(address, log, processes, ("--drain-timeout", "5", *arguments))
        self._remotes.append(started)
        return started

    @property
    def remotes(self) -> list[RemoteWorker]:
        """The remote worker programs, in the order of their starts."""
        return self._remotes

    def forget_ended(self) -> None:
        """Forget the remote programs that have ended; a long run has many."""
        self._remotes = [remote for remote in self._remotes if remote.alive()]

    def close(self) -> None:
        """End all that was started."""
        for enqueuer in self._enqueuers:
            enqueuer.close()
        for run in self._runs:
            run.abandon()
        workers = set[int]().union(*(descendants(remote.pid) for remote in self._remotes if remote.alive()))
        for remote in self._remotes:
            remote.stop(timeout=8.0)
        wait_until(lambda: not alive(workers), what="the end of the remote workers")

    def forget(self) -> None:
        """Drop all references that could count as left behind."""
        self._runs, self._enqueuers, self._remotes = [], [], []


# ---------------------------------------------------------------- nothing is left


def warm_up() -> None:
    """Import and open all that a process keeps for good, so that it does not count as left behind."""
    with SequenceEnqueuer(as_spec(Steady(length=4, seconds=0)), True, bind="tcp://127.0.0.1:0", seed=1) as enqueuer:
        enqueuer.start(1)
        list(enqueuer.epoch())


def left_behind(before: Resources) -> list[str]:
    """The resources of process and host beyond ``before``, in words; waits for those that are about to end."""

    def left() -> list[str]:
        gc.collect()
        return resources().beyond(before)

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not left(), what="nothing left")
    return left()


# ---------------------------------------------------------------- faults


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_with_children(pid: int) -> None:
    """Kill a parent and its children at once: it is stopped first, so that it neither sees nor replaces a death."""
    os.kill(pid, signal.SIGSTOP)
    for child in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            kill(child)
    kill(pid)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop the process (SIGSTOP) in the block, and always continue it (SIGCONT) afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def parent_of(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def pause(seconds: float) -> None:
    """Sleep while a fault lasts: the only fixed time that these tests need."""
    time.sleep(seconds)
