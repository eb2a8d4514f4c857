"""Samples: before a host's batches are used, batches of it are compared with batches that are known already.

Instances that are built on two machines may disagree without anybody noticing: another listing of the same files,
other data, other versions. So a remote host computes up to three indices whose batches a trusted worker has delivered:

    Ready ──► waiting ──► asked (a Grant) ──► same ───────────────────────► trusted: its workers serve
                 │                        ├─► rounded otherwise: a warning ─┘    ▲
                 │                        └─► differs ──► control ──► the same index differs from the known batch
                 │                                           │        on a trusted worker, too: it is random
                 │                                           └──────► rejected
                 └── nobody is trusted, nothing is known ──► founding: serves; the first answer makes its host trusted

The trainer's own workers are always trusted. A founding host that is slower than another one has its leases revoked and
is sampled like any other. A sample answers no position: its lease is in the ledger, under no epoch, so nothing that
happens to it is blamed on a position.

Answers that are computed twice anyway (hedges, leases of a lost worker) are compared as well, and told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enqueuer.core import refusals
from enqueuer.core.actions import INFO, WARNING
from enqueuer.core.digests import BatchDigest, Difference, find_difference
from enqueuer.core.epoch_run import EpochRun
from enqueuer.core.events import ResultsReceived
from enqueuer.core.samples import Contest, Host, Known, Sample
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Grant, Revoke

# Time-outs of a silent worker until a host that cannot be compared serves nevertheless, a second worker is asked, a
# second host founds, and a control counts as failed. An item may take a minute.
_PATIENCE_TIMEOUTS = 6
# Items that take longer are sampled once.
_LONG_SECONDS = 1.0
# A sample that kills its worker, each time, is no reason to keep a host waiting for ever.
_MOST_ASKS = 5

# ---------------------------------------------------------------- a worker is ready


def admit(state: State, worker: Worker, *, allows_skew: bool) -> None:
    """The worker has built the Sequence: it serves, or waits for its host to be trusted."""
    worker.allows_skew = allows_skew
    if not is_sampled(state, worker):
        _serve(state, worker)
        return
    host = state.samples.host_of(worker)
    if not host.waiting:
        host.waiting_since = state.now
    host.waiting[worker] = None
    _review(state, host)


def _serve(state: State, worker: Worker) -> None:
    worker.move_to(WorkerState.SERVING)
    state.deaths_on_arrival = 0
    refusals.forget(state, worker.name)
    state.report(INFO, f"worker {worker.name} (pid {worker.pid}) joined")


def is_sampled(state: State, worker: Worker) -> bool:
    """Whether the worker's batches are used only if its host is trusted."""
    return state.samples.is_on and not (worker.in_process or worker.allows_skew or state.is_local(worker.channel))


# ---------------------------------------------------------------- hosts that wait


def review(state: State) -> None:
    """Look at all hosts that wait: time has passed, or there is something new to compare with."""
    for host in list(state.samples.hosts.values()):
        if host.waiting or host.contest is not None:
            _review(state, host)


def _review(state: State, host: Host) -> None:
    for worker in [worker for worker in host.waiting if worker.state is not WorkerState.JOINING]:
        del host.waiting[worker]
    if host.contest is not None:
        _review_contest(state, host, host.contest)
    elif not host.waiting:
        return
    elif host.is_trusted or host.founding_since is not None:
        _serve_waiting(state, host)
    elif state.samples.is_random:
        _trust(state, host)
    elif (found := _newest_known(state)) is not None:
        epoch, generation, known = found
        comparable = [batch for batch in known if batch.digest is not None]
        if not comparable:
            _trust(state, host)
        elif not _is_in_patience(state, host):
            _ask(state, host, epoch, generation, comparable)
    elif not _has_trusted(state):
        if _may_found(state):
            _found(state, host)
    elif state.now - host.waiting_since >= _patience(state):
        waited = state.now - host.waiting_since
        _trust_unchecked(state, host, f"for {waited:.0f} s no batch came with which its own could be compared")


def _patience(state: State) -> float:
    return _PATIENCE_TIMEOUTS * state.options.timing.worker_timeout


def _newest_known(state: State) -> tuple[int, int, list[Known]] | None:
    """Known batches of the newest epoch that has any and that every worker was told of."""
    for epoch, opened in sorted(state.announced.items(), reverse=True):
        known = state.samples.known.get((epoch, opened.generation))
        if known:
            return epoch, opened.generation, known
    return None


