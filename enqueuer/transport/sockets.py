"""ZeroMQ sockets of this library: the options that all of them share, and the coordinator's two bound sockets.

A socket belongs to one thread. The names of options are libzmq's; each has its reason beside it.
"""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Any

import zmq

from enqueuer.transport.frames import receive_frames, send_frames

if TYPE_CHECKING:
    from enqueuer.security.gatekeeper import Gatekeeper

# libzmq itself notices a peer that died without a FIN (cut cable, killed host), below Python and its GIL.
_ZMTP_HEARTBEAT_MS = 2_000
_ZMTP_TIMEOUT_MS = 8_000
# The time a new peer has for the ZMTP handshake.
_HANDSHAKE_MS = 5_000
# Control messages are small; the largest are grants and an epoch's state.
MAX_CONTROL_BYTES = 16 * 1024 * 1024
# For one frame of a result message: a third of a 24 GiB machine. A larger frame is an attack.
MAX_DATA_BYTES = 8 * 1024**3
_BACKLOG = 1_024
_MOST_IO_THREADS = 4
# The key of every peer on sockets without a gate.
NO_KEY = ""


def io_threads_for(cpus: int) -> int:
    """The number of libzmq threads for a coordinator with remote workers; each thread serves some connections.

    One thread brought 4 GB/s over loopback TCP to Python (9.6 MB in 2.3 ms of its time), more than 25 Gbit/s. More
    threads are for faster networks, and only where training and workers leave a core for them.
    """
    return max(1, min(_MOST_IO_THREADS, cpus // 4))


def new_context(io_threads: int = 1) -> zmq.Context[zmq.Socket[bytes]]:
    """A private context; `zmq.Context.instance()` is the user's to limit or end."""
    return zmq.Context(io_threads)


def configure(socket: zmq.Socket[bytes], max_bytes: int = MAX_CONTROL_BYTES) -> zmq.Socket[bytes]:
    """Set the options that all sockets share, and return the socket."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _ZMTP_HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _ZMTP_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    # No high-water marks: leases bound the messages, and a full pipe would drop or block.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    # No SNDBUF and RCVBUF: Linux sizes a TCP connection's buffers by its bandwidth and delay, up to the maximum of
    # tcp_wmem and tcp_rmem (4 and 6 MB by default). A fixed size would end that.
    return socket


def poll_timeout_ms(deadline: float, now: float) -> int | None:
    """The time-out for a poller that is to wake up at ``deadline`` (seconds): milliseconds, None for an infinite one.

    Rounded up, so a poll never ends just before its deadline and has to be repeated.
    """
    return None if deadline == math.inf else math.ceil(max(0.0, deadline - now) * 1000)


class CoordinatorSockets:
    """Two bound sockets: ROUTER for control, PULL for data. Used by the I/O thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        control_address: str,
        data_address: str,
        gate: Gatekeeper | None = None,
    ) -> None:
        """Bind both; a TCP port may be '*' or 0 for any free port.

        A ``gate``, already started, admits only peers with a listed key; without a gate every peer is admitted.

        Raises:
            OSError: an address cannot be bound; nothing stays open.
        """
        self.gate = gate
        self.router = configure(context.socket(zmq.ROUTER))
        self.pull = configure(context.socket(zmq.PULL), MAX_DATA_BYTES)
        try:
            # An unreachable or full peer raises an error; by default ROUTER would drop the message silently.
            self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            for socket, address in ((self.router, control_address), (self.pull, data_address)):
                socket.setsockopt(zmq.BACKLOG, _BACKLOG)
                if address.startswith("tcp://["):
                    socket.setsockopt(zmq.IPV6, 1)
                if gate is not None:
                    gate.secure(socket)
                _bind(socket, address)
        except BaseException:
            self.close()
            raise
        self.control_endpoint = self.router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.data_endpoint = self.pull.getsockopt_string(zmq.LAST_ENDPOINT)

    def register(self, poller: zmq.Poller) -> None:
        """Have the poller look for input."""
        poller.register(self.router, zmq.POLLIN)
        poller.register(self.pull, zmq.POLLIN)

    def read(self, readable: dict[Any, int]) -> tuple[bool, bool]:
        """Whether a poll has found control messages, and whether results."""
        return self.router in readable, self.pull in readable

    def send(self, address: bytes, frame: bytes) -> bool:
        """Send one control message to this route; False if it is unreachable or full: it gets no message any more."""
        try:
            send_frames(self.router, (address, frame))
        except zmq.ZMQError:
            return False
        return True

    @property
    def ports(self) -> set[int]:
        """The TCP ports of both sockets."""
        endpoints = (self.control_endpoint, self.data_endpoint)
        return {int(endpoint.rpartition(":")[2]) for endpoint in endpoints if endpoint.startswith("tcp://")}

    def receive_control(self) -> tuple[list[bytes], str | None] | None:
        """The frames of the next control message, beginning with the route, and its sender's key; None: no message.

        The key is '' (`NO_KEY`) without a gate, and None if it was revoked.
        """
        try:
            frames = receive_frames(self.router)
        except zmq.Again:
            return None
        return [frame.bytes for frame in frames], NO_KEY if self.gate is None else self.gate.key_of(frames[-1])

    def receive_data(self) -> tuple[list[zmq.Frame], str | None] | None:
        """The frames of the next result message, in libzmq's memory, and its sender's key; None: no message.

        The key is '' (`NO_KEY`) without a gate, and None if it was revoked or is an observer's.
        """
        try:
            frames = receive_frames(self.pull)
        except zmq.Again:
            return None
        return frames, NO_KEY if self.gate is None else self.gate.worker_key_of(frames[0])

    def wait_for_disconnects(self, peers_count: int, timeout: float) -> None:
        """Wait until ``peers_count`` peers have closed their control connections, at most ``timeout`` seconds.

        A TCP socket that is closed with unread input is reset, and the reset makes the peer drop its own unread input,
        such as our Stop. Peers that receive Stop close the connection themselves; until then libzmq reads on.
        """
        # A socket has one monitor; the gate's is no longer needed, as no new peer is awaited.
        self.router.disable_monitor()
        try:
            monitor = self.router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        except zmq.ZMQError:
            return  # no descriptor is left for a monitor; the steps after this one free some
        deadline = time.monotonic() + timeout
        while peers_count > 0 and monitor.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            monitor.recv_multipart()
            peers_count -= 1
        self.router.disable_monitor()
        monitor.close(linger=0)

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close both; ``linger_seconds`` gives the last control messages time to leave."""
        self.router.close(linger=int(linger_seconds * 1000))
        self.pull.close(linger=0)


def _bind(socket: zmq.Socket[bytes], address: str) -> None:
    """Bind, or raise an OSError that names the address; ZeroMQ's own error does neither."""
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise OSError(error.errno, f"cannot bind {address}: {_describe_bind_error(error, address)}") from error


def _describe_bind_error(error: zmq.ZMQError, address: str) -> str:
    """Why the address cannot be bound, and what to do."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    match error.errno:
        case errno.EADDRINUSE:
            return f"another program has port {port} (`ss -ltnp` shows it): end it, or take port 0 for any free one"
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            return f"{host} is not an address of this machine: bind one that is, or tcp://*:{port} for all of them"
        case errno.EACCES:
            return f"only privileged users may bind port {port}: take one from 1024 on"
    return error.strerror
