"""A rank's progress in the stream as plain JSON values: written, read and checked, merged from all ranks.

    `ResumeState.to_json`  ──►  a user's checkpoint  ──►  `read_states`      one rank goes on where it was
                                                     ──►  `check_agreement`  the states of all ranks fit together
                                                     ──►  `reshard`          the rest is dealt to another set of ranks

A checkpoint may be cut off, edited, or another program's: `StateError` names the mistake, and no number is used before
it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from enqueuer.errors import StateError
from enqueuer.stream.hook_runs import EPOCH_ENDS_LIMIT, HookRun
from enqueuer.stream.order import LISTED_LENGTH
from enqueuer.stream.plan import EpochPlan, merge_done
from enqueuer.stream.ranges import Ranges

STATE_VERSION = 1
# The number of skipped batches that a state names; it must stay small.
SKIPPED_KEPT = 100
# Seeds and epochs are hashed as 64 bits; epochs are also incremented.
_INT_LIMIT = 2**64
_EPOCH_LIMIT = 2**63
# With shard_remainder="repeat" an epoch has up to world_size - 1 positions more than the Sequence has batches.
_WORLD_SIZE_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class ResumeState:
    """One rank's progress in one epoch. `EpochPlan` explains ``total``, ``done``, ``taken`` and ``order_epoch``.

    ``seed`` is None only in older states from before the first ``start()``. ``epoch_end`` means that this rank's part
    is all taken and ``on_epoch_end`` has run; ``next_length`` is the Sequence's length since then (None: unknown).
    ``epoch_ends`` are the ``on_epoch_end`` calls made on the Sequence so far. ``skipped`` names the newest of
    ``skipped_count`` skipped batches, as (epoch, index). ``sequence`` is the Sequence's own state, if it keeps one.
    ``order`` describes the order of its samples, if it has one of its own (None: it has none, or an older library wrote
    the state).
    """

    seed: int | None
    epoch: int
    length: int
    shuffle: bool
    shard: tuple[int, int]
    shard_remainder: str
    total: int
    done: Ranges = field(default_factory=Ranges)
    taken: Ranges = field(default_factory=Ranges)
    epoch_end: bool = False
    next_length: int | None = None
    epoch_ends: tuple[HookRun, ...] = ()
    skipped: tuple[tuple[int, int], ...] = ()
    skipped_count: int = 0
    sequence: Any = None
    order: dict[str, Any] | None = None
    order_epoch: int | None = None

    @property
    def plan(self) -> EpochPlan:
        return EpochPlan(self.length, self.total, self.shard, self.done, self.taken, self.order_epoch)

    @property
    def epoch_is_over(self) -> bool:
        """Whether nothing of the epoch is left for this rank."""
        return self.plan.left_count == 0

    @property
    def untouched(self) -> bool:
        """Whether no batch of the epoch was received, by any rank that this one knows of."""
        return not self.taken and not self.done

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values: below 4 KB, but for a Sequence's own state and gaps (``ordered=False``)."""
        order_epoch = {} if self.order_epoch is None else {"order_epoch": self.order_epoch}
        return {
            **order_epoch,
            "version": STATE_VERSION,
            "seed": self.seed,
            "epoch": self.epoch,
            "length": self.length,
            "shuffle": self.shuffle,
            "shard": list(self.shard),
            "shard_remainder": self.shard_remainder,
            "total": self.total,
            "done": [list(bounds) for bounds in self.done.ranges],
            "taken": [list(bounds) for bounds in self.taken.ranges],
            "epoch_end": self.epoch_end,
            "next_length": self.next_length,
            "epoch_ends": [list(run) for run in self.epoch_ends],
            "skipped": [list(skip) for skip in self.skipped[-SKIPPED_KEPT:]],
            "skipped_count": self.skipped_count,
            "sequence": self.sequence,
            "order": self.order,
        }


# ---------------------------------------------------------------- reading


def read_states(state: Any) -> list[ResumeState]:
    """Read one state, or a list of all ranks' states. Raises StateError for anything else."""
    if isinstance(state, (list, tuple)):
        if not state:
            raise StateError("an empty list of states: give the states of all ranks")
        return [_Reader(one, f"state {number} of the list: ").read() for number, one in enumerate(state)]
    return [_Reader(state, "").read()]