def _has_trusted(state: State) -> bool:
    """Whether any worker is or will be here whose batches others can be compared with."""
    return any(channel.local for channel in state.facts.channels) or any(
        worker.in_process or (is_sampled(state, worker) and state.samples.host_of(worker).is_trusted)
        for worker in state.fleet
    )


def _trust(state: State, host: Host) -> None:
    host.is_trusted, host.founding_since, host.contest = True, None, None
    _serve_waiting(state, host)


def _trust_unchecked(state: State, host: Host, reason: str) -> None:
    state.report(WARNING, f"worker {next(iter(host.waiting)).name} serves without a sample: {reason}")
    _trust(state, host)


def _serve_waiting(state: State, host: Host) -> None:
    waiting, host.waiting = host.waiting, {}
    for worker in waiting:
        if worker.state is WorkerState.JOINING:
            _serve(state, worker)


# ---------------------------------------------------------------- founding


def _may_found(state: State) -> bool:
    """Whether one more host may compute before there is anything to compare it with."""
    for worker in state.fleet:
        if not is_sampled(state, worker):
            continue
        host = state.samples.host_of(worker)
        since = host.founding_since
        if since is not None and not host.has_failed and state.now - since < _patience(state):
            return False
    return True


def _found(state: State, host: Host) -> None:
    for other in state.samples.hosts.values():
        # None of their workers is here; one that returns has to agree with what was computed meanwhile.
        other.is_trusted = False
    host.founding_since, host.has_failed = state.now, False
    _serve_waiting(state, host)


def _give_up_founding(state: State, chosen: Host) -> None:
    """Another host was first: the founding ones wait for their samples, and their leases are granted again."""
    for worker in list(state.fleet):
        if not is_sampled(state, worker):
            continue
        host = state.samples.host_of(worker)
        if host is chosen or host.founding_since is None:
            continue
        if worker.leases:
            state.send(worker, Revoke(tuple(worker.leases)))
            state.ledger.expire(worker, list(worker.leases))
        if worker.state is WorkerState.SERVING:
            worker.move_to(WorkerState.JOINING)
            host.waiting[worker] = None
            host.waiting_since = state.now
    for host in state.samples.hosts.values():
        host.founding_since = None


# ---------------------------------------------------------------- answers


def take_samples(state: State, worker: Worker, event: ResultsReceived) -> ResultsReceived | None:
    """Take the samples out of a result message; returns the rest, None for none that may be used."""
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
    if may_answer(state, worker):
        return event
    # It was granted them as a founding host, and another one was first.
    state.ledger.stale_count += len(event.leases)
    state.ledger.expire(worker, [lease for lease in event.leases if lease in worker.leases])
    return None


def may_answer(state: State, worker: Worker) -> bool:
    """Whether the worker's answers may be used. The first answer of a founding host makes the host trusted."""
    if not is_sampled(state, worker):
        return True
    host = state.samples.host_of(worker)
    if not host.is_trusted and host.founding_since is not None:
        _trust(state, host)
        _give_up_founding(state, host)
    return host.is_trusted


def note_failure(state: State, worker: Worker) -> bool:
    """A failed item of the worker; whether it counts. Another host may found beside one that fails."""
    if not is_sampled(state, worker):
        return True
    host = state.samples.host_of(worker)
    host.has_failed = True
    return host.is_trusted or host.founding_since is not None


def note_known(
    state: State, worker: Worker, run: EpochRun, positions: Sequence[int], payloads: Sequence[Any], seconds: float
) -> None:
    """Keep digests of the first batches of an epoch, to compare others with."""
    samples, key = state.samples, (run.epoch, run.generation)
    if not samples.is_on or not samples.wants(*key) or worker.allows_skew:
        return
    if (opened := state.announced.get(run.epoch)) is None or opened.generation != run.generation:
        return
    known = samples.known.setdefault(key, [])
    for position, payload in zip(positions, payloads, strict=False):
        if not samples.wants(*key):
            break
        known.append(Known(run.order[position], digest_of(state, payload), seconds, worker))
    review(state)


