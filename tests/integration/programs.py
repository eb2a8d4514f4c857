"""Trainers and workers as programs, each on the host of its command's prefix, and the batches of a trainer."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.leaks import alive, descendants
from tests.support.remote import REPOSITORY, environment
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch taken by a trainer: its position, the worker's pid, its content, and the time (monotonic clock)."""

    epoch: int
    index: int
    pid: int
    value: int | None
    at: float


def assert_exact(batches: Sequence[Taken], length: int, sign: int = 1) -> None:
    """Assert whole epochs: each index once and in order, with its own content."""
    epochs, rest = divmod(len(batches), length)
    assert rest == 0, f"{len(batches)} batches are no whole epochs of {length}"
    assert [(batch.epoch, batch.index) for batch in batches] == [
        (epoch, index) for epoch in range(epochs) for index in range(length)
    ]
    assert [batch.value for batch in batches] == [sign * batch.index for batch in batches]


def longest_gap(batches: Sequence[Taken]) -> float:
    """The longest time between two batches, in seconds."""
    return max(later.at - earlier.at for earlier, later in itertools.pairwise(batches))


class Trainer:
    """A running `trainer_program`, started when made. `batches` grows with each batch that it takes."""

    def __init__(self, where: list[str], address: str, *arguments: str, log: Path) -> None:
        command = [*where, sys.executable, "-m", "tests.integration.trainer_program", address, *arguments]
        self.batches: list[Taken] = []
        self.bound_at = 0.0
        self._stats: dict[str, Any] = {}
        self._log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, count: int, deadline: float = 30.0) -> None:
        """Wait until the trainer has taken so many batches in all."""
        wait_until(lambda: len(self.batches) >= count or self._ended(), deadline, f"{count} batches at {self._log}")
        assert len(self.batches) >= count, self.output()

    def wait_until_served_by(self, pids: set[int], since: float, count: int = 10, deadline: float = 30.0) -> float:
        """Wait for so many batches of these workers after ``since``; returns the time of the first."""

        def found() -> list[float]:
            return [batch.at for batch in list(self.batches) if batch.pid in pids and batch.at > since]

        wait_until(lambda: len(found()) >= count or self._ended(), deadline, f"{count} batches of {pids}")
        assert not self._ended(), self.output()
        return found()[0]

    def finish(self, deadline: float = 40.0) -> dict[str, Any]:
        """Let the trainer take this epoch's last batches; returns its statistics."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(deadline) == 0, self.output()
        self._reader.join()
        return self._stats

    def kill(self) -> None:
        """Kill the trainer (SIGKILL). Then `batches` has all that it took before."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _ended(self) -> bool:
        return not self._reader.is_alive()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "index" in said:
                self.batches.append(Taken(**said))
            elif "bound_at" in said:
                self.bound_at = said["bound_at"]
            else:
                self._stats = said


class Workers:
    """A running `enqueuer worker`, started when made. On exit it is ended with all its processes."""

    def __init__(self, where: list[str], address: str, *arguments: str, log: Path, processes: int = 1) -> None:
        command = [*where, sys.executable, "-m", "enqueuer_worker", "--connect", address, "--allow", "tests"]
        # The batches name their workers, so no two machines make the same ones.
        command.append("--allow-skew")
        if "--token-file" not in arguments:
            command.append("--insecure")
        self.log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [*command, "--processes", str(processes), *arguments],
                cwd=REPOSITORY,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def pids(self) -> set[int]:
        """The pids of the worker processes."""
        return descendants(self._process.pid)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, deadline: float = 40.0) -> int:
        """Ask the program to drain (SIGTERM), kill it after the deadline; returns its exit code."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(deadline)
        self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pids = self.pids()
        code = self.stop()
        assert not alive(pids), f"processes of workers that have ended: {alive(pids)}"
        assert error is not None or code == 0, self.output()


@contextlib.contextmanager
def said_on_failure(*programs: Trainer | Workers) -> Iterator[None]:
    """Print the workers' log if the test fails."""
    try:
        yield
    except BaseException:
        for program in programs:
            print(program.output())
        raise
