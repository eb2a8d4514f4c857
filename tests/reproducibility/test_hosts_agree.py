"""Hosts with other data, decoders or settings: right, or told before the first wrong batch is handed out."""

from __future__ import annotations

import decimal
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer, SequenceSpec
from tests.reproducibility import apart
from tests.support.remote import RemoteWorker, free_address
from tests.support.waiting import wait_until

LENGTH = 40
NAMES = [f"{number:03d}.png" for number in range(LENGTH)]


def spec(name: str, **arguments: Any) -> SequenceSpec:
    return SequenceSpec(f"tests.reproducibility.apart:{name}", **arguments)


@contextmanager
def trainer(
    sequence: Any, local: int, hosts: list[dict[str, str]], folder: Path, *arguments: str, **options: Any
) -> Iterator[Any]:
    """An enqueuer with local processes, and one remote supervisor with two workers for each of these environments.

    The local processes serve before the hosts join: they are what the hosts are compared with.
    """
    address = free_address()
    with ExitStack() as stack:
        enqueuer = stack.enter_context(SequenceEnqueuer(sequence, True, bind=address, **options))
        enqueuer.start(local, 2)
        if local:
            enqueuer.wait_for_workers(local, 60.0)
        for number, variables in enumerate(hosts):
            log = folder / f"log{number}"
            stack.enter_context(RemoteWorker(address, log, processes=2, arguments=arguments, variables=variables))
        yield enqueuer


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "enqueuer" and record.levelno >= level]


@pytest.mark.proves("a remote host has other data, or lists its files in another order")
def test_a_host_that_lists_its_files_in_another_order_is_turned_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trainer(spec("Listed", count=LENGTH), 1, [{"LISTING": "reversed"}], tmp_path) as enqueuer:
        wait_until(lambda: told(caplog, logging.ERROR), 60.0, "turning the host away")
        assert list(islice(enqueuer.get(), LENGTH)) == NAMES
    assert "its batch 0 is not the same as that of worker" in told(caplog, logging.ERROR)[0]
    assert "is not the same as that of worker" in (tmp_path / "log0").read_text()


def test_of_two_hosts_without_a_local_worker_only_one_order_is_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trainer(spec("Listed", count=LENGTH), 0, [{}, {"LISTING": "reversed"}], tmp_path) as enqueuer:
        names = list(islice(enqueuer.get(), LENGTH))
        wait_until(lambda: told(caplog, logging.ERROR), 60.0, "turning the other host away")
    assert names in (NAMES, NAMES[::-1])


def test_hosts_that_agree_serve_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with trainer(spec("Decoded", count=LENGTH), 1, [{}, {}], tmp_path, shared_memory=True) as enqueuer:
        enqueuer.wait_for_workers(5, 60.0)
        for number, (image, ids) in enumerate(islice(enqueuer.get(), LENGTH)):
            assert (image == number).all()
            assert ids.tolist() == list(range(number, number + 4))
    assert told(caplog, logging.WARNING) == []


def test_a_host_that_rounds_otherwise_serves_and_it_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trainer(spec("Decoded", count=LENGTH), 1, [{"ROUNDING": "1e-3"}], tmp_path) as enqueuer:
        enqueuer.wait_for_workers(3, 60.0)
        heard = told(caplog, logging.WARNING)
        batches = list(islice(enqueuer.get(), LENGTH))
    assert len(heard) == 1
    assert "in the numbers or bytes of batch[0]" in heard[0]
    assert all(np.allclose(image, number, atol=0.01) for number, (image, _) in enumerate(batches))


def test_a_host_whose_owner_allows_skew_serves_with_other_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = [{"LISTING": "reversed"}]
    with trainer(spec("Listed", count=LENGTH), 1, hosts, tmp_path, "--allow-skew") as enqueuer:
        enqueuer.wait_for_workers(3, 60.0)
        assert len(list(islice(enqueuer.get(), LENGTH))) == LENGTH
    assert told(caplog, logging.ERROR) == []


def test_batches_that_differ_from_process_to_process_turn_nobody_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trainer(spec("FromItsProcess", count=LENGTH), 2, [{}], tmp_path, min_workers=2) as enqueuer:
        enqueuer.wait_for_workers(4, 60.0)
        assert [index for index, _ in islice(enqueuer.get(), LENGTH)] == list(range(LENGTH))
    assert told(caplog, logging.ERROR) == []
    assert sum("differs each time it is computed" in line for line in told(caplog, logging.WARNING)) == 1


def test_a_setting_that_the_trainer_changed_is_told_before_the_first_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apart, "GAIN", 10)
    with SequenceEnqueuer(apart.Amplified(6), True) as enqueuer:
        enqueuer.start(2, 2)
        next(enqueuer.get())
        (line,) = told(caplog, logging.WARNING)
    assert "tests.reproducibility.apart.GAIN is 10 here and 1 there" in line
    assert "worker_init=" in line


def test_a_setting_of_a_library_is_told_before_the_first_batch(caplog: pytest.LogCaptureFixture) -> None:
    with decimal.localcontext() as context:
        context.prec = 7
        with SequenceEnqueuer(apart.Divides(6), True) as enqueuer:
            enqueuer.start(1, 2)
            next(enqueuer.get())
    (line,) = told(caplog, logging.WARNING)
    assert "decimal.getcontext().prec is 7 here and 28 there" in line
    assert "worker_init=" in line


def test_a_setting_that_worker_init_sets_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apart, "GAIN", 10)
    with SequenceEnqueuer(apart.Amplified(6), True, worker_init="tests.reproducibility.apart:set_gain") as enqueuer:
        enqueuer.start(2, 2)
        assert list(islice(enqueuer.get(), 6)) == [10 * number for number in range(6)]
    assert told(caplog, logging.WARNING) == []
