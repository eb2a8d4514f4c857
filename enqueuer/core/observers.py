"""Allowances of observers: each has one of bytes, and so has each channel; bounded in number."""

from __future__ import annotations

from enqueuer.core.events import Route
from enqueuer.rate_limit import RateLimit

# At once as much as one look at a thousand workers takes, and a kilobyte a second thereafter.
_BURST_BYTES, _BYTES_PER_SECOND = 160 * 1024, 1024
# For all observers of a channel, since a flood may come over any number of connections.
_CHANNEL_BURST_BYTES, _CHANNEL_BYTES_PER_SECOND = 1024 * 1024, 32 * 1024
_MOST_OBSERVERS = 1_000


class Observers:
    """The allowances of one session, by route and by channel."""

    def __init__(self) -> None:
        self._of_route: dict[Route, RateLimit] = {}
        self._of_channel: dict[str, RateLimit] = {}

    def take(self, route: Route, nbytes: int, now: float) -> float | None:
        """Take these bytes; returns the seconds until as many may be taken again, or None if they may not be taken."""
        own = self._of_route.get(route)
        if own is None:
            while len(self._of_route) >= _MOST_OBSERVERS:
                del self._of_route[next(iter(self._of_route))]
            own = self._of_route[route] = RateLimit(_BURST_BYTES, _BYTES_PER_SECOND)
        shared = self._of_channel.get(route.channel)
        if shared is None:
            shared = self._of_channel[route.channel] = RateLimit(_CHANNEL_BURST_BYTES, _CHANNEL_BYTES_PER_SECOND)
        if own.seconds_until(now, nbytes) > 0 or not shared.take(now, nbytes):
            return None
        own.take(now, nbytes)
        return own.seconds_until(now, nbytes)
