"""A running trainer with two remote workers, to be attacked."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from enqueuer.security.key_directory import KeyDirectory
from tests.support.remote import REPOSITORY, RemoteWorker, environment

WORKERS = 2


class Target:
    """The trainer and its workers. ``files_limit`` 0: unchanged. ``keyed``: only peers with a token get in."""

    def __init__(self, directory: Path, length: int, files_limit: int = 0, *, keyed: bool = False) -> None:
        keys = KeyDirectory(directory / "keys")
        token = {}
        if keyed:
            keys.create()
            token["ENQUEUER_TOKEN_FILE"] = str(keys.token_file("worker"))
        key_file = str(keys.key_file) if keyed else ""
        self._stack = ExitStack()
        self.log = directory / "trainer.log"
        sink = self._stack.enter_context(self.log.open("wb"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.trainer_program", str(length), str(files_limit), key_file],
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
        self._stack.callback(self._end)
        try:
            place = self._hear()
            self.control: str = place["control"]
            self.data: str = place["data"]
            log = directory / "workers.log"
            self._stack.enter_context(RemoteWorker(self.control, log, WORKERS, variables=token))
        except BaseException:
            self._stack.close()
            raise

    def begin_epoch(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("epoch\n")
        self._process.stdin.flush()

    def end_epoch(self) -> dict[str, Any]:
        """Wait for the end of the epoch; returns the report of `trainer_program`."""
        return self._hear()

    def epoch(self) -> dict[str, Any]:
        self.begin_epoch()
        return self.end_epoch()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the trainer ended: {self.log.read_text(errors='replace')[-4000:]}"
        return dict(json.loads(line))

    def _end(self) -> None:
        """End the trainer by closing its stdin."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
