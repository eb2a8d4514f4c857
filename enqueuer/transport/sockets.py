"""ZeroMQ sockets as this library uses them: the options that every one of them shares, and the coordinator's pair.

A socket belongs to one thread. Options are pyzmq's and libzmq's own; each has its reason beside it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import zmq

from enqueuer.transport.frames import receive_frames

if TYPE_CHECKING:
    from enqueuer.security.gatekeeper import Gatekeeper

# A peer that died without a FIN (cut cable, killed host) is noticed by libzmq itself, below Python and its GIL.
_ZMTP_HEARTBEAT_MS = 2_000
_ZMTP_TIMEOUT_MS = 8_000
# Before a peer has said anything: how long it may take over the ZMTP handshake.
_HANDSHAKE_MS = 5_000
# A control message is small; the largest is a grant or an epoch's state.
MAX_CONTROL_BYTES = 16 * 1024 * 1024
# One part of a result message. Larger than any batch that fits a 24 GiB machine twice over is an attack.
MAX_DATA_BYTES = 8 * 1024**3
_BACKLOG = 1_024
_MOST_IO_THREADS = 4


def io_threads_for(cpus: int) -> int:
    """How many of libzmq's own threads a coordinator with remote workers should have; each takes some connections.

    One brought 4 GB/s over loopback TCP to Python (9.6 MB in 2.3 ms of its time), which is more than 25 Gbit/s. So a
    second is for faster networks, and never takes a core that the training or the workers want more.
    """
    return max(1, min(_MOST_IO_THREADS, cpus // 4))


def new_context(io_threads: int = 1) -> zmq.Context[zmq.Socket[bytes]]:
    """A private context: `zmq.Context.instance()` is the user's, with the user's limits and life."""
    return zmq.Context(io_threads)


def configure(socket: zmq.Socket[bytes], max_bytes: int = MAX_CONTROL_BYTES) -> zmq.Socket[bytes]:
    """Set what all our sockets share, and return the socket."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _ZMTP_HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _ZMTP_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    # High-water marks are not our bound (leases are), and a full pipe would drop or block: no limit here.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    # No SNDBUF and RCVBUF: Linux sizes a TCP connection's buffers by its bandwidth and delay, up to the largest of
    # tcp_wmem and tcp_rmem (4 and 6 MB by default). A size that is set ends that.
    return socket


def poll_timeout_ms(deadline: float, now: float) -> int | None:
    """The time-out for a poller that is to wake up at ``deadline`` (seconds): milliseconds, None for an infinite one.

    Rounded up, so a poll never ends just before its deadline and has to be repeated.
    """
    return None if deadline == math.inf else max(0, math.ceil((deadline - now) * 1000))


class CoordinatorSockets:
    """One pair of bound sockets: ROUTER for control, PULL for data. Used by the I/O thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        control_address: str,
        data_address: str,
        gate: Gatekeeper | None = None,
    ) -> None:
        """Bind both; a TCP port may be '*' or 0 for any free one. A ``gate``, which has been started, lets in only whom
        it knows; without one anybody comes in.

        Raises:
            OSError: an address cannot be bound; nothing stays open.
        """
        self.gate = gate
        self.router = configure(context.socket(zmq.ROUTER))
        self.pull = configure(context.socket(zmq.PULL), MAX_DATA_BYTES)
        try:
            # Unreachable or full means that the peer is lost; by default ROUTER would drop the message silently.
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

    @property
    def ports(self) -> set[int]:
        """The TCP ports of both."""
        endpoints = (self.control_endpoint, self.data_endpoint)
        return {int(endpoint.rpartition(":")[2]) for endpoint in endpoints if endpoint.startswith("tcp://")}

    def receive_control(self) -> tuple[list[bytes], str | None]:
        """The frames of the next control message, the first of them the route, and its sender's key.

        The key is '' where there are none, and None if its owner is not let in any more. Raises zmq.Again if there is
        no message.
        """
        frames = receive_frames(self.router)
        return [frame.bytes for frame in frames], "" if self.gate is None else self.gate.key_of(frames[-1])

    def receive_data(self) -> tuple[list[zmq.Frame], str | None]:
        """The same of the next result message, its frames not copied."""
        frames = receive_frames(self.pull)
        return frames, "" if self.gate is None else self.gate.key_of(frames[0])

    def wait_for_disconnects(self, peers_count: int, timeout: float) -> None:
        """Wait until this many peers have closed their control connections, ``timeout`` seconds at most.

        A TCP socket that is closed with unread input is reset, and a reset drops at the peer what it has not read yet:
        our last word. Peers that were told Stop hang up by themselves; until then libzmq reads on.
        """
        # A socket has one monitor, and nobody comes in any more for the gate to tell of.
        self.router.disable_monitor()
        try:
            monitor = self.router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        except zmq.ZMQError:
            return  # no descriptor is left for it; all that follows frees some
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
    """ZeroMQ's own error is no OSError, and does not name the address."""
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise OSError(error.errno, f"cannot bind {address} ({error.strerror}); is the port in use?") from error
