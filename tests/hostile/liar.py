"""A lying worker: it has a valid connection and breaks the protocol. Written by hand on bare sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgpack
import numpy as np
import zmq

from enqueuer.protocol import messages as m
from enqueuer.protocol.batch import Trust, encode_batch
from enqueuer.protocol.control_codec import decode_control, encode_control
from enqueuer.protocol.results_codec import Results, encode_results
from enqueuer.transport.sockets import configure, new_context

_DEADLINE = 20.0
MessageType = TypeVar("MessageType")


class Liar:
    """Sends the messages that a test wants. ``hello`` overrides fields of its Hello."""

    def __init__(self, control: str, **hello: Any) -> None:
        self.incarnation = os.urandom(16)
        self.session = m.NO_ID
        self.seq = 0
        self.granted: list[tuple[m.Grant, int]] = []
        self.heard: list[m.Message] = []
        self._hello = hello
        self._endpoint = control
        self._context = new_context()
        self._control = configure(self._context.socket(zmq.DEALER))
        self._data = configure(self._context.socket(zmq.PUSH))
        self._control.connect(control)

    def __enter__(self) -> Liar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._control.close(0)
        self._data.close(0)
        self._context.term()

    # ------------------------------------------------------------ as an honest one

    def say(self, message: m.Message, session: bytes | None = None) -> None:
        self._control.send(encode_control(self.session if session is None else session, message))

    def say_hello(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "protocol": m.PROTOCOL_VERSION,
            "role": m.Role.WORKER,
            "worker_id": "liar",
            "incarnation": self.incarnation,
            "supervisor": b"",
            "child_number": 0,
            "host": "nowhere",
            "pid": 1,
            "numpy_version": np.__version__,
            "library_version": "0.1.0",
            "secret": b"",
            "held": (),
            "sent_seq": 0,
            **self._hello,
            **changes,
        }
        self.say(m.Hello(**values))

    def join(self, length: int | None = None) -> None:
        """Send Hello, open the data channel and send Ready, without building a Sequence."""
        self.say_hello()
        welcome = self.expect(m.Welcome)
        endpoint = welcome.data_endpoint.replace("*", self._endpoint.removeprefix("tcp://").rpartition(":")[0])
        self._data.connect(endpoint)
        epoch = self.expect(m.Epoch)
        total = welcome.options["sequence_length"] if length is None else length
        self.say(m.Ready(epoch.epoch, epoch.generation, total, welcome.options["sequence_digest"]))

    def hear(self, milliseconds: int = 0) -> None:
        """Read all messages that have arrived."""
        while self._control.poll(milliseconds):
            session, message = decode_control(self._control.recv())
            self.session = session
            self.heard.append(message)
            if isinstance(message, m.Grant):
                leases = range(message.first_lease, message.first_lease + len(message.indices))
                self.granted += [(message, lease) for lease in leases]
            milliseconds = 0

    def expect(self, kind: type[MessageType]) -> MessageType:
        """The first message of this kind, even if it arrived before the call."""
        end = time.monotonic() + _DEADLINE
        while True:
            for message in self.heard:
                if isinstance(message, kind):
                    return message
            assert time.monotonic() < end, f"no {kind.__name__}, but {self.heard[-5:]}"
            self.hear(50)

    def wait_until(self, condition: Callable[[], object], act: Callable[[], object]) -> None:
        """Repeat an action and `hear` until the condition is true."""
        end = time.monotonic() + _DEADLINE
        while not condition():
            assert time.monotonic() < end, f"the condition did not come true; heard {self.heard[-5:]}"
            act()
            self.hear(10)

    def has_grants(self) -> bool:
        return bool(self.granted)

    @property
    def is_rejected(self) -> bool:
        return any(isinstance(message, m.Reject) for message in self.heard)

    # ------------------------------------------------------------ as no honest one

    def results(self, leases: Sequence[int], batch: Any, **changes: Any) -> list[Any]:
        """The frames of a result message."""
        epoch, generation = (self.granted[-1][0].epoch, self.granted[-1][0].generation) if self.granted else (0, 0)
        self.seq += 1
        values: dict[str, Any] = {"incarnation": self.incarnation, "seq": self.seq, "busy": 0.01, **changes}
        encoded = [encode_batch(batch, Trust.REMOTE)] * len(leases)
        results = Results(epoch=epoch, generation=generation, leases=leases, batches=encoded, **values)
        return list(encode_results(self.session, results))

    def send_results(self, frames: Sequence[Any]) -> None:
        self._data.send_multipart(frames)

    def answer(self, leases: Sequence[int], batch: Any = "forged", **changes: Any) -> None:
        self.send_results(self.results(leases, batch, **changes))

    def answer_anything(self) -> None:
        """Answer leases of other workers and leases that were never granted."""
        newest = self.granted[-1][1] if self.granted else 1
        self.answer([max(1, newest - 3 + self.seq % 9 * 1000)])

    def beat(self) -> None:
        self.say(m.Heartbeat(tuple(lease for _, lease in self.granted), 2**40, 0, self.seq, 0, 1.0, 0.001))

    def send_honest_heartbeat(self) -> None:
        """Send the heartbeat of an honest worker that still computes its leases."""
        newest = self.granted[-1][0] if self.granted else m.Grant(0, 0, 0, 0, ())
        held = tuple(lease for _, lease in self.granted)
        self.say(m.Heartbeat(held, max(held, default=0), newest.generation, self.seq, 0, 1.0, 0.001))

    def log(self) -> None:
        self.say(m.Log(20, "root", "a line of many"))

    def tampered(self, lease: int, **fields: Any) -> list[Any]:
        """A result message with a header that contradicts its frames: field 0 … 11 -> value."""
        frames = self.results([lease], np.zeros(4, np.float32))
        header = msgpack.unpackb(frames[0])
        for number, value in fields.items():
            place = int(number.strip("_"))
            header[place : place + 1] = [value]
        return [msgpack.packb(header), *frames[1:]]
