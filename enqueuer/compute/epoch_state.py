"""Bringing a Sequence that ``on_epoch_end`` changes to where another instance of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from enqueuer.compute.seeding import seeded_globals
from enqueuer.compute.sequence_checks import own_on_epoch_end
from enqueuer.errors import ProtocolError

# An epoch a second for eleven days; a peer that says more is wrong, and must not have a worker count for ever.
EPOCH_ENDS_LIMIT = 1_000_000

# Of one call of on_epoch_end: the seed of the run, and the epoch that was over.
EpochEnd = tuple[int, int]


class EpochEnds:
    """The ``on_epoch_end`` calls that one object has had, in order, kept as runs of consecutive epochs."""

    def __init__(self, runs: Iterable[Iterable[int]] = ()) -> None:
        self._runs: list[tuple[int, int, int]] = [tuple(run) for run in runs]  # type: ignore[misc]

    @property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """(seed, first epoch, count) each."""
        return tuple(self._runs)

    def append(self, end: EpochEnd) -> None:
        seed, epoch = end
        if self._runs:
            last_seed, first, count = self._runs[-1]
            if last_seed == seed and first + count == epoch:
                self._runs[-1] = (seed, first, count + 1)
                return
        self._runs.append((seed, epoch, 1))

    def __len__(self) -> int:
        return sum(count for _, _, count in self._runs)

    def __iter__(self) -> Iterator[EpochEnd]:
        for seed, first, count in self._runs:
            for step in range(count):
                yield seed, first + step


def read_epoch_ends(runs: Any) -> EpochEnds:
    """The calls that a peer's ``[[seed, first epoch, count], …]`` stands for; ProtocolError for anything else.

    Kept as the runs that they are: ten bytes may stand for a million calls.
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
    sequence: Any, epoch: int, seed: int, missing: Iterable[EpochEnd], note: Callable[[EpochEnd], None]
) -> None:
    """Bring the Sequence to the beginning of this epoch: by its ``set_epoch``, if it has one; else by the
    ``on_epoch_end`` calls that it has not had yet, each of which is noted as soon as it has.
    """
    set_epoch = getattr(sequence, "set_epoch", None)
    if callable(set_epoch):
        with seeded_globals(seed, epoch):
            set_epoch(epoch)
        return
    hook = own_on_epoch_end(sequence)
    if hook is None:
        return
    for end in missing:
        # Seeded as the first call was, or each instance would shuffle its own way.
        with seeded_globals(*end):
            hook()
        note(end)
