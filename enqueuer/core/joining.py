"""The joining of workers, and every reason to refuse one.

    worker                                coordinator
    Hello ──────────────────────────────► identity, version, NumPy; whether a live object can reach it
          ◄────────────────────────────── Welcome (where batches go, how to build the Sequence), Epoch …
    builds the Sequence
    Ready ──────────────────────────────► length, digest; a sample of its batches: from now on it gets leases

A later epoch is announced to every worker in the same two messages. A worker with a new connection says Hello again,
and lists the leases it still holds.
"""

from __future__ import annotations

import math
from typing import Any

from enqueuer.core import offences, refusals, sampling
from enqueuer.core.actions import ERROR, WARNING, FleetFailed
from enqueuer.core.events import EpochOpened, Route, ThreadsJoined
from enqueuer.core.peer import PeerRecord, Supervisor
from enqueuer.core.state import State
from enqueuer.core.worker import Worker, WorkerState
from enqueuer.errors import AuthenticationError
from enqueuer.protocol.messages import ACCEPTED_VERSIONS, Epoch, Hello, LoadFailure, Ready, Reject, Role, Welcome

# The current epoch and the one computed ahead.
_EPOCHS_KEPT = 2
_VERSIONS_KEPT = 5

# ---------------------------------------------------------------- the trainer's threads, and epochs


def add_threads(state: State, event: ThreadsJoined) -> None:
    """The trainer's own threads serve: one worker with many slots and without a Hello."""
    worker = Worker(
        worker_id="threads",
        incarnation=event.incarnation,
        host=event.host,
        pid=event.pid,
        channel=event.route.channel,
        slots=event.slots,
        route=event.route,
        supervisor=b"",
        child_number=0,
        last_seen=state.now,
        peer=PeerRecord("the trainer's threads"),
        in_process=True,
    )
    state.fleet.add(worker)
    worker.move_to(WorkerState.SERVING)
    state.note("joined", worker)


def announce(state: State, opened: EpochOpened) -> None:
    """Tell every worker that an epoch, or a newer state of one, can be computed."""
    previous = state.newest_epoch
    state.announced[opened.epoch] = opened
    for epoch in sorted(state.announced)[:-_EPOCHS_KEPT]:
        del state.announced[epoch]
    state.newest_epoch = state.announced[max(state.announced)]
    state.samples.keep_only((epoch, other.generation) for epoch, other in state.announced.items())
    renew = previous is None or previous.for_welcome != opened.for_welcome
    for worker in state.fleet:
        if worker.in_process:
            continue
        refusal = _refusal_of_channel(state, worker.channel, opened)
        if refusal is not None:
            refusals.reject(state, worker, refusal)
        elif worker.route is not None:
            _send_epochs(state, worker, [opened], welcome=renew)


def send_epochs(state: State, worker: Worker, *, welcome: bool = False) -> None:
    """Tell the worker of the current epoch and the one ahead, after a Welcome if it needs one."""
    _send_epochs(state, worker, [opened for _, opened in sorted(state.announced.items())], welcome=welcome)


def _send_epochs(state: State, worker: Worker, epochs: list[EpochOpened], *, welcome: bool) -> None:
    messages: list[Epoch | Welcome] = [_epoch_message(state, worker.channel, opened) for opened in epochs]
    if welcome:
        messages.insert(0, _welcome_message(state, worker.channel, worker.received_seq, epochs[-1]))
    for message in messages:
        state.send(worker, message)
    worker.epochs_sent_at = state.now


def carries_sequence(state: State, channel: str) -> bool:
    """Whether an Epoch carries a whole Sequence, as it does for a live object and a worker on another host."""
    newest = state.newest_epoch
    return not state.is_local(channel) and newest is not None and newest.sequence is None


# ---------------------------------------------------------------- Hello


def on_hello(state: State, route: Route, session: bytes, hello: Hello, key: str) -> None:
    """Take in a worker or supervisor, or refuse it; ``key`` names the key its connection proved."""
    if state.peers.is_banned(hello.incarnation):
        state.peers.ignored_count += 1
        state.peers.ban(route)
        state.send(route, Reject("it was cut off"))
        return
    if offences.ban_impersonator(state, route, hello, key):
        return
    refusal = _refusal_of_hello(state, hello, route.channel)
    if refusal is not None:
        _refuse_hello(state, route, hello, refusal)
    elif hello.role is Role.SUPERVISOR:
        _greet_supervisor(state, route, hello, key)
    else:
        _join(state, route, session, hello, key)


