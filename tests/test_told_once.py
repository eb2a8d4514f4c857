"""What a first hour meets beside errors: deaths of workers and streams of nothing are told in the log, once."""

from __future__ import annotations

import pytest

from enqueuer import PoisonedBatchError, SequenceEnqueuer
from tests.support.mistaken_sequences import Batches, Deadly, Partial, Returnless, train
from tests.support.waiting import wait_until


def test_each_death_of_a_worker_is_told_once(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the trainer, with the exit code, and not on the supervisor's stderr as well; and there are as many as said."""
    with pytest.raises(PoisonedBatchError, match=r"killed 2 workers.*max_worker_deaths=2"):
        train(Deadly(), True, max_worker_deaths=2)
    assert len([text for text in caplog.messages if "ended with exit code 7" in text]) == 2
    assert "exit code 7" not in capfd.readouterr().err


def test_no_worker_dies_of_the_next_epoch_before_the_trainer_hears_of_this_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failed batch is ready for a trainer that is slow to take it, and a third worker serves meanwhile."""
    with SequenceEnqueuer(Deadly(), True, max_worker_deaths=2) as enqueuer:
        enqueuer.start(workers=1)
        epoch = enqueuer.epoch()
        next(epoch)
        wait_until(lambda: enqueuer.stats().ready_count + enqueuer.stats().received_count >= 6)
        with pytest.raises(PoisonedBatchError):
            list(epoch)
    assert len([text for text in caplog.messages if "ended with exit code 7" in text]) == 2


def test_a_skipped_batch_says_how_it_ended_its_workers(caplog: pytest.LogCaptureFixture) -> None:
    train(Deadly(), True, max_worker_deaths=1, on_error="skip")
    assert "skipped batch 2 of epoch 0: it killed 1 worker: ended with exit code 7" in caplog.messages


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_nothing_but_none_is_a_warning(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    """A __getitem__ without its return: the training would end at once, or wait for ever with get()."""
    with SequenceEnqueuer(Returnless()) as enqueuer:
        enqueuer.start(workers)
        assert list(enqueuer.epoch()) == list(enqueuer.epoch()) == []
    told = [text for text in caplog.messages if "is its return missing?" in text]
    assert told == [
        "no batch in epoch 0: __getitem__ returned None 4 times, and None leaves a batch out; is its return missing?"
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_few_batches_that_are_none_are_left_out_without_a_word(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with SequenceEnqueuer(Partial()) as enqueuer:
        enqueuer.start(workers)
        assert len(list(enqueuer.epoch())) == 1
    assert caplog.messages == []


def test_a_loop_over_nothing_is_a_warning_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """As Keras' ``get()``, which does not fail: it would pass for a training."""
    enqueuer = SequenceEnqueuer(Batches())
    assert list(enqueuer.get()) == list(enqueuer) == list(enqueuer.get()) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "start() was not called yet; call start() first" in caplog.text
