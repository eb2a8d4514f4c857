"""Observers: peers that look and do nothing else. Each `Observe` is answered with a snapshot, within limits of bytes.

    Observe ──► may it? (its key's right) ──► within the limits? ──► action `Show`: the shell makes and sends a snapshot
                 no: Reject                    no: dropped

A snapshot is made only when it is asked for, and one of many workers is large: `observers` keeps allowances of bytes.
"""

from __future__ import annotations

from enqueuer.core import offences
from enqueuer.core.actions import Show
from enqueuer.core.events import ControlReceived, Right
from enqueuer.core.state import State
from enqueuer.protocol.messages import MOST_EVENTS, MOST_ROWS, Observe, Reject

# The most bytes of a snapshot on the wire, and of each worker and event in it: `tests/runtime/test_observing.py`.
SNAPSHOT_BYTES, ROW_BYTES, EVENT_BYTES = 700, 110, 60


def on_observe(state: State, event: ControlReceived, message: Observe) -> None:
    """Show the session to the peer, if its key may observe and its allowance suffices."""
    if event.right is Right.SERVE:
        state.send(event.route, Reject("the key of a worker cannot observe: `enqueuer keygen DIR --add-observer`"))
        return
    rows_count = min(message.rows_count, MOST_ROWS, max(0, len(state.fleet) - message.first_row))
    events_count = min(MOST_EVENTS, max(0, state.history.count - message.after_event))
    nbytes = SNAPSHOT_BYTES + rows_count * ROW_BYTES + events_count * EVENT_BYTES
    seconds = state.observers.take(event.route, nbytes, state.now)
    if seconds is not None:
        state.actions.append(Show(event.route, message.first_row, rows_count, message.after_event, seconds))


def refuse(state: State, event: ControlReceived) -> None:
    """Reject an observer's message other than Observe."""
    name = type(event.message).__name__
    state.send(event.route, Reject("the key of an observer can do nothing but observe"))
    offences.report_offence(state, event.route, f"said {name}, which no observer says")