def _refuse_hello(state: State, route: Route, hello: Hello, refusal: str) -> None:
    record, name = offences.record_at(state, route), f"{hello.worker_id} on {hello.host}"
    # A peer with another name in each Hello is logged once, too.
    if refusals.note(state, name, refusal) and not record.was_rejected:
        record.was_rejected = True
        state.report(ERROR, f"rejected worker {name}: {refusal}")
    state.send(route, Reject(refusal))


def _greet_supervisor(state: State, route: Route, hello: Hello, key: str) -> None:
    known = state.fleet.supervisors.get(route)
    if known is None:
        record = state.peers.identify(route, f"supervisor {hello.worker_id} on {hello.host}")
        known = state.fleet.supervisors[route] = Supervisor(hello.supervisor, key, state.now, record)
    known.last_seen = state.now
    state.send(route, _welcome_message(state, route.channel, 0, None))


def _join(state: State, route: Route, session: bytes, hello: Hello, key: str) -> None:
    # Trust `held` and `sent_seq` only if the Hello names this session: otherwise they count other leases and results.
    is_ours = session == state.facts.session
    worker = state.fleet.find(hello.incarnation)
    record = state.peers.identify(route, f"worker {hello.worker_id} on {hello.host}")
    if worker is None:
        worker = Worker.from_hello(hello, route, key, record, state.now)
        if is_ours:
            # The worker was lost for long, and forgotten: others have computed its leases again.
            worker.received_seq = hello.sent_seq
        state.fleet.add(worker)
        _warn_of_other_versions(state, worker, hello)
    if worker.state is not WorkerState.GONE:
        if worker.route != route:
            _change_link(state, worker, route, hello.held if is_ours else ())
        worker.last_seen = state.now
        if state.announced:
            send_epochs(state, worker, welcome=True)
    elif worker.last_word is not None:
        # The worker did not hear the last word, or it would not be here.
        state.send(route, worker.last_word)


def _warn_of_other_versions(state: State, worker: Worker, hello: Hello) -> None:
    """Warn of a worker with other versions, once for each pair: its batches may not be the same bit for bit."""
    facts = state.facts
    for program, theirs, ours in (
        ("Python", hello.python_version, facts.python_version),
        ("NumPy", hello.numpy_version, facts.numpy_version),
    ):
        difference = f"has {program} {theirs} and the trainer has {ours}"
        is_other = theirs and ours and _minor(theirs) != _minor(ours)
        # A hostile peer names ever new versions.
        if is_other and difference not in state.version_warnings and len(state.version_warnings) < _VERSIONS_KEPT:
            state.version_warnings.add(difference)
            state.report(
                WARNING,
                f"worker {worker.name} {difference}: the two may draw other random numbers and round otherwise, so a "
                f"batch may depend on the worker that computes it; install the same {program} on both",
            )


def _change_link(state: State, worker: Worker, route: Route, held: tuple[int, ...]) -> None:
    """Reach the worker over its new link. Leases lost with the old link are granted again."""
    if worker.state is WorkerState.LOST:
        state.fleet.return_to(worker)
    elif worker.state is not WorkerState.JOINING:
        worker.move_to(WorkerState.JOINING)
    state.fleet.connect(worker, route)
    worker.unlinked_at = math.inf
    state.ledger.expire(worker, set(worker.leases).difference(held))


# ---------------------------------------------------------------- Ready, or not


def on_ready(state: State, worker: Worker, message: Ready) -> None:
    """The worker has built the Sequence."""
    opened = state.announced.get(message.epoch)
    if opened is None or opened.generation != message.generation:
        return  # the state was given up meanwhile
    refusal = _refusal_of_ready(opened, message)
    if refusal is not None:
        refusals.reject(state, worker, refusal)
    else:
        _tell_of_settings(state, opened, message)
        if worker.state is WorkerState.JOINING:
            sampling.admit(state, worker, allows_skew=message.allows_skew)


def _tell_of_settings(state: State, opened: EpochOpened, ready: Ready) -> None:
    """Warn, once for each, of settings changed by the trainer's script and missing in its local workers."""
    news = {name: text for name, text in ready.settings if name in opened.settings.keys() - state.told_settings}
    if news:
        state.told_settings.update(news)
        parts = [
            f"{name.replace(':', '.')} is {opened.settings[name].text} here and {text} there"
            for name, text in news.items()
        ]
        state.report(
            WARNING,
            "local workers import modules afresh, so their settings are not those that the trainer has changed: "
            f"{'; '.join(parts)}. Set them in a function, and pass it as worker_init= to the enqueuer",
        )


