"""The history of faults: what reaches it, and its bound."""

from __future__ import annotations

from enqueuer.core.actions import INFO, WARNING
from enqueuer.core.fault_history import FaultHistory
from tests.core.driver import Driver, Peer


def test_the_latest_faults_are_kept_and_numbered_from_one() -> None:
    history = FaultHistory(100.0)
    for number in range(1, 1_001):
        history.note(100.0 + number, f"fault {number}" + "x" * 5_000)
    faults = history.after(0)
    assert len(faults) == 256 and faults[-1].number == 1_000 and faults[-1].seconds == 1_000.0
    assert all(len(fault.text) <= 2_000 for fault in faults)
    assert [fault.number for fault in history.after(998)] == [999, 1_000]


def test_a_warning_and_an_exception_that_is_tried_again_are_faults() -> None:
    driver = Driver(retries=1)
    driver.open(4)
    worker = Peer(driver, 1).join(4)
    state = driver.core.state
    state.report(INFO, "no fault")
    state.report(WARNING, "a fault")
    worker.fail(worker.leases[0])
    texts = [fault.text for fault in state.faults.after(0)]
    assert texts[0] == "a fault"
    assert texts[1].startswith("batch 0 of epoch 0 on ") and " raised ValueError: " in texts[1]
