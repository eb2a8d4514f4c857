"""Resuming: checks the argument of ``load_state_dict`` and makes the next session's `ResumePoint` of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.bookmark import ResumePoint
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.stream.state import ResumeState, check_agreement, read_states, reshard


def load_state(given: Any, own: OwnSequence, options: Options, source: Any) -> ResumePoint:
    """Check ``given``, one rank's state or the list of all ranks' states, and bring ``own`` to it.

    Raises StateError for a state that does not fit, and the errors of the Sequence's own code.
    """
    states = read_states(given)
    for state in states:
        _check_options(state, options)
    alone = not isinstance(given, (list, tuple))
    shard = options.shard
    agreed = states[0] if alone else check_agreement(states)
    mine = [state for state in states if state.shard == shard]
    if mine:
        state = mine[0]
        own.restore(state)
    elif alone:
        (rank, world_size), (own_rank, own_world_size) = agreed.shard, shard
        raise StateError(
            f"the state is of rank {rank} of {world_size}, and this is rank {own_rank} of {own_world_size}: pass a "
            "list of all ranks' states, and each batch that is left goes to one of the new ranks"
        )
    else:
        own.restore(agreed)
        state = reshard(states, agreed, shard)
    return _begin_from(state, own, source)


def _check_options(state: ResumeState, options: Options) -> None:
    if state.seed is not None and options.seed not in (None, state.seed):
        raise StateError(f"the state's seed is {state.seed}, and this enqueuer's is {options.seed}")
    for name in ("shuffle", "shard_remainder"):
        theirs, ours = getattr(state, name), getattr(options, name)
        if theirs != ours:
            raise StateError(f"the state's {name} is {theirs!r}, and this enqueuer's is {ours!r}")


def _begin_from(state: ResumeState, own: OwnSequence, source: Any) -> ResumePoint:
    """The session's beginning: in the state's epoch or, if no batch of it is left for this rank, in the next one.

    In that case ``on_epoch_end`` runs now, unless it has run before.
    """
    if not state.epoch_is_over:
        return ResumePoint(state, own, source, state.epoch, state.plan)
    if state.seed is None or state.untouched:
        # Not begun, and too short for these ranks: the error comes when the epoch opens.
        return ResumePoint(state, own, source, state.epoch, None)
    if not state.epoch_end:
        ends_count = len(own.ends)
        own.end_epoch(state.seed, state.epoch, own.instance)
        own.enter(state.epoch + 1, own.spec, own.instance)
        if len(own.ends) > ends_count:
            with own.lock:
                state = replace(
                    state,
                    epoch_end=True,
                    next_length=own.length(state.epoch + 1),
                    epoch_ends=own.ends.runs,
                    sequence=own.state(),
                )
    return ResumePoint(state, own, source, state.epoch + 1, None)
