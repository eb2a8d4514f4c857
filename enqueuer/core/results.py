"""Answers to leases: results and failures, whether each is taken, and the retry, skip or error of a failed batch.

    result message ──► its sender and number are checked ──► each lease answers its position, once ──► buffered
    Failure, death, time-out ──► counted against the position ──► leased again, or failed; a failed one is
                               skipped or raised when its turn to be delivered comes

A position can fail in three ways, counted apart: ``__getitem__`` raised (``retries``), its worker died
(``max_worker_deaths``), it took too long (``batch_timeout``).
"""

from __future__ import annotations

from collections.abc import Sequence

from enqueuer.core import comparing, granting, leaving, offences, sampling
from enqueuer.core.actions import WARNING, BatchFailed, BatchSkipped, Outcome
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import BlockUnavailable, ResultsReceived, ResultsRefused, ThreadTimedOut
from enqueuer.core.state import State
from enqueuer.core.worker import Worker
from enqueuer.protocol.messages import ErrorRecord, Failure, NoBlocks

# ---------------------------------------------------------------- results


def on_results(state: State, event: ResultsReceived) -> None:
    """A worker sent batches."""
    ledger = state.ledger
    worker = _take_result_message(state, event)
    if worker is None:
        ledger.stale_count += len(event.leases)
        return
    if (offence := offences.wrong_seconds(worker, event.busy, state.now)) is not None:
        _refuse(state, worker, event.leases, offence)
        return
    worker.last_seen = state.now
    worker.note_batches(len(event.leases), event.busy, state.now, event.nbytes)
    state.busy_seconds += event.busy
    state.hedger.note_batches(worker, len(event.leases), event.busy)
    if state.samples.is_on:
        rest = comparing.take_samples(state, worker, event)
        if rest is None:
            worker.changed(worker)
            leaving.let_go_if_done(state, worker)
            return
        event = rest
    nbytes = event.nbytes // len(event.leases)
    state.scheduler.note_weight(event.epoch, nbytes)
    run = _current_run(state, event.epoch, event.generation)
    if not _take_all(state, worker, event, run, nbytes):
        worker.changed(worker)
        for lease, payload in zip(event.leases, event.payloads, strict=True):
            if not _take_answer(state, worker, lease, run, payload, nbytes) and worker.peer.banned:
                break
    leaving.let_go_if_done(state, worker)


def _take_all(state: State, worker: Worker, event: ResultsReceived, run: EpochRun | None, nbytes: int) -> bool:
    """Take all answers of the message at once; False, and no change, if one of them needs a look, as is rare.

    ``nbytes`` is what one batch weighs.
    """
    if run is None or run.twice:
        return False
    positions = state.ledger.answer_all(worker, event.leases, run)
    if positions is None:
        return False
    taken = run.answer_all(positions, event.payloads)
    if len(taken) < len(positions):
        state.ledger.stale_count += len(positions) - len(taken)
        for position, payload in zip(positions, event.payloads, strict=True):
            comparing.compare_twice(state, run, position, worker, payload)
    state.ledger.note_buffered(run, taken, nbytes)
    if taken and state.samples.looks_at(run.epoch, run.generation):
        comparing.note_answers(state, worker, run, positions, event.payloads, event.busy / len(positions))
    return True


def _take_answer(state: State, worker: Worker, lease: int, run: EpochRun | None, outcome: Outcome, nbytes: int) -> bool:
    position = state.ledger.answer(worker, lease, run)
    if position is None:
        _judge(state, worker, lease, is_current=run is not None, is_numbered=True)
    elif run is not None:
        is_watched = position in run.twice
        if granting.settle(state, run, position, outcome):
            state.ledger.note_buffered(run, (position,), nbytes)
            if is_watched:
                run.first_digests[position] = sampling.digest_of(state, outcome)
            if state.samples.looks_at(run.epoch, run.generation):
                comparing.note_answers(state, worker, run, (position,), (outcome,), worker.item_seconds)
        else:
            state.ledger.stale_count += 1
            comparing.compare_twice(state, run, position, worker, outcome)
    return position is not None


def _judge(state: State, worker: Worker, lease: int, *, is_current: bool, is_numbered: bool) -> None:
    """Report an answer that was not taken, if it is an offence."""
    offence = offences.wrong_answer(state, worker, lease, is_current=is_current, is_numbered=is_numbered)
    if offence is not None:
        offences.report_offence(state, worker, offence)


def _sender_of(state: State, event: ResultsReceived | ResultsRefused | BlockUnavailable) -> Worker | None:
    worker = state.fleet.find(event.incarnation)
    if worker is None or worker.peer.banned:
        return None
    if event.key != worker.key:
        # The data channel names no connection to blame; the key is in the log.
        offences.report_key(state, event.key, f"sent results in the name of {worker.name}")
        return None
    return worker


def _take_result_message(state: State, event: ResultsReceived | ResultsRefused) -> Worker | None:
    """The sender, if the message is its own, new and not empty."""
    worker = _sender_of(state, event)
    if worker is None or not event.leases:
        return None
    if worker.take_result_number(event.seq):
        return worker
    if worker.is_beyond(event.seq):
        text = f"sent result message {event.seq} after {worker.received_seq}"
        offences.report_offence(state, worker, text)
    return None


# ---------------------------------------------------------------- unreadable results


