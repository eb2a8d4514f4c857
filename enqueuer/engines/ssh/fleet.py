"""The hosts of one trainer: each has a connection, which is opened again after an end that was not expected.

    look for the trainer ── its addresses ──► connection ── end ──► done: drained from here, or there (exit code 0)
           ▲                                      │          │
           │                                      │          ├────► given up: only the user can mend it
           └── other addresses: drain ────────────┘          └────► pause, twice as long each time, and connection

One event loop runs all of it, in the main thread. The first signal drains all hosts, a second one ends them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

from enqueuer.engines.own_trainers import TrainerAddresses
from enqueuer.engines.ssh.command import SshLaunch, draw_ports
from enqueuer.engines.ssh.connection import Connection, open_connection
from enqueuer.engines.ssh.ends import explain_end
from enqueuer.engines.ssh.hosts import Host

_LOOK_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# After a connection that lived this long, the pauses begin again with the shortest.
_LONG_LIFE_SECONDS = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SshFleet:
    """`run` serves until all hosts have ended. Only the thread of its event loop uses this.

    ``find`` looks for the trainer; it is called in another thread, and returns None while there is none. ``say`` is
    called with a host's name ('' for all) and a line. ``token`` is '' for none; ``version`` is that of this library.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        launch: SshLaunch,
        find: Callable[[], TrainerAddresses | None],
        say: Callable[[str, str], None],
        *,
        token: str,
        version: str,
    ) -> None:
        self._hosts = hosts
        self._launch = launch
        self._find = find
        self._say = say
        self._token = token
        self._version = version
        self._trainer: TrainerAddresses | None = None
        # Set when the trainer was found, and at the end.
        self._may_begin = asyncio.Event()
        # Set when the trainer has other addresses; a new event takes its place.
        self._moved = asyncio.Event()
        self._ending = asyncio.Event()
        self._connections: set[Connection] = set()
        self._exit_code = 0

    async def run(self) -> int:
        """Return the exit code: 0 if each host's worker has drained, 1 if not, 128 + the number of a second signal."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        watch = asyncio.ensure_future(self._watch_trainer())
        try:
            drained = await asyncio.gather(*(self._keep(host) for host in self._hosts))
        finally:
            watch.cancel()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        return self._exit_code or (0 if all(drained) else 1)

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._ending.is_set():
            self._say("", f"{number.name}: draining all hosts; the same again ends them at once")
            self._ending.set()
            self._may_begin.set()
            for connection in self._connections:
                connection.drain()
        else:
            self._say("", f"{number.name} again: ending at once")
            self._exit_code = 128 + number
            for connection in self._connections:
                connection.end_now()

    async def _watch_trainer(self) -> None:
        while True:
            found = await asyncio.to_thread(self._find)
            if found is not None and found != self._trainer:
                self._trainer = found
                self._may_begin.set()
                self._moved.set()
                self._moved = asyncio.Event()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep(self, host: Host) -> bool:
        """Serve one host to its end; returns whether no worker was left to drain."""
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        await self._may_begin.wait()
        while not self._ending.is_set():
            assert self._trainer is not None
            moved, began_at = self._moved, clock()
            code, connection = await self._serve(host, self._trainer, moved)
            if self._ending.is_set():
                return code == 0 or not connection.has_started
            if moved.is_set():
                continue
            if code == 0:
                self._say(host.name, "its workers have left")
                return True
            lines = () if connection.has_started else connection.first_lines
            command = self._launch.remote_command
            end = explain_end(code, lines, host.name, command=command, version=self._version)
            if end.is_final:
                self._say(host.name, f"given up: {end.reason}")
                return False
            if clock() - began_at >= _LONG_LIFE_SECONDS:
                pause = _FIRST_PAUSE
            self._say(host.name, f"{end.reason}; trying again in {pause:g} s")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def _compare_versions(self, host: Host, there: str) -> None:
        if there != self._version:
            self._say(host.name, f"enqueuer {there} runs there, {self._version} here: install the same version")

    async def _serve(self, host: Host, trainer: TrainerAddresses, moved: asyncio.Event) -> tuple[int, Connection]:
        """Have one connection to the host until its end; returns its exit code. Drains it if the trainer moves."""
        command = self._launch.command(host, trainer, draw_ports())
        connection = await open_connection(
            command, lambda line: self._say(host.name, line), lambda there: self._compare_versions(host, there)
        )
        self._connections.add(connection)
        if self._token:
            connection.send(self._token)
        if self._ending.is_set():
            connection.drain()
        ended = asyncio.ensure_future(connection.wait())
        has_moved = asyncio.ensure_future(moved.wait())
        try:
            await asyncio.wait((ended, has_moved), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._say(host.name, "the trainer has other ports now: connecting anew")
                connection.drain()
            return await ended, connection
        finally:
            has_moved.cancel()
            ended.cancel()
            self._connections.discard(connection)
