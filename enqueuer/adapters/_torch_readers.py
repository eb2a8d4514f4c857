"""Loaders of other libraries that read the stream on a training loop's behalf, and what that means for the loop.

Accelerate's prepared loaders fetch a batch ahead of the loop, to know the last one. So the stream's own state is one
batch ahead of the training; a stateful loader (``use_stateful_dataloader=True``) knows better. With several processes
they deal batches out themselves, and a stream that is a rank's part would be divided twice.

Lightning resumes a checkpoint of an epoch's last step with the next epoch, and not with the rest of that loop.

No library tells an ``IterableDataset`` its reader; the call stack does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

from enqueuer.errors import StateError

_AHEAD = (
    "Accelerate has fetched a batch more than your loop was given, and the state would leave that one out: prepare the "
    "loader with DataLoaderConfiguration(use_stateful_dataloader=True) and save its own state_dict(), or save this "
    "state after the epoch's end"
)
_DIVIDED_TWICE = (
    "Accelerate divides the batches of this loader among its processes, and the enqueuer has shard={} as well, so most "
    "batches would be lost: leave shard= out, or do not prepare() the loader"
)
_DIVIDERS = frozenset({"DataLoaderDispatcher", "IterableDatasetShard"})


def is_read_ahead() -> bool:
    """Whether the calling loop belongs to one of Accelerate's loaders."""
    return any(_module(frame).startswith("accelerate.") for frame in _callers())


def is_lightning() -> bool:
    """Whether Lightning asks, for a checkpoint."""
    return any(_module(frame).partition(".")[0] in ("lightning", "pytorch_lightning") for frame in _callers())


def check_divided_once(shard: tuple[int, int]) -> None:
    """Raise RuntimeError if the caller divides among processes what is already a rank's part."""
    if shard == (0, 1):
        return
    for frame in _callers():
        is_divider = type(frame.f_locals.get("self")).__name__ in _DIVIDERS
        if is_divider and _module(frame).startswith("accelerate."):
            raise RuntimeError(_DIVIDED_TWICE.format(shard))


def check_state_is_the_loops() -> None:
    """Raise StateError unless a stateful loader asks, which counts the batches that it has handed out."""
    if not any(_module(frame).startswith("torchdata.") for frame in _callers()):
        raise StateError(_AHEAD)


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