def on_block_unavailable(state: State, event: BlockUnavailable) -> None:
    """Tell the worker to send frames instead of blocks. Messages already on their way may still name blocks."""
    worker = _sender_of(state, event)
    if worker is None or worker.route is None:
        return
    if not worker.peer.talk.take(state.now):
        text = f"goes on to name shared memory that cannot be read: {event.reason}"
        offences.report_offence(state, worker, text)
        return
    if not worker.asked_for_frames:
        worker.asked_for_frames = True
        state.report(WARNING, f"{event.reason}; batches of worker {worker.name} come through the socket")
    state.send(worker, NoBlocks())


def on_results_refused(state: State, event: ResultsRefused) -> None:
    """A result message contradicts its header."""
    state.peers.malformed_count += 1
    worker = _take_result_message(state, event) if event.leases else _sender_of(state, event)
    if worker is not None:
        _refuse(state, worker, event.leases, f"sent a result message that is not what it says: {event.reason}")


def _refuse(state: State, worker: Worker, leases: Sequence[int], offence: str) -> None:
    """Treat the leases as lost. The message counts as received: otherwise it would come again and again."""
    state.ledger.expire(worker, [lease for lease in leases if lease in worker.leases])
    offences.report_offence(state, worker, offence)
    leaving.let_go_if_done(state, worker)


# ---------------------------------------------------------------- failures


def on_failure(state: State, worker: Worker, message: Failure) -> None:
    """``__getitem__`` raised on a worker."""
    worker.last_answer = state.now
    if comparing.on_sample_failed(state, worker, message.lease, message.error.summary):
        leaving.let_go_if_done(state, worker)
        return
    if not sampling.note_failure(state, worker):
        state.ledger.expire(worker, (message.lease,))
        return
    run = _current_run(state, message.epoch, message.generation)
    position = state.ledger.answer(worker, message.lease, run)
    if position is None:
        _judge(state, worker, message.lease, is_current=run is not None, is_numbered=False)
        if not worker.peer.talk.take(state.now):
            offences.report_offence(state, worker, "floods the control channel")
    elif run is not None and not run.is_answered(position):
        _note_error(state, worker, run, position, message.error)
        run.unlease(position, message.lease)
    leaving.let_go_if_done(state, worker)


def on_thread_timed_out(state: State, event: ThreadTimedOut) -> None:
    """One of the trainer's own threads took longer than ``batch_timeout``."""
    worker = state.fleet.find(event.incarnation)
    if worker is None:
        return
    run = _current_run(state, event.epoch, event.generation)
    position = state.ledger.answer(worker, event.lease, run)
    if run is not None and position is not None and not run.is_answered(position):
        note_timeout(state, worker, run, position, event.stack)
        run.unlease(position, event.lease)


def _note_error(state: State, worker: Worker, run: EpochRun, position: int, error: ErrorRecord) -> None:
    """Count an exception of ``__getitem__``. The caller leases the position again if it gets no outcome here."""
    failures = run.failures[position] = run.failures.get(position, 0) + 1
    state.faults.note(state.now, _describe_error(worker, run, position, error))
    if state.options.may_retry(failures):
        state.retries_count += 1
    else:
        failed = BatchFailed(run.order[position], run.epoch, worker.worker_id, worker.host, error)
        granting.settle(state, run, position, failed)


def _describe_error(worker: Worker, run: EpochRun, position: int, error: ErrorRecord) -> str:
    return f"batch {run.order[position]} of epoch {run.epoch} on {worker.name} raised {error.summary}"


def note_death(state: State, worker: Worker, run: EpochRun, position: int, exit_code: int) -> None:
    """Count a death: a supervisor saw the worker die while it was computing this position."""
    deaths = run.deaths.setdefault(position, [])
    deaths.append(exit_code)
    limit = state.options.max_worker_deaths
    if limit is not None and len(deaths) >= limit:
        index = run.order[position]
        failed = BatchFailed(index, run.epoch, worker.worker_id, worker.host, None, tuple(deaths))
        granting.settle(state, run, position, failed)


def note_timeout(state: State, worker: Worker, run: EpochRun, position: int, stack: str) -> None:
    """Count a time-out: the worker was replaced because computing this position took too long."""
    state.timeouts_count += 1
    timeouts = run.timeouts[position] = run.timeouts.get(position, 0) + 1
    index = run.order[position]
    # The trouble may be one host's: whatever `retries` is, another worker tries the batch once.
    if timeouts > max(1, state.options.retries):
        failed = BatchFailed(index, run.epoch, worker.worker_id, worker.host, None, timeouts=timeouts, stack=stack)
        granting.settle(state, run, position, failed)
        return
    text = f"batch {index} of epoch {run.epoch} took too long on {worker.name}; trying it again"
    state.report(WARNING, f"{text}\n{stack}" if stack else text)


def skip_or_raise(state: State, outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes for the trainer, in the same order: failed batches become skips, as far as ``max_skipped`` allows.

    This is decided at delivery, because the order in which batches fail on several workers is chance.
    """
    if state.options.on_error != "skip":
        return outcomes
    return [_skip_or_raise(state, outcome) if type(outcome) is BatchFailed else outcome for outcome in outcomes]


def _skip_or_raise(state: State, failed: BatchFailed) -> BatchFailed | BatchSkipped:
    if not state.options.may_skip(state.facts.skipped_before + len(state.skipped)):
        return failed
    state.skipped.append((failed.epoch, failed.index))
    state.report(WARNING, failed.describe_skip())
    return BatchSkipped(failed.index, failed.epoch)


def _current_run(state: State, epoch: int, generation: int) -> EpochRun | None:
    run = state.ledger.runs.get(epoch)
    return run if run is not None and run.generation == generation else None
