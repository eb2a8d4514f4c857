"""The I/O loop of a worker process: owns the sockets and the protocol, and never runs user code.

Events go into the pure core, its actions are performed here. After each poll all input that is there is handled
before any timer, so a process that was stopped for a while does not take its own pause for the coordinator's. Two
threads take turns at it: see ``turn_taking.py``.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time

import zmq

from enqueuer.errors import ProtocolError
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import ExitCode, Hello
from enqueuer.protocol.results_codec import encode_results
from enqueuer.security.curve import parse_passed_token
from enqueuer.transport.sockets import new_context
from enqueuer_worker.commands import CommandReader
from enqueuer_worker.core.events import (
    Action,
    Cancel,
    CloseLink,
    Compute,
    DrainRequested,
    EndpointGiven,
    Event,
    Exit,
    Identity,
    LeaveSharedMemory,
    LinkBroken,
    Note,
    OpenControl,
    OpenData,
    Policy,
    Prepare,
    Received,
    Send,
    SendResults,
    Tick,
)
from enqueuer_worker.core.worker_core import WorkerCore
from enqueuer_worker.link import Link
from enqueuer_worker.process.batch_memory import BatchMemory
from enqueuer_worker.process.outbox import Outbox, Waker
from enqueuer_worker.process.tasks import TaskQueue
from enqueuer_worker.process.turn_taking import TurnTaking
from enqueuer_worker.settings import ChildSettings
from enqueuer_worker.supervisor.refusals import Refusal

# What the user's code has, after the core has left, to come back from its last item and to close its Sequence.
_CLOSE_SECONDS = 2.0
_FAILED = 1


class IoLoop:
    """Drives one `WorkerCore`. Made by the main thread; after that used by whoever has the `turn_taking`."""

    def __init__(
        self,
        settings: ChildSettings,
        identity: Identity,
        commands: CommandReader,
        tasks: TaskQueue,
        outbox: Outbox,
        memory: BatchMemory,
        waker: Waker,
        logger: logging.Logger,
    ) -> None:
        common = settings.common
        policy = Policy(
            reconnects=common.reconnects,
            once=common.once,
            drain_timeout=common.drain_timeout,
            max_reconnect_interval=common.max_reconnect_interval,
        )
        self.exit_code = _FAILED
        self._identity = identity
        self._core = WorkerCore(identity, policy, time.monotonic())
        self._context = new_context()
        self._poller = zmq.Poller()
        self._link = Link(
            self._context,
            self._poller,
            common.connect,
            int(common.max_reconnect_interval * 1000),
            parse_passed_token(common.token),
        )
        self._commands = commands
        self._tasks = tasks
        self._outbox = outbox
        self._memory = memory
        self._waker = waker
        self._logger = logger
        self._exiting = False
        self.turn_taking = TurnTaking(self._turn, waker.wake)
        self._poller.register(waker.fd, zmq.POLLIN)
        self._poller.register(commands.fd, zmq.POLLIN)

    def start(self) -> None:
        threading.Thread(target=self._run, name="enqueuer-io", daemon=True).start()

    def _run(self) -> None:
        self.turn_taking.run_io()
        # Waits for what was to be flushed, a second at most.
        self._context.term()
        self._tasks.close()
        time.sleep(_CLOSE_SECONDS)
        self._logger.warning("the Sequence did not return for %g s; leaving without it", _CLOSE_SECONDS)
        os._exit(self.exit_code)

    def _turn(self, block: bool) -> bool:
        """One round: what was computed goes out, then what has come in is handled; False if it was the last one."""
        try:
            self._step(block)
        except BaseException:
            # Without the loop the process would be deaf and mute: better that its supervisor starts another.
            self._logger.exception("the worker's I/O loop failed")
            os._exit(_FAILED)
        return not self._exiting

    def _step(self, block: bool) -> None:
        now = time.monotonic()
        computed = self._outbox.collect(now)
        if computed:
            self._handle([Tick(self._tasks.running.get()), *computed], now)
            if self._exiting:
                return
        ready = dict(self._poller.poll(self._patience_ms() if block else 0))
        if self._waker.fd in ready:
            self._waker.clear()
        # First of all, so that what follows is decided by what is running now.
        events: list[Event] = [Tick(self._tasks.running.get())]
        # Before the commands: what has come over the old link is not about the session that they may name.
        events += self._read_link(ready)
        if self._commands.fd in ready:
            events += self._read_commands()
        now = time.monotonic()
        events += self._outbox.collect(now)
        self._handle(events, now)

    def _patience_ms(self) -> int | None:
        due = min(self._core.next_deadline(), self._outbox.due(), self._link.data_due)
        return None if due == math.inf else max(0, math.ceil((due - time.monotonic()) * 1000))

    def _handle(self, events: list[Event], now: float) -> None:
        for action in self._core.handle(events, now):
            self._perform(action)

    # ------------------------------------------------------------ events

    def _read_commands(self) -> list[Event]:
        events: list[Event] = []
        for command in self._commands.read():
            if "drain" in command:
                events.append(DrainRequested())
            elif "leave" in command:
                self.exit_code = int(ExitCode.DONE)
                self._link.close()
                self._exiting = True
            else:
                self._link.address = command["connect"]
                events.append(EndpointGiven(bytes.fromhex(command["secret"])))
        if self._commands.ended:
            # The supervisor is gone, and with it everyone who could stop this process.
            os._exit(_FAILED)
        return events

    def _read_link(self, ready: dict[object, int]) -> list[Event]:
        events: list[Event] = []
        for frame in self._link.handle(ready):
            try:
                events.append(Received(*decode_control(frame)))
            except ProtocolError as error:
                self._logger.warning("dropped a message that cannot be read: %s", error)
        if time.monotonic() >= self._link.data_due:
            self._logger.warning("no data connection: is the coordinator's data port open to this host?")
            events.append(LinkBroken())
        elif self._link.broken:
            refusal = self._link.refusal
            events.append(LinkBroken(refused=refusal is not None, for_good=refusal is Refusal.KEY))
        return events

    # ------------------------------------------------------------ actions

    def _perform(self, action: Action) -> None:
        match action:
            case Prepare() | Compute():
                self._tasks.add(action)
            case SendResults():
                self._send_results(action)
            case LeaveSharedMemory():
                self._memory.refuse()
            case Send(session, message):
                self._link.send_control(encode_control(session, message), replaces_waiting=isinstance(message, Hello))
            case Cancel(leases):
                self._tasks.cancel(leases)
                if leases is None:
                    self._memory.leave()
            case OpenControl():
                self._logger.debug("connecting to %s", self._link.address)
                self._link.open_control()
            case OpenData(endpoint):
                address = self._link.open_data(endpoint, time.monotonic())
                self._logger.debug("sending results to %s", address)
            case CloseLink(flush):
                self._link.close(flush=flush)
            case Note(level, text):
                self._logger.log(level, "%s", text)
            case Exit(code):
                self.exit_code = int(code)
                self._exiting = True

    def _send_results(self, action: SendResults) -> None:
        computed = action.computed
        frames = encode_results(
            action.session,
            self._identity.incarnation,
            computed.epoch,
            computed.generation,
            action.seq,
            computed.busy,
            computed.leases,
            computed.batches,
            blocks=action.blocks,
        )
        self._link.send_data(frames)
