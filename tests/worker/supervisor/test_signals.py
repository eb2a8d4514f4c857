from __future__ import annotations

import signal

from enqueuer_worker.supervisor.signals import OneSigterm


def test_a_sigterm_at_once_after_the_first_is_the_same_and_a_later_one_is_not() -> None:
    sigterms = OneSigterm()
    assert [sigterms.is_repeated(signal.SIGTERM, now) for now in (50.0, 50.0, 50.9, 51.0, 60.0)] == [
        *(False, True, True, False, False)
    ]


def test_a_second_ctrl_c_counts_at_once() -> None:
    sigterms = OneSigterm()
    assert not sigterms.is_repeated(signal.SIGINT, 50.0) and not sigterms.is_repeated(signal.SIGINT, 50.0)
