"""Replays ``on_epoch_end`` on an instance of a Sequence, so that all instances are in the same state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from enqueuer.compute.owned_generators import OwnedGenerators
from enqueuer.compute.seeding import END, seeded_globals
from enqueuer.compute.sequence_checks import optional_method, own_on_epoch_end
from enqueuer.errors import ProtocolError
from enqueuer.stream.hook_runs import EPOCH_ENDS_LIMIT, HookRun

# One call of on_epoch_end: (seed of the run, epoch that ended).
EpochEnd = tuple[int, int]


class EpochEnds:
    """The ``on_epoch_end`` calls made on one instance, in order, stored as runs of consecutive epochs.

    ``since`` is the epoch since which the instance is in the state they left it in.
    """

    def __init__(self, runs: Iterable[Iterable[int]] = ()) -> None:
        self._runs = [HookRun(*run) for run in runs]

    @property
    def runs(self) -> tuple[HookRun, ...]:
        return tuple(self._runs)

    @property
    def since(self) -> int:
        return self._runs[-1].first_epoch + self._runs[-1].epochs_count if self._runs else 0

    def append(self, end: EpochEnd) -> None:
        seed, epoch = end
        if self._runs:
            last_seed, first, count = self._runs[-1]
            if last_seed == seed and first + count == epoch:
                self._runs[-1] = HookRun(seed, first, count + 1)
                return
        self._runs.append(HookRun(seed, epoch, 1))

    def __len__(self) -> int:
        return sum(count for _, _, count in self._runs)

    def __iter__(self) -> Iterator[EpochEnd]:
        for seed, first, count in self._runs:
            for step in range(count):
                yield seed, first + step


def read_epoch_ends(runs: Any) -> EpochEnds:
    """Decode a peer's ``[[seed, first epoch, count], …]``. Raises ProtocolError for anything else.

    The runs are not expanded: ten bytes may stand for a million calls.
    """
    count_left = EPOCH_ENDS_LIMIT
    for run in runs if isinstance(runs, (list, tuple)) else [None]:
        match run:
            case [int(), int(), int() as count] if 0 <= count <= count_left:
                count_left -= count
            case _:
                raise ProtocolError("epoch_ends is not a list of [seed, first epoch, count]")
    return EpochEnds(runs)


def catch_up(
    sequence: Any,
    epoch: int,
    seed: int,
    missing: Iterable[EpochEnd],
    note: Callable[[EpochEnd], None],
    prepare: Callable[[int], OwnedGenerators] | None = None,
) -> None:
    """Bring the Sequence to the beginning of ``epoch``.

    Calls its ``set_epoch``, if it has one; otherwise replays the ``missing`` calls of ``on_epoch_end``, and calls
    ``note`` after each. ``prepare`` is called before each with its seed, and gives the generators to seed.
    """
    if prepare is None:

        def prepare(seed: int) -> OwnedGenerators:
            return OwnedGenerators(sequence)

    set_epoch = optional_method(sequence, "set_epoch")
    if set_epoch is not None:
        run_seeded(set_epoch, prepare(seed), (seed, epoch), epoch)
        return
    hook = own_on_epoch_end(sequence)
    if hook is None:
        return
    for end in missing:
        run_seeded(hook, prepare(end[0]), end)
        note(end)


def run_seeded(hook: Callable[..., object], owned: OwnedGenerators, end: EpochEnd, *args: object) -> None:
    """Call a hook as every instance calls it, trainer's and workers': otherwise each would shuffle differently."""
    with seeded_globals(*end):
        owned.seed(*end, END)
        hook(*args)
