"""The orders of open epochs reach the kinds of workers that there are, and their segments end with the epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol import drawn_order
from enqueuer.protocol.drawn_order import DrawnOrder, order_path, read_carried_order, read_named_order
from enqueuer.runtime.sent_orders import SentOrders

ORDER = DrawnOrder.of([[2, 0], [1]])


def sent(folder: Path, *, processes: bool, remote: bool, is_spec: bool = True, remote_wire: Any = None) -> Any:
    orders = SentOrders(folder, processes=processes, remote=remote)
    return orders, *orders.add_to({"own": 1}, remote_wire, 0, ORDER, is_spec=is_spec)


def read(state: Any) -> list[list[Any]]:
    path = order_path(state)
    order = read_carried_order(state) if path is None else read_named_order(path)
    assert order is not None
    return [order.batch(index) for index in range(len(order))]


def test_local_processes_map_it_and_remote_workers_get_it_in_the_message(tmp_path: Path) -> None:
    orders, wire, remote_wire, refusal = sent(tmp_path, processes=True, remote=True)
    assert read(wire) == read(remote_wire) == [[2, 0], [1]]
    assert order_path(remote_wire) is None
    assert wire["own"] == remote_wire["own"] == 1
    assert refusal == ""
    orders.close()


def test_threads_need_none(tmp_path: Path) -> None:
    _, wire, remote_wire, refusal = sent(tmp_path, processes=False, remote=False)
    assert (wire, remote_wire, refusal) == ({"own": 1}, None, "")


def test_a_live_object_that_remote_workers_cannot_have_gets_no_order_there(tmp_path: Path) -> None:
    orders, wire, remote_wire, refusal = sent(tmp_path, processes=True, remote=True, is_spec=False)
    assert read(wire) == [[2, 0], [1]]
    assert (remote_wire, refusal) == (None, "")
    orders.close()


def test_an_order_too_large_for_a_message_is_an_error_with_a_spec_and_a_refusal_with_a_live_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_order, "CARRIED_LIMIT_BYTES", 1)
    with pytest.raises(ConfigurationError, match="workers on other hosts"):
        sent(tmp_path, processes=False, remote=True)
    orders, wire, remote_wire, refusal = sent(tmp_path, processes=True, remote=True, is_spec=False, remote_wire={})
    assert read(wire) == [[2, 0], [1]]
    assert remote_wire is None
    assert "workers on other hosts" in refusal
    orders.close()


def test_a_segment_lives_until_a_later_epoch_is_forgotten(tmp_path: Path) -> None:
    orders = SentOrders(tmp_path, processes=True, remote=False)
    wires = [orders.add_to({}, None, epoch, ORDER, is_spec=True)[0] for epoch in range(3)]
    orders.forget(1)
    for epoch, wire in enumerate(wires):
        if epoch == 0:
            with pytest.raises(OSError, match=r".+"):
                read(wire)
        else:
            assert read(wire) == [[2, 0], [1]]
    orders.close()
    with pytest.raises(OSError, match=r".+"):
        read(wires[2])
