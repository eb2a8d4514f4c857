"""Samples: before a host's batches are used, some of them are compared with known batches.

Instances built on two machines may disagree without a word: another listing of the same files, other data, other
versions. So a remote host computes up to three indices again, after a trusted worker:

    Ready ──► waiting ──► asked (a Grant) ──► `comparing`: as known ──► trusted: its workers serve
                 │                                         not so   ──► rejected
                 └── nothing is known, nobody is trusted ──► founding: serves; the first answer makes its host trusted

The trainer's own workers are always trusted. A founding host slower than another one has its leases revoked and is
sampled like any other. A sample answers no position: its lease is in the ledger under no epoch, so its failure is
blamed on no position.
"""

from __future__ import annotations

from typing import Any

from enqueuer.core import refusals
from enqueuer.core.actions import INFO, WARNING
from enqueuer.core.digests import BatchDigest
from enqueuer.core.samples import Host, Known, Sample
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.protocol.messages import Grant, Revoke

# After this many worker time-outs a host serves without a comparison, a second worker is asked, a second host founds,
# and a control counts as failed. An item may take a minute.
_PATIENCE_TIMEOUTS = 6
# Longer items are sampled once.
_LONG_SECONDS = 1.0
# The limit of tries: a sample may kill its worker each time, and the host must not wait for ever.
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
    state.note("joined", worker)
    state.deaths_on_arrival = 0
    refusals.forget(state, worker.name)
    state.report(INFO, f"worker {worker.name} (pid {worker.pid}) joined")


def is_sampled(state: State, worker: Worker) -> bool:
    """Whether the worker's batches are used only if its host is trusted."""
    return state.samples.is_on and not (worker.in_process or worker.allows_skew or state.is_local(worker.channel))


# ---------------------------------------------------------------- waiting hosts


def review(state: State) -> None:
    """Look at all waiting hosts: time has passed, or there is something new to compare with."""
    for host in list(state.samples.hosts.values()):
        if host.waiting:
            _review(state, host)


def _review(state: State, host: Host) -> None:
    for worker in [worker for worker in host.waiting if worker.state is not WorkerState.JOINING]:
        del host.waiting[worker]
    if host.contest is not None or not host.waiting:
        return
    if host.is_trusted or host.founding_since is not None:
        _serve_waiting(state, host)
    elif state.samples.is_random:
        trust(state, host)
    elif (found := _newest_known(state)) is not None:
        epoch, generation, known = found
        comparable = [batch for batch in known if batch.digest is not None]
        if not comparable:
            trust(state, host)
        elif not _is_in_patience(state, host):
            _ask(state, host, epoch, generation, comparable)
    elif not _has_trusted(state):
        if _may_found(state):
            _found(state, host)
    elif state.now - host.waiting_since >= patience(state):
        waited = state.now - host.waiting_since
        _trust_unchecked(state, host, f"for {waited:.0f} s no batch came with which its own could be compared")


def patience(state: State) -> float:
    return _PATIENCE_TIMEOUTS * state.options.timing.worker_timeout


def _newest_known(state: State) -> tuple[int, int, list[Known]] | None:
    """Known batches of the newest epoch with any, among the epochs announced to every worker."""
    for epoch, opened in sorted(state.announced.items(), reverse=True):
        # A banned peer is no measure for others.
        known = [
            batch for batch in state.samples.known.get((epoch, opened.generation), ()) if not batch.worker.peer.banned
        ]
        if known:
            return epoch, opened.generation, known
    return None


def _has_trusted(state: State) -> bool:
    """Whether a worker is or will be here to compare others with."""
    return any(channel.local for channel in state.facts.channels) or any(
        worker.in_process or (is_sampled(state, worker) and state.samples.host_of(worker).is_trusted)
        for worker in state.fleet
    )


def trust(state: State, host: Host) -> None:
    host.is_trusted, host.founding_since, host.contest = True, None, None
    _serve_waiting(state, host)


def _trust_unchecked(state: State, host: Host, reason: str) -> None:
    state.report(WARNING, f"worker {next(iter(host.waiting)).name} serves without a sample: {reason}")
    trust(state, host)


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
        if since is not None and not host.has_failed and state.now - since < patience(state):
            return False
    return True


def _found(state: State, host: Host) -> None:
    for other in state.samples.hosts.values():
        # None of their workers is here; a returning one has to agree with the batches computed meanwhile.
        other.is_trusted = False
    host.founding_since, host.has_failed = state.now, False
    state.samples.is_founding = True
    _serve_waiting(state, host)


def _give_up_founding(state: State, chosen: Host) -> None:
    """Have founding hosts wait for their samples, as another one was first; their leases are granted again."""
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
    state.samples.is_founding = False


# ---------------------------------------------------------------- use of answers


def may_answer(state: State, worker: Worker) -> bool:
    """Whether the worker's answers may be used: those of one that serves, and of others by their host."""
    if worker.state is WorkerState.SERVING or not is_sampled(state, worker):
        return True
    host = state.samples.host_of(worker)
    return host.is_trusted or host.founding_since is not None


def note_answer(state: State, worker: Worker) -> None:
    """An answer of the worker was taken: the first one of a founding host makes the host trusted."""
    if is_sampled(state, worker):
        host = state.samples.host_of(worker)
        if not host.is_trusted and host.founding_since is not None:
            trust(state, host)
            _give_up_founding(state, host)


def note_failure(state: State, worker: Worker) -> bool:
    """Note a failed item of the worker; True if it counts. Beside a failing founding host another one may found."""
    if not is_sampled(state, worker):
        return True
    host = state.samples.host_of(worker)
    host.has_failed = True
    return host.is_trusted or host.founding_since is not None


def digest_of(state: State, payload: Any) -> BatchDigest | None:
    """The payload's digest; None if it cannot be compared."""
    return None if state.facts.digest_of is None else state.facts.digest_of(payload)


# ---------------------------------------------------------------- asking


def _ask(state: State, host: Host, epoch: int, generation: int, known: list[Known]) -> None:
    idle = next((worker for worker in host.waiting if not is_asked(worker)), None)
    if idle is None:
        return
    if host.asks_count == _MOST_ASKS:
        _trust_unchecked(state, host, f"its workers ended, or said nothing, in {_MOST_ASKS} tries")
        return
    grant(state, idle, [Sample(epoch, generation, batch, host) for batch in known[: _samples_count(state, known)]])
    host.asked_at = state.now
    host.asks_count += 1


def _samples_count(state: State, known: list[Known]) -> int:
    """How many batches to compare: one if they take long, and fewer than a worker computes before it is replaced."""
    share = state.newest_epoch.options.get("max_batches") if state.newest_epoch is not None else None
    most = 1 if known[0].seconds > _LONG_SECONDS else len(known)
    return most if share is None else max(1, min(most, share - 1))


def _is_in_patience(state: State, host: Host) -> bool:
    """Whether a worker of the host computes a sample, and has time for it."""
    return state.now - host.asked_at < patience(state) and any(map(is_asked, host.waiting))


def is_asked(worker: Worker) -> bool:
    return any(lease in worker.leases for lease in worker.samples)


def grant(state: State, worker: Worker, samples: list[Sample]) -> None:
    first = state.ledger.grant_samples(worker, len(samples), state.now)
    worker.samples.update(enumerate(samples, first))
    indices = tuple([sample.known.index for sample in samples])
    state.send(worker, Grant(samples[0].epoch, samples[0].generation, worker.received_seq, first, indices))
