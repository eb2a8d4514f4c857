"""What workers answer, and whether it is taken: results, failures, and what is neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from enqueuer.core.actions import WARNING, Action, Report, Send
from enqueuer.core.conduct import Conduct
from enqueuer.core.departures import Departures
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import BlockUnavailable, ResultsReceived, ResultsRefused, ThreadTimedOut
from enqueuer.core.failures import Failures
from enqueuer.core.fleet import Fleet
from enqueuer.core.hedging import Hedger
from enqueuer.core.ledger import Ledger
from enqueuer.core.scheduler import Scheduler
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import Failure, NoBlocks


@dataclass(slots=True)
class Answers:
    """``settle(run, position, outcome)`` gives a position its outcome; False if it had one."""

    ledger: Ledger
    fleet: Fleet
    scheduler: Scheduler
    hedger: Hedger
    departures: Departures
    failures: Failures
    conduct: Conduct
    actions: list[Action]
    settle: Callable[[EpochRun, int, Any], bool]

    def on_results(self, event: ResultsReceived, now: float) -> None:
        worker = self._take_result_message(event)
        if worker is None:
            self.ledger.stale_count += len(event.leases)
            return
        if offence := self.conduct.of_seconds(worker, event.busy, now):
            self._refuse(worker, event.leases, offence)
            return
        worker.last_seen = now
        worker.note_batches(len(event.leases), event.busy, now)
        self.hedger.note_batches(worker, len(event.leases), event.busy)
        nbytes = event.nbytes // len(event.leases)
        self.scheduler.note_weight(event.epoch, nbytes)
        run = self._current_run(event.epoch, event.generation)
        if not self._take_all(worker, event, run, nbytes):
            for lease, payload in zip(event.leases, event.payloads, strict=True):
                if not self._take_answer(worker, lease, run, payload, nbytes) and worker.standing.cut_off:
                    break
        self.departures.after_answers(worker)

    def _take_all(self, worker: Worker, event: ResultsReceived, run: EpochRun | None, nbytes: int) -> bool:
        """All at once, as nearly every message can be taken; False, and nothing is changed, if one needs a look.

        ``nbytes`` is what one batch weighs.
        """
        if run is None or run.hedged:
            return False
        positions = self.ledger.answer_all(worker, event.leases, run)
        if positions is None:
            return False
        taken = run.answer_all(positions, event.payloads)
        self.ledger.stale_count += len(positions) - len(taken)
        self.ledger.note_buffered(run, taken, nbytes)
        return True

    def on_block_unavailable(self, event: BlockUnavailable, now: float) -> None:
        """It is asked for frames; what it has sent before it hears that may name blocks as well."""
        worker = self._sender_of(event)
        if worker is None or worker.route is None:
            return
        if not worker.standing.talk.take(now):
            self.departures.offend(worker, f"goes on to name shared memory that cannot be read: {event.reason}")
            return
        if not worker.asked_for_frames:
            worker.asked_for_frames = True
            text = f"{event.reason}; batches of worker {worker.name} come through the socket"
            self.actions.append(Report(WARNING, text))
        self.actions.append(Send(worker.route, NoBlocks()))

    def _sender_of(self, event: ResultsReceived | ResultsRefused | BlockUnavailable) -> Worker | None:
        worker = self.fleet.find(event.incarnation)
        if worker is None or worker.standing.cut_off:
            return None
        if event.key != worker.key:
            # There is no connection to blame: the data channel tells of none. The key is in the log.
            self.conduct.note_key(event.key, f"sent results in the name of {worker.name}")
            return None
        return worker

    def _take_result_message(self, event: ResultsReceived | ResultsRefused) -> Worker | None:
        """Whose it is, if it is its own, new, and anything at all."""
        worker = self._sender_of(event)
        if worker is None or not event.leases:
            return None
        if worker.is_beyond(event.seq):
            self.departures.offend(worker, f"sent result message {event.seq} after {worker.received_seq}")
            return None
        return worker if worker.take_result_number(event.seq) else None

    def on_results_refused(self, event: ResultsRefused, _now: float) -> None:
        self.conduct.malformed_count += 1
        worker = self._take_result_message(event) if event.leases else self._sender_of(event)
        if worker is not None:
            self._refuse(worker, event.leases, f"sent a result message that is not what it says: {event.reason}")

    def _refuse(self, worker: Worker, leases: Sequence[int], offence: str) -> None:
        """As if it had lost the leases. The message counts as received, or it would only come again."""
        self.ledger.expire(worker, [lease for lease in leases if lease in worker.leases])
        self.departures.offend(worker, offence)
        self.departures.after_answers(worker)

    def _take_answer(self, worker: Worker, lease: int, run: EpochRun | None, outcome: Any, nbytes: int) -> bool:
        position = self.ledger.answer(worker, lease, run)
        if position is None:
            self._judge(worker, lease, is_current=run is not None, numbered=True)
        elif run is not None:
            if self.settle(run, position, outcome):
                self.ledger.note_buffered(run, (position,), nbytes)
            else:
                self.ledger.stale_count += 1
        return position is not None

    def _judge(self, worker: Worker, lease: int, *, is_current: bool, numbered: bool) -> None:
        """An answer was not taken."""
        offence = self.conduct.of_answer(worker, lease, is_current=is_current, numbered=numbered)
        if offence:
            self.departures.offend(worker, offence)

    def on_failure(self, worker: Worker, message: Failure, now: float) -> None:
        worker.last_answer = now
        run = self._current_run(message.epoch, message.generation)
        position = self.ledger.answer(worker, message.lease, run)
        if position is None:
            self._judge(worker, message.lease, is_current=run is not None, numbered=False)
            if not worker.standing.talk.take(now):
                self.departures.offend(worker, "floods the control channel")
        elif run is not None and not run.is_answered(position):
            self.failures.on_error(worker, run, position, message.error)
            run.unlease(position, message.lease)
        self.departures.after_answers(worker)

    def on_thread_timed_out(self, event: ThreadTimedOut, now: float) -> None:
        worker = self.fleet.find(event.incarnation)
        if worker is None:
            return
        run = self._current_run(event.epoch, event.generation)
        position = self.ledger.answer(worker, event.lease, run)
        if run is not None and position is not None and not run.is_answered(position):
            self.failures.on_timeout(worker, run, position, event.stack)
            run.unlease(position, event.lease)
        self.departures.after_answers(worker)

    def _current_run(self, epoch: int, generation: int) -> EpochRun | None:
        run = self.ledger.runs.get(epoch)
        return run if run is not None and run.generation == generation else None
