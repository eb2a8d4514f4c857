"""Runs `tests.chaos.trainer_program` for a test: follows the batches that it takes, and reads its report."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.chaos import DEADLINE_SECONDS
from tests.support.remote import REPOSITORY, environment
from tests.support.waiting import wait_until


class TrainerProgram:
    """The running program: started when made, and killed at the end of its ``with`` block if it still runs.

    ``arguments`` become options: ``epochs=2`` is ``--epochs 2``, ``unordered=True`` is ``--unordered``. ``prefix``
    is a command that runs another one somewhere (``ip netns exec …``). Its stderr goes to the file ``log``.
    """

    def __init__(
        self,
        log: Path,
        *,
        prefix: Sequence[str] = (),
        extra_environment: Mapping[str, str] | None = None,
        **arguments: object,
    ) -> None:
        command = [*prefix, sys.executable, "-m", "tests.chaos.trainer_program"]
        for name, value in arguments.items():
            command.append(f"--{name.replace('_', '-')}")
            if value is not True:
                command.append(str(value))
        self.log = log
        self.taken_count = 0
        self.lines: list[str] = []
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**environment(), **(extra_environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, name="trainer-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("taken "):
                self.taken_count = int(line.split()[1])
            else:
                self.lines.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """The error output of the program."""
        return "\n".join([*self.lines, self.log.read_text(errors="replace")])

    def wait_for_taken(self, count: int, deadline: float = DEADLINE_SECONDS) -> None:
        """Wait until the program has taken that many batches."""
        wait_until(
            lambda: self.taken_count >= count or not self._reader.is_alive(),
            deadline,
            f"{count} batches of the trainer",
        )
        assert self.taken_count >= count, self.output()

    def report(self, deadline: float = DEADLINE_SECONDS) -> dict[str, Any]:
        """Wait for the program's end and return its report; asserts that each batch came once, in order and right, and
        that the program left no socket.
        """
        code = self.process.wait(deadline)
        self._reader.join(deadline)
        assert code == 0, self.output()
        report: dict[str, Any] = json.loads(self.lines[-1])
        assert report["faults"] == {} and report["left"] == [], report
        return report

    def __enter__(self) -> TrainerProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
