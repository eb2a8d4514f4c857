"""One connection to a host: an OpenSSH client, its output and the remote program's, and the way to end both."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence

# A worker ends after a multiple of this without a sign of life.
_SIGN_OF_LIFE_SECONDS = 5.0
# More than an error takes, the banner of a changed host key included.
_LINES_KEPT = 20
# The first line of a worker started by `enqueuer launch ssh`.
_STARTED = re.compile(r"enqueuer (\S+)")
# The client's line for each attempt of a worker to reach a trainer that does not run. The worker tells of the first one
# itself, and then counts.
_NO_TRAINER = re.compile(r"connect_to \S+ port \d+: failed\.")
_CHUNK = 64 * 1024
# How long an ended client's pipes may stay open: a program that it started may hold them.
_PIPES_SECONDS = 1.0
# How long a client may take to end once its worker was told to end at once.
_AT_ONCE_SECONDS = 3.0

Say = Callable[[str], None]


class Connection:
    """Made by `open_connection`. Once `wait` has returned, no process is left here."""

    def __init__(self, process: asyncio.subprocess.Process, say: Say, tell_version: Say) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process = process
        self._stdin = process.stdin
        self._say = say
        self._tell_version = tell_version
        # Whether the worker has started.
        self.has_started = False
        # The lines before that: they hold the reason if it does not start.
        self.first_lines: list[str] = []
        self._is_draining = False
        self._readers = [asyncio.ensure_future(self._read(pipe)) for pipe in (process.stdout, process.stderr)]
        self._signs = asyncio.ensure_future(self._show_life())
        self._kill_soon: asyncio.TimerHandle | None = None

    async def wait(self) -> int:
        """Wait for the end of the client; returns its exit code. A cancelled wait kills it."""
        try:
            code = await self._process.wait()
            await asyncio.wait(self._readers, timeout=_PIPES_SECONDS)
            return code
        finally:
            for task in (self._signs, *self._readers):
                task.cancel()
            if self._kill_soon is not None:
                self._kill_soon.cancel()
            if self._process.returncode is None:
                self._kill()
                await self._process.wait()

    def send(self, line: str) -> None:
        """Write a line to the standard input of the program there."""
        if not self._stdin.is_closing():
            self._stdin.write(f"{line}\n".encode())

    def drain(self) -> None:
        """Have the worker drain; the client ends with it. A client without a connection yet is ended itself."""
        if self._is_draining:
            return  # a second time would end the worker at once
        self._is_draining = True
        if self.has_started:
            self.send("drain")
        else:
            # Should its worker have started meanwhile, it drains as its standard input ends.
            self._process.terminate()

    def end_now(self) -> None:
        """Have a draining worker end at once, and soon kill the client."""
        self._stdin.close()
        self._kill_soon = asyncio.get_running_loop().call_later(_AT_ONCE_SECONDS, self._kill)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _show_life(self) -> None:
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_SECONDS)
            self.send("")

    async def _read(self, pipe: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await pipe.read(_CHUNK):
            # A progress bar ends its lines by a carriage return alone.
            *complete, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in filter(None, complete):
                self._show(line)
        if rest:
            self._show(rest)

    def _show(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if not self.has_started:
            if (found := _STARTED.fullmatch(text)) is not None:
                self.has_started = True
                self._tell_version(found[1])
                return
            if len(self.first_lines) < _LINES_KEPT:
                self.first_lines.append(text)
        if _NO_TRAINER.fullmatch(text) is None:
            self._say(text)


async def open_connection(command: Sequence[str], say: Say, tell_version: Say) -> Connection:
    """Start the client. Raises OSError if that is impossible.

    ``say`` is called with each line of both ends, and ``tell_version`` when the worker has started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A terminal's Ctrl-C is for the launcher: it would end the client, and with it the tunnels before the drain.
        start_new_session=True,
    )
    return Connection(process, say, tell_version)
