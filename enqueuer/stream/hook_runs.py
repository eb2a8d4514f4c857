"""The ``on_epoch_end`` calls that brought a Sequence into its state, stored as runs of consecutive epochs.

A module of its own: workers replay the calls, and need nothing else of the stream.
"""

from __future__ import annotations

from typing import NamedTuple

# An epoch a second for eleven days. More calls of on_epoch_end are a mistake: replaying them would not end.
EPOCH_ENDS_LIMIT = 1_000_000


class HookRun(NamedTuple):
    """The ``on_epoch_end`` calls of consecutive epochs, all with one seed."""

    seed: int
    first_epoch: int
    epochs_count: int
