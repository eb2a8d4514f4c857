"""Monitor events: libzmq's numbers and values, and an address for each monitor."""

from __future__ import annotations

import pytest
import zmq

from enqueuer.security.monitor import MonitorEvent, new_monitor_address, receive_event


def test_events_of_a_connection_are_received_in_order() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer, context.socket(zmq.ROUTER) as router:
        dealer.setsockopt(zmq.LINGER, 0)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECTED, new_monitor_address())
        router.bind("tcp://127.0.0.1:*")
        dealer.connect(router.getsockopt_string(zmq.LAST_ENDPOINT))
        events = []
        for _ in range(2):
            assert monitor.poll(5_000)
            events.append(receive_event(monitor))
        assert [event.number for event in events] == [zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED]
        assert events[1] == MonitorEvent(zmq.EVENT_HANDSHAKE_SUCCEEDED, 0)
        with pytest.raises(zmq.Again):
            receive_event(monitor, zmq.NOBLOCK)
        dealer.disable_monitor()
        monitor.close(linger=0)


def test_no_two_monitors_share_an_address() -> None:
    assert new_monitor_address() != new_monitor_address()
