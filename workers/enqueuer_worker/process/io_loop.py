"""The I/O loop of a worker process: owns the sockets and the protocol, and never runs user code.

    link, commands, outbox ── events ──► WorkerCore ── actions ──► link, tasks, memory, log

After each poll the loop hands all input to the core before the core looks at its timers. So a process does not take its
own pause (it was stopped for a while) for the coordinator's silence. Two threads take turns at the loop: see
``turn_taking.py``.
"""

from __future__ import annotations

import logging
import os
import threading
import time

import zmq

from enqueuer.errors import ProtocolError
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.messages import ExitCode, Heartbeat, Hello
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer.security.curve import parse_passed_token
from enqueuer.transport.sockets import new_context, poll_timeout_ms
from enqueuer_worker.commands import CommandReader
from enqueuer_worker.connection import Refusal
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
    Prepare,
    Received,
    Send,
    SendResults,
    Tick,
)
from enqueuer_worker.core.worker_core import WorkerCore
from enqueuer_worker.link import new_link
from enqueuer_worker.process.shared import Shared
from enqueuer_worker.process.turn_taking import TurnTaking
from enqueuer_worker.process.usage import Usage
from enqueuer_worker.repeats import RepeatedNotes
from enqueuer_worker.settings import ChildSettings

# After the core has left: the time for user code to return from its last item and to close its Sequence.
_CLOSE_SECONDS = 2.0
_FAILED = 1
# Between two items the loop looks for input this often, and always while fewer tasks than this wait: a look costs as
# much as sending a batch.
_LOOK_SECONDS = 0.005
_STORE = 2


class IoLoop:
    """Drives one `WorkerCore`. The main thread makes it; from then on `turn_taking` decides which thread uses it.

    `exit_code` is valid once `turn_taking` has ended.
    """

    def __init__(
        self,
        settings: ChildSettings,
        identity: Identity,
        commands: CommandReader,
        shared: Shared,
        logger: logging.Logger,
    ) -> None:
        common = settings.common
        self.exit_code = _FAILED
        self._identity = identity
        self._core = WorkerCore(identity, common, time.monotonic())
        self._context = new_context()
        self._poller = zmq.Poller()
        self._link = new_link(
            self._context,
            self._poller,
            common.connect,
            int(common.max_reconnect_interval * 1000),
            parse_passed_token(common.token),
            common.data_connect,
            common.interface,
        )
        self._commands = commands
        self._tasks = shared.tasks
        self._outbox = shared.outbox
        self._memory = shared.memory
        self._waker = shared.outbox.waker
        self._logger = logger
        self._notes = RepeatedNotes(logger)
        self._data_address = ""
        self._exiting = False
        self._look_at = 0.0
        self._usage = Usage(time.monotonic())
        self.turn_taking = TurnTaking(self._turn, self._waker.wake)
        self._poller.register(self._waker.fd, zmq.POLLIN)
        self._poller.register(commands.fd, zmq.POLLIN)

    def start(self) -> None:
        """Start the I/O thread."""
        threading.Thread(target=self._run, name="enqueuer-io", daemon=True).start()

    def _run(self) -> None:
        self.turn_taking.run_io()
        self._context.term()
        self._tasks.close()
        time.sleep(_CLOSE_SECONDS)
        self._logger.warning("the Sequence did not return for %g s; leaving without it", _CLOSE_SECONDS)
        os._exit(self.exit_code)

    def _turn(self, block: bool) -> bool:
        """Run one round: send computed batches, then handle the input. False after the last round."""
        try:
            self._step(block)
        except BaseException:
            # Without the loop this process serves no purpose; its supervisor starts another.
            self._logger.exception("the worker's I/O loop failed")
            os._exit(_FAILED)
        return not self._exiting

    def _step(self, block: bool) -> None:
        now = time.monotonic()
        self._note_sending(now)
        computed = self._outbox.collect(now)
        if computed:
            self._handle([Tick(self._tasks.running.get()), *computed], now)
            if self._exiting or not (block or self._is_look_due(now)):
                return
        self._look_at = now + _LOOK_SECONDS
        ready = dict(self._poller.poll(self._timeout_ms() if block else 0))
        if self._waker.fd in ready:
            self._waker.clear()
        # The Tick is first: the core handles the other events by the lease now running.
        events: list[Event] = [Tick(self._tasks.running.get())]
        # Before the commands: they may name another session, and messages of the old link do not belong to it.
        events += self._read_link(ready)
        if self._commands.fd in ready:
            events += self._read_commands()
        now = time.monotonic()
        self._note_sending(now)
        events += self._outbox.collect(now)
        self._handle(events, now)

    def _note_sending(self, now: float) -> None:
        """At a heartbeat's time, and before the round sends anything: look whether earlier batches have left."""
        if now >= self._core.heartbeat_at:
            is_idle = not self._tasks and not self._tasks.running.get()
            self._usage.note_sending(is_idle and self._link.is_sending, now)

    def _is_look_due(self, now: float) -> bool:
        """Whether to read what has arrived: tasks run short, or it is some time since the last look."""
        return now >= self._look_at or len(self._tasks) < _STORE

    def _timeout_ms(self) -> int | None:
        deadline = min(self._core.next_deadline(), self._outbox.due(), self._link.data_due)
        return poll_timeout_ms(deadline, time.monotonic())

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
            # Only the supervisor can stop this process, and it is gone.
            os._exit(_FAILED)
        return events

    def _read_link(self, ready: dict[object, int]) -> list[Event]:
        events: list[Event] = []
        for frame in self._link.handle(ready):
            try:
                events.append(Received(*decode_control(frame)))
            except ProtocolError as error:
                self._logger.warning("dropped a message that cannot be read: %s", error)
        now = time.monotonic()
        if now >= self._link.data_due or self._link.has_no_data_port:
            self._notes.note(
                logging.WARNING,
                f"no data connection: the trainer's second port, {self._data_address}, cannot be reached from here",
                "; fix it with data_bind=…, let the firewall pass it, and name it with advertise=… if it is mapped",
                now,
            )
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
            case Send(session, Heartbeat() as beat):
                self._link.send_control(encode_control(session, self._usage.told_in(beat)))
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
                self._data_address = self._link.open_data(endpoint, time.monotonic())
                self._logger.debug("sending results to %s", self._data_address)
            case CloseLink():
                self._link.close()
            case Note(level, text):
                self._logger.log(level, "%s", text)
            case Exit(code, rejection):
                self._tasks.running.set_rejection(rejection)
                self.exit_code = int(code)
                self._exiting = True

    def _send_results(self, action: SendResults) -> None:
        computed = action.computed
        results = Results(
            self._identity.incarnation,
            computed.epoch,
            computed.generation,
            action.seq,
            computed.busy,
            computed.leases,
            computed.batches,
        )
        self._link.send_data(encode_results(action.session, results, blocks=action.blocks))
