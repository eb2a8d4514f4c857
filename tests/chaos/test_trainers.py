"""Trainers die and come back, and passes follow one another at once."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer, Timing
from tests.support.chaos import SEED, Chaos, kill
from tests.support.chaos_sequences import Steady, content_of
from tests.support.chaos_tally import expected_order
from tests.support.chaos_trainer import TrainerProgram
from tests.support.leaks import alive, descendants
from tests.support.remote import free_address
from tests.support.sequences import as_spec
from tests.support.waiting import wait_until

_PASSES = 3


@pytest.mark.proves("the trainer is killed (SIGKILL)")
@pytest.mark.parametrize("tag", [0, 5], ids=["the same Sequence", "another Sequence"])
def test_remote_workers_serve_the_next_trainer_and_local_ones_end_with_theirs(
    chaos: Chaos, tmp_path: Path, tag: int
) -> None:
    address = free_address()
    remote = chaos.remote(address, 2, "--max-reconnect-interval", "1")
    with TrainerProgram(tmp_path / "first.log", bind=address, local=1, min_workers=3, length=200) as first:
        first.wait_for_taken(60)
        local = descendants(first.pid)
        assert len(local) == 2  # a supervisor and its worker
        kill(first.pid)
        wait_until(lambda: not alive(local), deadline=2.0, what="the end of the local processes")
    with TrainerProgram(tmp_path / "second.log", bind=address, min_workers=2, length=50, epochs=2, tag=tag) as second:
        report = second.report()
    assert report["taken"] == 100
    assert report["pids"] == 2
    assert remote.alive()


def retag(enqueuer: SequenceEnqueuer, sequence: Steady, tag: int) -> None:
    """The Sequence's state in the next pass: a live object's own, or another spec."""
    sequence.tag = tag
    if enqueuer.sequence is not sequence:
        enqueuer.sequence = as_spec(sequence)


def assert_pass(enqueuer: SequenceEnqueuer, tag: int, batches: list[Any]) -> None:
    order = expected_order(40, tag, SEED)
    assert [index for index, _, _, _ in batches] == order[: len(batches)]
    assert {found for _, _, found, _ in batches} == {tag}
    assert all((content == content_of(index, tag)).all() for index, _, _, content in batches)


@pytest.mark.parametrize("how", ["fresh processes", "persistent processes", "remote"])
def test_no_answer_of_one_pass_gets_into_the_next(chaos: Chaos, how: str) -> None:
    """Each pass is stopped in mid-epoch, while its workers compute, and the next one starts at once."""
    sequence = Steady(length=40, seconds=0.05)
    options: dict[str, Any] = {"persistent_workers": how == "persistent processes"}
    if how == "remote":
        options |= {"bind": free_address(), "timing": Timing(heartbeat_interval=0.2)}
        chaos.remote(options["bind"], 2)
    enqueuer = chaos.enqueuer(as_spec(sequence) if how == "remote" else sequence, **options)
    for number in range(_PASSES):
        retag(enqueuer, sequence, number)
        enqueuer.start(0 if how == "remote" else 2, max_queue_size=6)
        assert_pass(enqueuer, number, list(itertools.islice(enqueuer.get(), 3 + number)))
        enqueuer.stop()
    retag(enqueuer, sequence, _PASSES)
    enqueuer.start(0 if how == "remote" else 2)
    run = chaos.consume(enqueuer, sequence, first_epoch=_PASSES)
    assert run.finish().taken_count == 40


def test_a_trainer_that_is_killed_while_it_starts_leaves_no_process(chaos: Chaos, tmp_path: Path) -> None:
    """The workers are still importing, and have no connection yet that would break."""
    with TrainerProgram(tmp_path / "trainer.log", local=2) as trainer:
        wait_until(lambda: len(descendants(trainer.pid)) >= 2, what="the first worker")
        processes = descendants(trainer.pid)
        kill(trainer.pid)
        wait_until(lambda: not alive(processes), deadline=2.0, what="the end of the local processes")
