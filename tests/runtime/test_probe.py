"""The probe: one batch again and again, copies of it, and a rate; the stream goes on as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.runtime.probe import repeat


class Counting:
    """Batch i holds i, four times; batch ``failing`` raises."""

    def __init__(self, length: int = 6, failing: int = -1) -> None:
        self.length, self.failing = length, failing

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self.failing:
            raise ValueError("no such row")
        return np.full(4, index)


def test_each_step_gets_a_copy_of_its_own() -> None:
    batch = np.zeros(3)
    seen = []
    for copied in repeat(batch, 3, lambda _: None):
        copied += 1
        seen.append(copied)
    assert [list(copied) for copied in seen] == [[1, 1, 1]] * 3
    assert list(batch) == [0, 0, 0]


def test_the_rate_is_that_of_the_median_step_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.5, 20.0, 20.5, 30.0, 38.0])
    monkeypatch.setattr("enqueuer.runtime.probe.time.perf_counter", lambda: next(clock))
    rates: list[float | None] = []
    for _ in repeat(0, 4, rates.append):
        pass
    assert rates == [2.0]


def test_a_loop_that_is_left_after_its_first_step_ends_without_a_rate() -> None:
    rates: list[float | None] = []
    for _ in repeat(0, 10, rates.append):
        break
    assert rates == [None]


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_the_batch_that_was_probed_is_still_the_next_one(processes: bool) -> None:
    with SequenceEnqueuer(Counting(), processes) as enqueuer:
        enqueuer.start(workers=2)
        stream = enqueuer.get()
        assert [int(batch[0]) for batch in enqueuer.probe(3)] == [0, 0, 0]
        assert [int(next(stream)[0]) for _ in range(6)] == list(range(6))
        assert [int(batch[0]) for batch in enqueuer.probe(2)] == [0, 0], "the next epoch's first"
        assert [int(next(stream)[0]) for _ in range(6)] == list(range(6))
        assert enqueuer.state_dict()["epoch"] == 1
        for batch in enqueuer.probe(2):
            batch[:] = 77
        assert int(next(stream)[0]) == 0


def test_the_verdict_goes_by_the_probed_rate() -> None:
    with SequenceEnqueuer(Counting()) as enqueuer:
        enqueuer.start(workers=1)
        for _ in enqueuer.probe(3):
            pass
        session = enqueuer._session
        assert session is not None
        assert session._views._verdicts.window.probed_rate == session._views._verdicts.probed_rate
        assert session._views._verdicts.probed_rate is not None


def test_a_probe_that_is_left_and_one_after_the_end_of_the_session_hold_up_nothing() -> None:
    with SequenceEnqueuer(Counting()) as enqueuer:
        enqueuer.start(workers=1)
        session = enqueuer._session
        assert session is not None
        left = enqueuer.probe(5)
        next(left)
        assert session._views._verdicts._is_paused
        left.close()
        assert not session._views._verdicts._is_paused
        assert session._views._verdicts.probed_rate is None
        under_way = enqueuer.probe(3)
        next(under_way)
        enqueuer.stop()
        assert len(list(under_way)) == 2


def test_a_failed_batch_ends_the_probe_with_its_error() -> None:
    with SequenceEnqueuer(Counting(failing=0)) as enqueuer:
        enqueuer.start(workers=1)
        with pytest.raises(ValueError, match="no such row"):
            list(enqueuer.probe(3))
        assert not enqueuer.is_running()


def test_what_cannot_be_probed_is_said_at_the_call() -> None:
    with SequenceEnqueuer(Counting()) as enqueuer:
        with pytest.raises(RuntimeError, match=r"call start\(\) first"):
            enqueuer.probe()
        enqueuer.start(workers=0)
        with pytest.raises(RuntimeError, match="computes each batch itself"):
            enqueuer.probe()
        with pytest.raises(ValueError, match="2 or more"):
            enqueuer.probe(1)
