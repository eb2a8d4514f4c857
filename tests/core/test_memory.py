"""What the core keeps of batches that are over: nothing."""

from __future__ import annotations

from enqueuer.core import events as ev
from tests.core.driver import Driver, Peer
from tests.support.kept_blocks import blocks_kept_by


def test_granting_and_delivering_keeps_no_memory() -> None:
    driver = Driver(max_queue_size=6)
    driver.open(20_000)
    worker = Peer(driver, 1).join(20_000)
    core, record = driver.core, worker.record
    taken_total = 0

    def turn() -> None:
        nonlocal taken_total
        leases = list(record.leases)
        taken_total += len(leases)
        answer = ev.ResultsReceived(record.incarnation, 0, 0, record.received_seq + 1, 1e-5, leases, leases, 100)
        core.handle([answer, ev.Taken(taken_total - len(leases))], driver.now)
        core.handle([ev.Taken(taken_total)], driver.now)

    turn()
    turn()
    assert len(record.leases) == 7
    assert blocks_kept_by(turn) < 100
    assert len(record.leases) == 7
