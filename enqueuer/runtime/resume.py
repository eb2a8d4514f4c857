"""From what ``load_state_dict`` is given to where the next session goes on."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

from enqueuer.errors import StateError
from enqueuer.options import Options
from enqueuer.runtime.bookmark import ResumePoint, own_shard
from enqueuer.runtime.own_sequence import OwnSequence
from enqueuer.stream.state import ResumeState, check_agreement, read_states, reshard


def load_state(given: Any, own: OwnSequence, options: Options, source: Any) -> ResumePoint:
    """Check one rank's state or the list of all ranks', and bring ``own`` to it.

    Raises StateError that names what does not fit, and whatever the Sequence's own code raises.
    """
    states = read_states(given)
    for state in states:
        _check_options(state, options)
    alone = not isinstance(given, (list, tuple))
    shard = own_shard(options)
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
    return _go_on(state, own, source)


def _check_options(state: ResumeState, options: Options) -> None:
    seed = None if options.seed is None else operator.index(options.seed)
    if seed is not None and state.seed is not None and seed != state.seed:
        raise StateError(f"the state's seed is {state.seed}, and this enqueuer's is {seed}")
    for name in ("shuffle", "shard_remainder"):
        theirs, ours = getattr(state, name), getattr(options, name)
        if theirs != type(theirs)(ours):
            raise StateError(f"the state's {name} is {theirs!r}, and this enqueuer's is {ours!r}")


def _go_on(state: ResumeState, own: OwnSequence, source: Any) -> ResumePoint:
    """An epoch of which nothing is left for this rank is over: if its ``on_epoch_end`` has not run, it does now."""
    if not state.epoch_is_over:
        return ResumePoint(state, own, source, state.epoch, state.plan)
    if state.seed is None:
        # Not begun, and too short for these ranks: the epoch says so when it opens.
        return ResumePoint(state, own, source, state.epoch, None)
    if not state.epoch_end:
        had = len(own.ends)
        own.end_epoch(state.seed, state.epoch, own.instance)
        own.enter(state.epoch + 1, own.spec, own.instance)
        if len(own.ends) > had:
            with own.lock:
                state = replace(
                    state,
                    epoch_end=True,
                    next_length=own.length(),
                    epoch_ends=own.ends.runs,
                    sequence=own.state(),
                )
    return ResumePoint(state, own, source, state.epoch + 1, None)
