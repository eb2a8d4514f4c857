"""Options and session facts for a coordinator without a shell, from one flat table."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from enqueuer.core.coordinator import Coordinator
from enqueuer.core.settings import ChannelFacts, SessionFacts
from enqueuer.options import Options, Timing

_FACTS = {field.name for field in fields(SessionFacts)}
_TIMES = {field.name for field in fields(Timing)}
NUMPY_VERSION = "2.1.0"
PYTHON_VERSION = "3.11.2"


def make_coordinator(session: bytes, channels: tuple[ChannelFacts, ...], now: float, **values: Any) -> Coordinator:
    """A coordinator; ``values`` are options, times and facts by name. Nothing is hedged unless they say so."""
    facts = {name: value for name, value in values.items() if name in _FACTS}
    times = {name: value for name, value in values.items() if name in _TIMES}
    options = {name: value for name, value in values.items() if name not in _FACTS | _TIMES}
    return Coordinator(
        Options(**{"hedge": "off", **options}, timing=Timing(**times)),
        SessionFacts(session, channels, NUMPY_VERSION, **{"python_version": PYTHON_VERSION, **facts}),
        now,
    )
