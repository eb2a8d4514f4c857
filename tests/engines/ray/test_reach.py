from __future__ import annotations

import pytest

from enqueuer.engines.ray.reach import address_for_workers, check_reachable
from enqueuer.errors import ConfigurationError

HERE = "192.0.2.1"


@pytest.mark.parametrize(
    ("bound", "here", "address"),
    [
        ("tcp://0.0.0.0:5555", HERE, "tcp://192.0.2.1:5555"),
        ("tcp://*:5555", HERE, "tcp://192.0.2.1:5555"),
        ("tcp://[::]:5555", "2001:db8::1", "tcp://[2001:db8::1]:5555"),
        ("tcp://192.0.2.9:5555", HERE, "tcp://192.0.2.9:5555"),
        ("tcp://0.0.0.0:*", HERE, None),
        (None, HERE, None),
    ],
)
def test_workers_connect_to_the_node_where_the_trainer_listens(bound: str, here: str, address: str | None) -> None:
    assert address_for_workers(bound, here) == address


def test_an_enqueuer_without_bind_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"bind='tcp://0\.0\.0\.0:5555'"):
        check_reachable(None, None, HERE, [HERE])


def test_a_loopback_address_serves_a_cluster_on_this_machine_alone() -> None:
    check_reachable("tcp://127.0.0.1:5555", None, HERE, [HERE, HERE])
    with pytest.raises(ConfigurationError, match=r"the Ray node 192\.0\.2\.7 cannot reach"):
        check_reachable("tcp://127.0.0.1:5555", None, HERE, [HERE, "192.0.2.7"])


def test_an_address_that_the_user_knows_is_taken_as_it_is() -> None:
    check_reachable("tcp://127.0.0.1:5555", "tcp://tunnel:7000", HERE, [HERE, "192.0.2.7"])
    with pytest.raises(ConfigurationError, match="tcp://host:port"):
        check_reachable("tcp://127.0.0.1:5555", "tunnel:7000", HERE, [HERE])
