"""Comparing: the batches of samples with known ones, and two workers' answers to one position.

    a sample ──► as known ───────────────────────────────► its host is trusted
             ├─► other floats or bytes: a warning ───────► trusted: another processor or decoder rounds otherwise
             └─► other structure, integers or texts ──► control: a trusted worker computes the index once more
                                                          ├─► as known ──► the host is rejected
                                                          └─► another result: the batch is random, and says nothing

Two answers to one position (a hedge and its lease, a lost worker's and the next one's) are compared for free, and the
first difference is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enqueuer.core import offences, refusals, sampling
from enqueuer.core.actions import WARNING
from enqueuer.core.digests import Difference, find_difference
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import ResultsReceived
from enqueuer.core.samples import Contest, Host, Known, Sample
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState

# ---------------------------------------------------------------- samples and known batches


def note_answers(
    state: State, worker: Worker, run: EpochRun, positions: Sequence[int], payloads: Sequence[Any], seconds: float
) -> None:
    """Answers were taken: keep digests of the first batches of an epoch, to compare others with."""
    samples, key = state.samples, (run.epoch, run.generation)
    sampling.note_answer(state, worker)
    if not samples.wants(*key) or worker.allows_skew:
        return
    if (opened := state.announced.get(run.epoch)) is None or opened.generation != run.generation:
        return
    known = samples.known.setdefault(key, [])
    for position, payload in zip(positions, payloads, strict=False):
        if not samples.wants(*key):
            break
        known.append(Known(run.order[position], sampling.digest_of(state, payload), seconds, worker))
    sampling.review(state)


def take_samples(state: State, worker: Worker, event: ResultsReceived) -> ResultsReceived | None:
    """Take the samples out of a result message; returns the rest, or None if nothing of it may be used."""
    if worker.samples:
        rest = []
        for lease, payload in zip(event.leases, event.payloads, strict=True):
            sample = worker.samples.pop(lease, None)
            if sample is None:
                rest.append((lease, payload))
            elif state.ledger.answer(worker, lease, state.ledger.samples) is not None:
                _judge(state, worker, sample, payload)
        if not rest:
            return None
        if len(rest) < len(event.leases):
            leases, payloads = zip(*rest, strict=True)
            nbytes = event.nbytes * len(rest) // len(event.leases)
            event = event._replace(leases=leases, payloads=payloads, nbytes=nbytes)
    if sampling.may_answer(state, worker):
        return event
    _drop(state, worker, event)
    return None


def _drop(state: State, worker: Worker, event: ResultsReceived) -> None:
    """Drop a worker's answers to leases of its time in a founding host, when another host was first."""
    state.ledger.stale_count += len(event.leases)
    state.ledger.expire(worker, [lease for lease in event.leases if lease in worker.leases])
    run = state.ledger.runs.get(event.epoch)
    is_current = run is not None and run.generation == event.generation
    for lease in event.leases:
        offence = offences.wrong_answer(state, worker, lease, is_current=is_current, is_numbered=True)
        if offence is not None and not worker.peer.banned:
            offences.report_offence(state, worker, offence)


def _judge(state: State, worker: Worker, sample: Sample, payload: Any) -> None:
    digest, expected = sampling.digest_of(state, payload), sample.known.digest
    difference = None if digest is None or expected is None else find_difference(expected, digest)
    host = sample.host
    if sample.is_control:
        if host.contest is not None and host.contest.control is worker:
            _settle_contest(state, host, host.contest, differs=difference is not None and difference.exact)
    elif host.is_trusted or host.contest is not None:
        return
    elif difference is not None and difference.exact:
        _contest(state, host, worker, sample, difference)
    else:
        if difference is not None and not host.has_rounded:
            host.has_rounded = True
            state.report(WARNING, _describe_rounding(worker, sample, difference))
        _trust_if_done(state, host, worker)


def on_sample_failed(state: State, worker: Worker, lease: int, reason: str) -> bool:
    """Note that a sample raised, which is no reason to refuse a host. False if the lease is not on a sample."""
    sample = worker.samples.pop(lease, None)
    if sample is None:
        return False
    if state.ledger.answer(worker, lease, state.ledger.samples) is None:
        return True
    host = sample.host
    if sample.is_control:
        if host.contest is not None and host.contest.control is worker:
            _settle_contest(state, host, host.contest, differs=False)
    elif not host.is_trusted and host.contest is None:
        state.report(WARNING, f"a sample of worker {worker.name}, batch {sample.known.index}, failed there: {reason}")
        _trust_if_done(state, host, worker)
    return True


