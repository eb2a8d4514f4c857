"""Sequences with a drawn order: the trainer draws it once an epoch, and every worker follows it.

A sampler may be random, keep a state, be changed by the training, or give another number of batches than its ``len()``.
If each worker iterated a copy of its own, two workers' batches could overlap.

    _enqueuer_draw_order(epoch)            trainer   the DrawnOrder of this epoch, or None; the same until a change
    _enqueuer_renew_order(epoch)           trainer   the epoch begins: draw it again where a change cannot be seen
    _enqueuer_follow_order(epoch, order)   worker    use this order for the items of that epoch
    _enqueuer_describe_order()             trainer   kind, seed and sizes as JSON values: they belong to a resume state

The adapters' sources have these methods, and so have wrappers of them with a ``__getattr__``.
"""

from __future__ import annotations

from typing import Any

from enqueuer.compute.sequence_checks import batch_count, optional_method
from enqueuer.errors import StateError
from enqueuer.protocol.drawn_order import DrawnOrder

_DIGEST = "digest"
_NAMES = {"kind": "order", "class": "sampler"}


def draw_order(sequence: Any, epoch: int) -> DrawnOrder | None:
    """The Sequence's drawn order of this epoch; None if its batches follow from their indices."""
    draw = optional_method(sequence, "_enqueuer_draw_order")
    order = None if draw is None else draw(epoch)
    return order if isinstance(order, DrawnOrder) else None


def renew_order(sequence: Any, epoch: int) -> None:
    """Bring the drawn order of this epoch up to date before its first batch: it may have been drawn ahead."""
    renew = optional_method(sequence, "_enqueuer_renew_order")
    if renew is not None:
        renew(epoch)


def length_of(sequence: Any, epoch: int) -> int:
    """The number of batches of this epoch: of the drawn order, or else ``len()``."""
    order = draw_order(sequence, epoch)
    return batch_count(sequence) if order is None else len(order)


def follow_order(sequence: Any, epoch: int, order: DrawnOrder) -> None:
    """Give a worker's Sequence the trainer's drawn order of this epoch."""
    follow = optional_method(sequence, "_enqueuer_follow_order")
    if follow is not None:
        follow(epoch, order)


def describe_order(sequence: Any, epoch: int) -> dict[str, Any] | None:
    """The order of this epoch, as a resume state keeps it: kind, seed, sizes, and a digest of the drawn samples."""
    describe = optional_method(sequence, "_enqueuer_describe_order")
    facts = None if describe is None else describe()
    if not isinstance(facts, dict):
        return None
    order = draw_order(sequence, epoch)
    return facts if order is None else {**facts, _DIGEST: order.digest}


def check_order(sequence: Any, saved: dict[str, Any] | None, epoch: int | None) -> None:
    """Raise StateError unless the Sequence's order is the saved one.

    ``epoch`` was begun, and its rest must be the rest of the saved order; None: kind, seed and sizes are enough.
    """
    if saved is None:
        return
    describe = optional_method(sequence, "_enqueuer_describe_order")
    facts = None if describe is None else describe()
    if not isinstance(facts, dict):
        raise StateError(f"the state is of a source of from_dataset ({_shown(saved)}), and this Sequence is another")
    for name in dict.fromkeys([*facts, *saved]):
        if name != _DIGEST and facts.get(name) != saved.get(name):
            raise StateError(
                f"the state's {_NAMES.get(name, name)} is {saved.get(name)!r:.80}, and this Sequence's is "
                f"{facts.get(name)!r:.80}: with another order, the rest of the epoch would repeat samples and leave "
                "others out"
            )
    if epoch is None or _DIGEST not in saved:
        return
    order = draw_order(sequence, epoch)
    if order is not None and order.digest != saved[_DIGEST]:
        raise StateError(
            f"the sampler gives another order of epoch {epoch} than the one in which the state was saved: bring the "
            "sampler (its generator, weights, data) to where it was then, before the first batch; or save the state at "
            "the end of an epoch"
        )


def _shown(saved: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in saved.items() if name != _DIGEST)[:120]
