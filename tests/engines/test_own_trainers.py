from __future__ import annotations

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.engines.own_trainers import TrainerAddresses, choose, find_trainers, reachable
from enqueuer.errors import ConfigurationError
from tests.support.observed import own_directory
from tests.support.sequences import Bare

ONE, OTHER = (TrainerAddresses(f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}") for port in (5555, 6666))


def test_the_running_trainers_with_an_address_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        own_directory(monkeypatch),
        SequenceEnqueuer(Bare(length=6)) as hidden,
        SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*") as seen,
    ):
        assert find_trainers() == []
        hidden.start(workers=1)
        seen.start(workers=1)
        [trainer] = find_trainers(60.0)
        assert trainer.control == seen.endpoint
    assert trainer.data.startswith("tcp://127.0.0.1:") and trainer.data != trainer.control


def test_the_only_trainer_is_chosen_and_of_several_the_one_at_the_address() -> None:
    assert choose([], None) is None
    assert choose([ONE], None) == ONE
    assert choose([ONE, OTHER], "tcp://localhost:6666") == OTHER
    assert choose([ONE], "tcp://127.0.0.1:7777") is None
    with pytest.raises(
        ConfigurationError, match=r"choose one by --connect: tcp://127.0.0.1:5555, tcp://127.0.0.1:6666"
    ):
        choose([ONE, OTHER], None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://0.0.0.0:5555", "tcp://127.0.0.1:5555"),
        ("tcp://*:5555", "tcp://127.0.0.1:5555"),
        ("tcp://[::]:5555", "tcp://[::1]:5555"),
        ("tcp://10.0.0.7:5555", "tcp://10.0.0.7:5555"),
    ],
)
def test_an_address_on_all_interfaces_is_reached_over_loopback(address: str, expected: str) -> None:
    assert reachable(address) == expected