def _trust_if_done(state: State, host: Host, worker: Worker) -> None:
    if not sampling.is_asked(worker):
        sampling.trust(state, host)


# ---------------------------------------------------------------- a different sample


def _contest(state: State, host: Host, worker: Worker, sample: Sample, difference: Difference) -> None:
    """Have the index computed again by a trusted worker, best by another one than before."""
    controls = [
        other
        for other in state.fleet
        if other.takes_leases
        and not other.allows_skew
        and sample.epoch in state.ledger.runs
        and (not sampling.is_sampled(state, other) or state.samples.host_of(other).is_trusted)
    ]
    control = min(controls, key=lambda other: (other is sample.known.worker, other.load), default=None)
    if control is None:
        _refuse(state, host, worker, sample, difference)
        return
    host.contest = Contest(worker, sample, difference, control, state.now)
    sampling.grant(state, control, [sample._replace(is_control=True)])


def review_contests(state: State) -> None:
    """Give up controls without an answer: their hosts are judged by the difference alone."""
    for host in list(state.samples.hosts.values()):
        contest = host.contest
        if contest is None:
            continue
        has_left = contest.control.state in (WorkerState.LOST, WorkerState.GONE)
        is_late = state.now - contest.begun_at >= sampling.patience(state)
        if has_left or is_late or not sampling.is_asked(contest.control):
            _settle_contest(state, host, contest, differs=False)


def _settle_contest(state: State, host: Host, contest: Contest, *, differs: bool) -> None:
    host.contest = None
    if not differs:
        _refuse(state, host, contest.worker, contest.sample, contest.difference)
        return
    state.samples.is_random = True
    state.report(
        WARNING,
        f"batch {contest.sample.known.index} differs each time it is computed (in {contest.difference.field}), so "
        "workers on other hosts cannot be compared with the trainer's; if that is not meant, draw with item_rng()",
    )
    sampling.review(state)


def _refuse(state: State, host: Host, worker: Worker, sample: Sample, difference: Difference) -> None:
    """Turn all workers of the host away. They are sampled again if they come again."""
    reason = (
        f"its batch {sample.known.index} is not the same as that of worker {sample.known.worker.name}: "
        f"{difference.field} differs. Both must read the same data in the same order: sort what os.listdir() and "
        "glob() give, install the same versions, or start the worker with --allow-skew"
    )
    # Serving workers leave, too: the host may have founded since it was asked.
    turned_away = [
        other
        for other in state.fleet
        if (other.state is not WorkerState.JOINING or other in host.waiting)
        and sampling.is_sampled(state, other)
        and state.samples.host_of(other) is host
    ]
    hosts = state.samples.hosts
    for key in [key for key, other in hosts.items() if other is host]:
        del hosts[key]
    for other in turned_away:
        refusals.reject(state, other, reason)


def _describe_rounding(worker: Worker, sample: Sample, difference: Difference) -> str:
    return (
        f"batch {sample.known.index} of worker {worker.name} differs from that of worker {sample.known.worker.name} in "
        f"the numbers or bytes of {difference.field}: another processor, decoder or version rounds otherwise, or the "
        "data are not the same. It serves nevertheless"
    )


# ---------------------------------------------------------------- answers to one position from two workers


def compare_twice(state: State, run: EpochRun, position: int, worker: Worker, payload: Any) -> None:
    """Compare an answer with the one taken before, if that came from another lease and its digest was kept."""
    first = run.first_digests.get(position)
    if first is None or state.samples.has_told_of_twice:
        return
    digest = sampling.digest_of(state, payload)
    difference = None if digest is None else find_difference(first, digest)
    if difference is None or not difference.exact:
        return
    state.samples.has_told_of_twice = True
    state.report(
        WARNING,
        f"batch {run.order[position]} of epoch {run.epoch} was computed twice, and that of worker {worker.name} is not "
        f"the same: {difference.field} differs. Workers must compute the same batch for an index: draw with "
        "item_rng(), and read files in the same order",
    )
