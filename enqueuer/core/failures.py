"""What becomes of a batch whose computing went wrong: it is tried again, skipped, or failed in its place.

Three ways to go wrong are counted apart, a position and a way: ``__getitem__`` raised (``retries``), the worker died at
it (``max_worker_deaths``), it took too long (``batch_timeout``).
"""

from __future__ import annotations

from collections.abc import Callable

from enqueuer.core.actions import WARNING, Action, BatchFailed, BatchSkipped, Report
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.settings import Settings
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import ErrorRecord


class Failures:
    """``settle(run, position, outcome)`` gives a position its outcome. Appends to the coordinator's actions.

    A position that gets none is left as it was: the caller says that its lease is over.
    """

    def __init__(
        self,
        settings: Settings,
        actions: list[Action],
        settle: Callable[[EpochRun, int, BatchFailed | BatchSkipped], object],
    ) -> None:
        self.retries_count = 0
        self.timeouts_count = 0
        # (epoch, index) of each batch that was left out.
        self.skipped: list[tuple[int, int]] = []
        self._settings = settings
        self._actions = actions
        self._settle = settle

    def on_error(self, worker: Worker, run: EpochRun, position: int, error: ErrorRecord) -> None:
        """``__getitem__`` raised."""
        failures = run.failures[position] = run.failures.get(position, 0) + 1
        if failures <= self._settings.retries:
            self.retries_count += 1
        else:
            self._fail(run, position, BatchFailed(run.order[position], run.epoch, worker.worker_id, worker.host, error))

    def on_death(self, worker: Worker, run: EpochRun, position: int) -> None:
        """A supervisor saw the worker die while it was computing this position."""
        deaths = run.deaths[position] = run.deaths.get(position, 0) + 1
        limit = self._settings.max_worker_deaths
        if limit is not None and deaths >= limit:
            index = run.order[position]
            self._fail(run, position, BatchFailed(index, run.epoch, worker.worker_id, worker.host, None, deaths))

    def on_timeout(self, worker: Worker, run: EpochRun, position: int, stack: str) -> None:
        """The worker was replaced because computing this position took too long."""
        self.timeouts_count += 1
        timeouts = run.timeouts[position] = run.timeouts.get(position, 0) + 1
        index = run.order[position]
        # One host's trouble is not the batch's: whatever `retries` is, another worker tries it once.
        if timeouts > max(1, self._settings.retries):
            place = (index, run.epoch, worker.worker_id, worker.host)
            self._fail(run, position, BatchFailed(*place, None, timeouts=timeouts, stack=stack))
            return
        text = f"batch {index} of epoch {run.epoch} took too long on {worker.name}; trying it again"
        self._actions.append(Report(WARNING, f"{text}\n{stack}" if stack else text))

    def forget_skips(self, run: EpochRun) -> None:
        """The run is computed anew, so what was left out of it was never seen by anybody."""
        self.skipped = [skip for skip in self.skipped if skip[0] != run.epoch]

    def _fail(self, run: EpochRun, position: int, failed: BatchFailed) -> None:
        outcome: BatchFailed | BatchSkipped = failed
        skipped_count = self._settings.skipped_before + len(self.skipped)
        if self._settings.skip_errors and skipped_count < self._settings.max_skipped:
            outcome = BatchSkipped(failed.index, failed.epoch)
            self.skipped.append((failed.epoch, failed.index))
            text = f"skipped batch {failed.index} of epoch {failed.epoch}: {_describe(failed)}"
            self._actions.append(Report(WARNING, text))
        self._settle(run, position, outcome)


def _describe(failed: BatchFailed) -> str:
    if failed.error is not None:
        return failed.error.text
    if failed.timeouts:
        return f"it took too long on {failed.timeouts} workers"
    return f"it killed {failed.deaths} workers"