class _Reader:
    """Reads and checks one state, field by field. ``where`` begins each error's text."""

    def __init__(self, state: Any, where: str) -> None:
        self._where = where
        if not isinstance(state, Mapping):
            raise self._error(f"a resume state is a dict, not {_shown(state)}")
        self._state = state

    def read(self) -> ResumeState:
        version = self._get("version")
        if type(version) is not int or version != STATE_VERSION:
            raise self._error(
                f"version {_shown(version)}, but this library reads version {STATE_VERSION}: resume with the release "
                "of enqueuer that saved the state"
            )
        length = self._int("length", least=1)
        state = ResumeState(
            seed=self._int("seed", optional=True),
            epoch=self._int("epoch", limit=_EPOCH_LIMIT),
            length=length,
            shuffle=self._bool("shuffle"),
            shard=self._shard(),
            shard_remainder=self._remainder(),
            total=self._int("total", least=1, limit=length + _WORLD_SIZE_LIMIT),
            epoch_end=self._bool("epoch_end"),
            next_length=self._int("next_length", optional=True),
            epoch_ends=self._epoch_ends(),
            skipped=self._tuples("skipped", 2),  # type: ignore[arg-type]
            skipped_count=self._int("skipped_count"),
            sequence=self._get("sequence"),
            order=self._order(),
            order_epoch=self._int("order_epoch", limit=_EPOCH_LIMIT) if "order_epoch" in self._state else None,
        )
        state = replace(state, done=self._ranges("done", state.total))
        state = replace(state, taken=self._ranges("taken", state.plan.count))
        between_epochs = state.untouched or state.epoch_is_over
        if "order" not in self._state and state.shuffle and state.length > LISTED_LENGTH and not between_epochs:
            raise self._error(
                f"an older library saved this within a shuffled epoch of {state.length} batches, and this one has "
                f"another order for more than {LISTED_LENGTH}: resume with that library, or begin a new epoch"
            )
        if state.seed is None and not (state.untouched and not state.epoch_ends):
            raise self._error("seed is null, but something was received")
        if len(state.skipped) > min(SKIPPED_KEPT, state.skipped_count):
            raise self._error(f"skipped has {len(state.skipped)} entries, skipped_count is {state.skipped_count}")
        return state

    def _error(self, text: str) -> StateError:
        return StateError(self._where + text)

    def _get(self, name: str) -> Any:
        if name not in self._state:
            raise self._error(f"{name} is missing: this is not a resume state, or an incomplete one")
        return self._state[name]

    def _int(self, name: str, *, least: int = 0, limit: int = _INT_LIMIT, optional: bool = False) -> Any:
        value = self._get(name)
        if value is None and optional:
            return None
        if type(value) is not int:
            raise self._error(f"{name} must be an integer{' or null' if optional else ''}, not {_shown(value)}")
        if not least <= value < limit:
            raise self._error(f"{name} must be at least {least} and below {limit}, not {value}")
        return value

    def _bool(self, name: str) -> bool:
        value = self._get(name)
        if type(value) is not bool:
            raise self._error(f"{name} must be true or false, not {_shown(value)}")
        return value

    def _order(self) -> dict[str, Any] | None:
        value = self._state.get("order")
        if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
            raise self._error(f"order must be a dict or null, not {_shown(value)}")
        return value

    def _remainder(self) -> str:
        value = self._get("shard_remainder")
        if value not in ("drop", "repeat"):
            raise self._error(f"shard_remainder must be 'drop' or 'repeat', not {_shown(value)}")
        return str(value)

    def _tuples(self, name: str, size: int) -> tuple[tuple[int, ...], ...]:
        value = self._get(name)
        if not isinstance(value, (list, tuple)):
            raise self._error(f"{name} must be a list, not {_shown(value)}")
        for entry in value:
            if not isinstance(entry, (list, tuple)) or len(entry) != size:
                raise self._error(f"{name} must hold lists of {size} integers, not {_shown(entry)}")
            if not all(type(number) is int and 0 <= number < _INT_LIMIT for number in entry):
                raise self._error(f"{name} must hold lists of {size} integers, not {_shown(entry)}")
        return tuple(tuple(entry) for entry in value)

    def _shard(self) -> tuple[int, int]:
        (shard,) = _Reader({"shard": [self._get("shard")]}, self._where)._tuples("shard", 2)
        rank, world_size = shard
        if not rank < world_size <= _WORLD_SIZE_LIMIT:
            raise self._error(f"shard must be [rank, world_size] with rank below world_size, not {list(shard)}")
        return rank, world_size

    def _ranges(self, name: str, total: int) -> Ranges:
        at = -1
        ranges = self._tuples(name, 2)
        for start, stop in ranges:
            if not at < start < stop <= total:
                raise self._error(f"{name} must hold ascending ranges within 0 and {total}, not {_shown(ranges)}")
            at = stop
        return Ranges(ranges)  # type: ignore[arg-type]

    def _epoch_ends(self) -> tuple[HookRun, ...]:
        runs = tuple(HookRun(*run) for run in self._tuples("epoch_ends", 3))
        if sum(run.epochs_count for run in runs) > EPOCH_ENDS_LIMIT:
            raise self._error(f"epoch_ends has more than {EPOCH_ENDS_LIMIT} calls")
        if any(run.first_epoch + run.epochs_count > _EPOCH_LIMIT for run in runs):
            raise self._error(f"epoch_ends has epochs beyond {_EPOCH_LIMIT}")
        return runs


