"""A TCP middlebox between workers and a trainer that forgets, stalls and resets connections, in a thread of its own.

What it has read it has acknowledged: the sender's kernel takes it for delivered. Bytes that vanish here therefore
vanish without an error, as in a real NAT or firewall; the stream is never continued after them, only reset or left
half-open, since TCP would not continue it either.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
import socket
import struct
import termios
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

WORKER = 0  # the side that connects
TRAINER = 1
_CHUNK_BYTES = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Flow:
    """One connection through the box: a socket to either side, and a pump in each direction."""

    def __init__(self, channel: str, worker: socket.socket, trainer: socket.socket) -> None:
        self.channel = channel
        # Bytes that each side took for delivered and that were not.
        self.swallowed = [0, 0]
        self._ends: list[socket.socket | None] = [worker, trainer]
        # Read and not passed on yet.
        self._in_hand = [0, 0]
        self._swallowing = False
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._pumps = [asyncio.ensure_future(self._pump(side)) for side in (WORKER, TRAINER)]

    @property
    def is_healthy(self) -> bool:
        """Whether the flow passes everything on, so that it can be given a fault."""
        return None not in self._ends and not self._swallowing and self._may_pass.is_set()

    def hold(self) -> None:
        """Stall the flow: nothing comes out from now on."""
        self._may_pass.clear()

    def release(self) -> None:
        self._may_pass.set()

    def swallow(self) -> None:
        """Take all bytes in and send none from now on. Only `reset` can follow."""
        self._swallowing = True
        self._may_pass.set()

    def half_open(self, dead: int) -> None:
        """Reset one side only; the other one keeps a half-open connection."""
        self.swallow()
        self._close(dead, reset=True)

    def reset(self) -> None:
        """Reset both sides; the bytes inside the box are lost."""
        for side in (WORKER, TRAINER):
            self._close(side, reset=True)

    def _close(self, side: int, *, reset: bool = False) -> None:
        end, self._ends[side] = self._ends[side], None
        if end is None:
            return
        self._pumps[side].cancel()
        self.swallowed[side] += self._in_hand[side] + _unread_bytes(end)
        self._in_hand[side] = 0
        loop = asyncio.get_running_loop()
        # At once: the number of a closed descriptor may be the next connection's before the pump takes note.
        loop.remove_reader(end)
        loop.remove_writer(end)
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.close()

    async def _pump(self, side: int) -> None:
        """Everything from this side to the other, until this one closes; then the other one is closed as well."""
        loop = asyncio.get_running_loop()
        end = self._ends[side]
        with contextlib.suppress(OSError):
            while end is not None and (chunk := await loop.sock_recv(end, _CHUNK_BYTES)):
                self._in_hand[side] = len(chunk)
                await self._may_pass.wait()
                target = self._ends[1 - side]
                if self._swallowing or target is None:
                    self.swallowed[side] += len(chunk)
                else:
                    await loop.sock_sendall(target, chunk)
                self._in_hand[side] = 0
        # A broken connection breaks on both sides, unless the box has forgotten that there is another.
        for closing in (side,) if self._swallowing else (1 - side, side):
            self._close(closing)


@dataclass(frozen=True, slots=True)
class Fault:
    """``name`` is a method of `Faults`; ``channels`` whose flows it hits: one of each, or ``everyone``."""

    name: str
    channels: tuple[str, ...]
    everyone: bool = False


class Faults:
    """What the box does to one flow; ``seconds`` is how long it takes about it."""

    @staticmethod
    async def stall(flow: Flow, seconds: float) -> None:
        flow.hold()
        await asyncio.sleep(seconds)
        flow.release()

    @staticmethod
    async def stall_and_reset(flow: Flow, seconds: float) -> None:
        flow.hold()
        await asyncio.sleep(seconds)
        flow.reset()

    @staticmethod
    async def swallow_and_reset(flow: Flow, seconds: float) -> None:
        flow.swallow()
        await asyncio.sleep(seconds)
        flow.reset()

    @staticmethod
    async def forget_worker(flow: Flow, _seconds: float) -> None:
        """The trainer's side stays open."""
        flow.half_open(WORKER)

    @staticmethod
    async def forget_trainer(flow: Flow, _seconds: float) -> None:
        """The worker's side stays open."""
        flow.half_open(TRAINER)


class Middlebox:
    """Listens while its ``with`` block lasts.

    ``targets``: the trainer's host and port behind each channel, by the channel's name. `ports`: the box's own, for the
    workers to connect to.
    """

    def __init__(self, targets: dict[str, tuple[str, int]]) -> None:
        self.targets = targets
        self.ports: dict[str, int] = {}
        # Flows hit so far, by the fault's name and the flow's channel.
        self.hits: Counter[tuple[str, str]] = Counter()
        self._flows: list[Flow] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="middlebox", daemon=True)

    def swallowed(self, channel: str, side: int) -> int:
        """Bytes from this side that vanished on this channel."""
        return sum(flow.swallowed[side] for flow in list(self._flows) if flow.channel == channel)

    def inject(self, fault: Fault, seconds: float, chance: random.Random) -> int:
        """Begin a fault; returns how many flows it hits. ``chance`` chooses among a channel's healthy ones."""
        hit: int = self._call(self._inject(fault, seconds, chance))
        return hit

    def __enter__(self) -> Middlebox:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------ in the box's thread

    def _call(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        for channel in self.targets:
            listener = socket.create_server(("127.0.0.1", 0), backlog=100)
            listener.setblocking(False)
            self.ports[channel] = listener.getsockname()[1]
            self._begin(self._accept(channel, listener))

    async def _accept(self, channel: str, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                worker, _ = await loop.sock_accept(listener)
                trainer = socket.socket()
                for end in (worker, trainer):
                    end.setblocking(False)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    await loop.sock_connect(trainer, self.targets[channel])
                except OSError:
                    # The target does not listen, so the caller is refused too.
                    worker.close()
                    trainer.close()
                else:
                    self._flows.append(Flow(channel, worker, trainer))

    async def _inject(self, fault: Fault, seconds: float, chance: random.Random) -> int:
        hit = list(self._victims(fault, chance))
        for flow in hit:
            self.hits[fault.name, flow.channel] += 1
            self._begin(getattr(Faults, fault.name)(flow, seconds))
        return len(hit)

    def _victims(self, fault: Fault, chance: random.Random) -> Iterator[Flow]:
        for channel in fault.channels:
            healthy = [flow for flow in self._flows if flow.channel == channel and flow.is_healthy]
            yield from healthy if fault.everyone or not healthy else [chance.choice(healthy)]

    def _begin(self, what: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for flow in self._flows:
            flow.reset()
        # The pumps take note of it.
        await asyncio.sleep(0)


def _unread_bytes(end: socket.socket) -> int:
    """The number of bytes that arrived in the kernel and were not read."""
    return int(struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0\0\0\0"))[0])