def on_load_failure(state: State, worker: Worker, message: LoadFailure) -> None:
    """The worker cannot build the Sequence."""
    run = state.ledger.runs.get(message.epoch)
    if run is None or run.generation != message.generation:
        return  # the state was given up before this worker came to load it
    text = f"worker {worker.name} cannot build the Sequence: {message.error.summary}"
    reason = f"it cannot build the Sequence: {message.error.summary}"
    # The traceback of a worker's own refusal to run something says nothing about the user's code.
    is_told = reason in state.refusals or message.error.module == AuthenticationError.__module__
    traceback = "" if is_told else f"\n{message.error.traceback}".rstrip()
    is_new = refusals.note(state, worker.name, reason)
    if state.is_local(worker.channel):
        state.actions.append(FleetFailed(text, message.error))
    elif is_new:
        state.report(ERROR, f"{text}{traceback}")
    state.dismiss(worker, Reject("it cannot build the Sequence"))


# ---------------------------------------------------------------- messages


def _welcome_message(state: State, channel: str, received_seq: int, opened: EpochOpened | None) -> Welcome:
    """The Welcome for a worker; without an epoch, for a supervisor."""
    timing = state.options.timing
    options: dict[str, Any] = dict(opened.options) if opened else {"batch_timeout": state.options.batch_timeout}
    facts = state.channels[channel]
    if opened and facts.local and opened.settings:
        options["settings"] = {name: setting.digest for name, setting in opened.settings.items()}
    if opened and facts.shared_memory:
        options["shared_memory"] = list(facts.shared_memory)
    if opened and facts.compression:
        options["compression"] = facts.compression
    return Welcome(
        facts.data_endpoint,
        timing.heartbeat_interval,
        timing.coordinator_timeout,
        received_seq,
        opened.sequence if opened else None,
        options,
    )


def _epoch_message(state: State, channel: str, opened: EpochOpened) -> Epoch:
    elsewhere = opened.remote_state is not None and not state.is_local(channel)
    return Epoch(opened.epoch, opened.generation, opened.seed, opened.remote_state if elsewhere else opened.state)


# ---------------------------------------------------------------- reasons to refuse, or None


def _refusal_of_hello(state: State, hello: Hello, channel: str) -> str | None:
    if hello.protocol not in ACCEPTED_VERSIONS:
        spoken = ", ".join(map(str, sorted(ACCEPTED_VERSIONS)))
        return f"it speaks protocol version {hello.protocol}, this trainer speaks {spoken}"
    trainers = state.facts.numpy_version
    if hello.role is Role.WORKER and _major(hello.numpy_version) != _major(trainers):
        return (
            f"it has NumPy {hello.numpy_version} and the trainer {trainers}; "
            "install the same major version on both, or batches may differ"
        )
    return _refusal_of_channel(state, channel, state.newest_epoch) if hello.role is Role.WORKER else None


def _refusal_of_channel(state: State, channel: str, opened: EpochOpened | None) -> str | None:
    if opened is None or state.is_local(channel):
        return None
    if opened.sequence is None and opened.remote_state is None:
        return opened.remote_refusal or (
            "the trainer's Sequence is a live object, which without keys only its own local processes get; "
            'pass SequenceSpec("package.module:callable", ...) to SequenceEnqueuer for remote workers'
        )
    return None


def _refusal_of_ready(opened: EpochOpened, ready: Ready) -> str | None:
    if ready.length != opened.length:
        return (
            f"its Sequence has {ready.length} batches and the trainer's has {opened.length}; "
            "both must be built from the same code, arguments and data, and __len__ must return the same number at "
            "each call of an epoch"
        )
    if opened.digest and ready.digest and ready.digest != opened.digest:
        return (
            f"its Sequence's code has digest {ready.digest.hex()[:12]} and the trainer's "
            f"{opened.digest.hex()[:12]}; install the same code on both, or start the worker with --allow-skew"
        )
    return None


def _minor(version: str) -> str:
    """'3.11' of '3.11.2'."""
    return ".".join(version.split(".")[:2])


def _major(version: str) -> str:
    return version.partition(".")[0]
