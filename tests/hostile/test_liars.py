"""A worker that has joined and lies, against a real trainer with honest ones too; `test_conduct.py` has more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enqueuer.protocol import messages as m
from tests.hostile.liar import Liar
from tests.hostile.target import WORKERS, Target

LENGTH = 100


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with Target(tmp_path_factory.mktemp("target"), LENGTH) as target:
        yield target


def tampered(field: int, value: Any) -> Callable[[Liar], object]:
    """An answer with a lie in this field of its header, to one of the worker's own leases if it has any."""

    def lie(liar: Liar) -> None:
        lease = liar.granted.pop(0)[1] if liar.granted else 1
        liar.send_results(liar.tampered(lease, **{f"_{field}": value}))
        liar.send_honest_heartbeat()

    return lie


LIES: dict[str, Callable[[Liar], object]] = {
    "a shape that is not there": tampered(8, [b"\x95\x03\x00\xa3<f4\x91\xce\x7f\xff\xff\xff\xa1C"]),
    "an array of 2**60": tampered(8, [b"\x95\x03\x01\xa3<f4\x91\xcf\x10\x00\x00\x00\x00\x00\x00\x00\xa1C"]),
    "an inline size that is wrong": tampered(9, [2**40]),
    "a frame that is not there": tampered(10, [3]),
    "a pickle": tampered(8, [b"\x93\x0b\x00\x10"]),
    "a block of shared memory": tampered(11, [[b"x" * 16, -1, 1]]),
    "a number far ahead": tampered(5, 2**60),
    "ages": tampered(6, 1e300),
    "a time that is none": tampered(6, math.nan),
    "a negative time": tampered(6, -1.0),
    "leases without end": tampered(7, [1, 2**62]),
    "forged answers": Liar.answer_anything,
    "another's part": lambda liar: liar.say(m.Grant(0, 0, 0, 1, (1, 2))),
    "deaths": lambda liar: liar.say(m.WorkerExited(b"x" * 16, 0, -9, 3)),
    "leases that are nobody's": lambda liar: liar.say(m.Heartbeat((2**50,), 2**50, 0, 0, 0, 0.0, 0.0)),
    "goodbyes": lambda liar: liar.say(m.Goodbye(2**50)),
    "another worker on its connection": lambda liar: liar.say_hello(incarnation=b"n" * 16),
    "a supervisor on its connection": lambda liar: liar.say_hello(role=m.Role.SUPERVISOR, supervisor=b"n" * 16),
}


@pytest.mark.proves("a worker does what no honest one does")
@pytest.mark.parametrize("name", LIES)
def test_a_liar_is_named_counted_and_cut_off_and_the_epoch_is_exact(name: str, target: Target) -> None:
    with Liar(target.control, worker_id=name) as liar:
        liar.join()
        target.begin_epoch()
        liar.wait_until(lambda: liar.is_rejected, lambda: LIES[name](liar))
        result = target.end_epoch()
    assert result["exact"], result
    assert result["honest_workers"] == WORKERS
    offenders = {offender: cut_off for offender, _, cut_off in result["offenders"]}
    assert offenders[f"worker {name} on nowhere"] is True
    assert f"worker {name} on nowhere" in target.log.read_text()


def test_an_unidentified_connection_that_floods_is_ignored_and_another_one_of_the_peer_is_not(
    target: Target, tmp_path: Path
) -> None:
    with Liar(target.control) as liar:
        target.begin_epoch()
        for _ in range(20_000):
            liar.say(m.Drain(), session=b"?" * 16)
        assert target.end_epoch()["exact"]
        ignored = target.epoch()["ignored"]
        liar.say_hello()
        assert target.epoch()["ignored"] > ignored
    with Liar(target.control) as liar:
        liar.join()