def digest_of(state: State, payload: Any) -> BatchDigest | None:
    """The payload's digest; None if it cannot be compared."""
    return None if state.facts.digest_of is None else state.facts.digest_of(payload)


# ---------------------------------------------------------------- asking and judging


def _ask(state: State, host: Host, epoch: int, generation: int, known: list[Known]) -> None:
    idle = next((worker for worker in host.waiting if not _is_asked(worker)), None)
    if idle is None:
        return
    if host.asks_count == _MOST_ASKS:
        _trust_unchecked(state, host, f"its workers ended, or said nothing, in {_MOST_ASKS} tries")
        return
    chosen = known[:1] if known[0].seconds > _LONG_SECONDS else known
    _grant(state, idle, [Sample(epoch, generation, batch, host) for batch in chosen])
    host.asked_at = state.now
    host.asks_count += 1


def _is_in_patience(state: State, host: Host) -> bool:
    """Whether a worker of the host computes a sample, and has time for it."""
    return state.now - host.asked_at < _patience(state) and any(map(_is_asked, host.waiting))


def _is_asked(worker: Worker) -> bool:
    return any(lease in worker.leases for lease in worker.samples)


def _grant(state: State, worker: Worker, samples: list[Sample]) -> None:
    first = state.ledger.grant_samples(worker, len(samples), state.now)
    worker.samples.update(enumerate(samples, first))
    indices = tuple([sample.known.index for sample in samples])
    state.send(worker, Grant(samples[0].epoch, samples[0].generation, worker.received_seq, first, indices))


def _judge(state: State, worker: Worker, sample: Sample, payload: Any) -> None:
    digest, expected = digest_of(state, payload), sample.known.digest
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
    """A sample raised: no reason to refuse a host. False if the lease is none of a sample."""
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
    if not _is_asked(worker):
        _trust(state, host)


# ---------------------------------------------------------------- a sample that differs


def _contest(state: State, host: Host, worker: Worker, sample: Sample, difference: Difference) -> None:
    """Have the index computed again by a trusted worker, best by another one than before."""
    controls = [
        other
        for other in state.fleet
        if other.takes_leases
        and not other.allows_skew
        and sample.epoch in state.ledger.runs
        and (not is_sampled(state, other) or state.samples.host_of(other).is_trusted)
    ]
    control = min(controls, key=lambda other: (other is sample.known.worker, other.load), default=None)
    if control is None:
        _refuse(state, host, worker, sample, difference)
        return
    host.contest = Contest(worker, sample, difference, control, state.now)
    _grant(state, control, [sample._replace(is_control=True)])


def _review_contest(state: State, host: Host, contest: Contest) -> None:
    has_left = contest.control.state in (WorkerState.LOST, WorkerState.GONE) or not _is_asked(contest.control)
    if has_left or state.now - contest.begun_at >= _patience(state):
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
    review(state)


def _refuse(state: State, host: Host, worker: Worker, sample: Sample, difference: Difference) -> None:
    """Turn all workers of the host away. They are sampled again if they come again."""
    reason = (
        f"its batch {sample.known.index} is not the same as that of worker {sample.known.worker.name}: "
        f"{difference.field} differs. Both must read the same data in the same order: sort what os.listdir() and "
        "glob() give, install the same versions, or start the worker with --allow-skew"
    )
    samples = state.samples
    for key in [key for key, other in samples.hosts.items() if other is host]:
        del samples.hosts[key]
    turned_away = dict.fromkeys([worker, *host.waiting])
    for other in turned_away:
        if other.state not in (WorkerState.LOST, WorkerState.GONE):
            refusals.reject(state, other, reason)


def _describe_rounding(worker: Worker, sample: Sample, difference: Difference) -> str:
    return (
        f"batch {sample.known.index} of worker {worker.name} differs from that of worker {sample.known.worker.name} in "
        f"the numbers or bytes of {difference.field}: another processor, decoder or version rounds otherwise, or the "
        "data are not the same. It serves nevertheless"
    )


# ---------------------------------------------------------------- answers to one position from two workers


def compare_twice(state: State, run: EpochRun, position: int, worker: Worker, payload: Any) -> None:
    """Compare an answer with the one that was taken, if that was another one and its digest was kept."""
    first = run.first_digests.get(position)
    if first is None or state.samples.has_told_of_twice:
        return
    digest = digest_of(state, payload)
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