def _shown(value: Any) -> str:
    return f"{value!r:.80}"


# ---------------------------------------------------------------- all ranks together


def check_agreement(states: Sequence[ResumeState]) -> ResumeState:
    """The state of one rank that stands for all. Raises StateError if they are not all ranks of one run at one point.

    A rank that has received all of an epoch and a rank that has received nothing of the next one are at the same point.
    The result's epoch is the one to continue (or to end, if no rank has anything left of it).
    """
    world_size = states[0].shard[1]
    for name in ("seed", "shuffle", "shard_remainder"):
        _check_same(states, name)
    ranks = sorted(state.shard[0] for state in states)
    if any(state.shard[1] != world_size for state in states) or ranks != list(range(world_size)):
        shards = ", ".join(str(state.shard) for state in states[:20])
        raise StateError(
            f"these are not the states of all ranks of one run, each once: (rank, world_size) are {shards}"
        )
    first, last = min(states, key=_progress), max(states, key=_progress)
    behind = [state for state in states if state.epoch == first.epoch]
    ahead = [state for state in states if state.epoch > first.epoch]
    behind_are_over = all(state.epoch_is_over for state in behind)
    if ahead and (last.epoch > first.epoch + 1 or not (behind_are_over or all(state.untouched for state in ahead))):
        raise _apart(first, last)
    continuing = ahead if ahead and behind_are_over else behind
    for name in ("length", "total", "done", "order_epoch"):
        _check_same(continuing, name)
    if behind_are_over and not ahead:
        # All ranks are at the epoch's end; if on_epoch_end has run on any of them, this state knows its outcome.
        return last
    # Some rank has batches left, so the Sequence must be as it was before that epoch's end.
    for state in continuing:
        if not (state.epoch_end and state.epoch_is_over):
            return state
    for state in behind:
        if state.epoch_end:
            return replace(last, epoch_end=False, epoch_ends=state.epoch_ends, sequence=state.sequence)
    raise _apart(first, last)


def _apart(first: ResumeState, last: ResumeState) -> StateError:
    return StateError(
        f"rank {last.shard[0]} is in epoch {last.epoch} and rank {first.shard[0]} is still in epoch {first.epoch}: "
        "save the states of all ranks after the same batch"
    )


def _progress(state: ResumeState) -> tuple[int, bool]:
    return state.epoch, state.epoch_end and state.epoch_is_over


def _check_same(states: Sequence[ResumeState], name: str) -> None:
    first = states[0]
    for other in states[1:]:
        if getattr(other, name) != getattr(first, name):
            raise StateError(
                f"the ranks' states differ in {name}: {_shown(getattr(first, name))} of rank {first.shard[0]}, "
                f"{_shown(getattr(other, name))} of rank {other.shard[0]}"
            )


def reshard(states: Sequence[ResumeState], agreed: ResumeState, shard: tuple[int, int]) -> ResumeState:
    """The state of rank ``shard`` of a new set of ranks, which together continue where these states were saved.

    Each remaining position is dealt to exactly one of the new ranks, and so is each skip. ``agreed`` is the result of
    `check_agreement`. This allocates a byte for each position that some ranks have received and others have not.
    """
    parts = []
    for state in states:
        plan = EpochPlan(agreed.length, agreed.total, state.shard, agreed.done)
        if state.epoch == agreed.epoch:
            parts.append((plan, state.taken))
        elif state.epoch > agreed.epoch:
            parts.append((plan, Ranges([(0, plan.count)])))
    done = merge_done(agreed.total, agreed.done, parts)
    rank, world_size = shard
    total = agreed.total
    if not done:
        # No batch was received, so the new ranks begin the epoch as their own.
        total = EpochPlan.fresh(agreed.length, shard, agreed.shard_remainder).total or total
    skips = sorted(skip for state in states for skip in state.skipped)
    skips_count = sum(state.skipped_count for state in states)
    share = len(range(rank, skips_count, world_size))
    return replace(
        agreed,
        shard=shard,
        total=total,
        done=done,
        taken=Ranges(),
        epoch_end=agreed.epoch_end and len(done) == agreed.total,
        skipped=tuple(skips[rank::world_size][-min(SKIPPED_KEPT, share) :]) if share else (),
        skipped_count=share,
    )
