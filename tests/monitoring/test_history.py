from __future__ import annotations

import pytest

from enqueuer.monitoring.history import LONGEST_SPAN, History, is_another_session
from enqueuer.protocol.observation import Snapshot
from tests.monitoring.test_status_table import SNAPSHOT


def at(seconds: float, batches: int = 0, wait: float = 0.0, ready: int = 0) -> Snapshot:
    return SNAPSHOT._replace(elapsed_seconds=seconds, batches_total=batches, wait_seconds=wait, ready_count=ready)


def history(*snapshots: Snapshot) -> History:
    made = History()
    for snapshot in snapshots:
        made.add(snapshot)
    return made


def test_rates_are_those_between_two_snapshots() -> None:
    made = history(at(10.0, 100, 1.0), at(12.0, 150, 1.5), at(13.0, 150, 2.5))
    assert [moment.batches_per_second for moment in made.moments] == [25.0, 0.0]
    assert [moment.wait_share for moment in made.moments] == [0.25, 1.0]


def test_the_recent_rate_is_that_of_ten_seconds_or_of_all_that_was_seen() -> None:
    assert history().recent is None and history(at(1.0)).recent is None
    made = history(*(at(float(second), 0 if second < 20 else 10 * (second - 20)) for second in range(40)))
    assert made.recent == (10.0, 0.0)
    assert history(at(0.0), at(2.0, 6, 1.0)).recent == (3.0, 0.5)


def test_pages_of_one_round_are_one_moment() -> None:
    made = history(at(1.0), at(1.01), at(1.02, 5), at(2.0, 10))
    assert [(moment.seconds, moment.batches_per_second) for moment in made.moments] == [(2.0, 10.0)]


def test_several_consumers_wait_no_longer_than_all_the_time() -> None:
    assert history(at(0.0), at(1.0, wait=3.0)).moments[0].wait_share == 1.0


def test_columns_are_means_over_equal_spans_and_move_by_whole_columns() -> None:
    made = history(*(at(float(second), ready=second) for second in range(13)))
    columns = made.columns(lambda moment: moment.ready_count, 8.0, 4)
    assert columns == [6.5, 8.5, 10.5, 12.0], "the last one has just begun"
    made.add(at(13.0, ready=13))
    assert made.columns(lambda moment: moment.ready_count, 8.0, 4) == [6.5, 8.5, 10.5, 12.5]


def test_columns_before_the_first_snapshot_are_empty() -> None:
    made = history(at(0.0), at(1.0, ready=5), at(2.0, ready=6))
    assert made.columns(lambda moment: moment.ready_count, 4.0, 4) == [None, None, 5.0, 6.0]
    assert history().columns(lambda moment: moment.ready_count, 4.0, 2) == [None, None]
    assert made.columns(lambda moment: moment.ready_count, 4.0, 0) == []


def test_narrow_columns_have_no_holes_but_where_the_trainer_did_not_answer() -> None:
    made = history(at(0.0), at(1.0, ready=1), at(2.0, ready=2), at(12.0, ready=3))
    columns = made.columns(lambda moment: moment.ready_count, 12.0, 24)
    assert columns[1:5] == [1.0, 2.0, 2.0, None] and columns[-2:] == [None, 3.0]


def test_no_more_than_the_longest_span_is_kept() -> None:
    made = history(*(at(float(second)) for second in range(3 * int(LONGEST_SPAN))))
    assert len(made.moments) == pytest.approx(LONGEST_SPAN, abs=2)


def test_another_process_or_start_is_another_session() -> None:
    assert not is_another_session(at(1.0), at(1.0)) and not is_another_session(at(1.0), at(2.0))
    assert is_another_session(at(2.0), at(1.0))
    assert is_another_session(at(1.0), at(2.0)._replace(pid=43))
