"""The timers of a worker's link: the next Hello or Heartbeat, the coordinator's silence, the next attempt to connect.

`WorkerCore` says what happens on the link, and asks when something is due. An infinite time stands for never.
"""

from __future__ import annotations

import math

from enqueuer.protocol.messages import Welcome
from enqueuer_worker.core.policy import Policy

# Before a Welcome says otherwise.
_DEFAULT_HEARTBEAT, _DEFAULT_COORDINATOR_TIMEOUT = 1.0, 30.0


class LinkTimers:
    """When something is due on the link. Only `WorkerCore` uses it."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        # Both are the coordinator's, from its Welcome.
        self._heartbeat_interval = _DEFAULT_HEARTBEAT
        self.coordinator_timeout = _DEFAULT_COORDINATOR_TIMEOUT
        self._last_handled = now
        self.last_heard = now
        # The next Heartbeat or, before a Welcome, the next Hello.
        self.heartbeat_at = math.inf
        # The next attempt to open a link; the pause after the next loss of a link.
        self.open_at = now
        self._reconnect_interval = policy.first_reconnect_interval

    @property
    def silent_at(self) -> float:
        """When the coordinator counts as silent."""
        return self.last_heard + self.coordinator_timeout

    def shift_over_a_gap(self, now: float) -> None:
        """Do not take this process's own pause (it was stopped, or the machine slept) for the coordinator's silence."""
        gap = now - self._last_handled - 2 * self._heartbeat_interval
        self._last_handled = now
        if gap > 0:
            self.last_heard += gap

    def link_opened(self, now: float) -> None:
        """A link was opened, and the coordinator has its time to answer."""
        self.open_at = math.inf
        self.last_heard = now

    def link_closed(self, now: float) -> None:
        """The link was closed: the next one is opened after a pause, which doubles each time."""
        self.heartbeat_at = math.inf
        self.open_at = now + self._reconnect_interval
        self._reconnect_interval = min(2 * self._reconnect_interval, self._policy.max_reconnect_interval)

    def reset_reconnect_interval(self) -> None:
        """The next lost link is followed by the shortest pause."""
        self._reconnect_interval = self._policy.first_reconnect_interval

    def said_hello(self, now: float) -> None:
        """A Hello was sent: it is repeated until a Welcome comes."""
        self.heartbeat_at = now + self._policy.hello_interval

    def said_alive(self, now: float) -> None:
        """A Heartbeat, or a Goodbye in its place, was sent."""
        self.heartbeat_at = now + self._heartbeat_interval

    def welcomed(self, welcome: Welcome, now: float) -> None:
        """A Welcome came: its intervals hold."""
        self._heartbeat_interval = welcome.heartbeat_interval
        self.coordinator_timeout = welcome.coordinator_timeout
        self.reset_reconnect_interval()
        self.said_alive(now)

    def session_dropped(self) -> None:
        """The coordinator's intervals end with its session."""
        self._heartbeat_interval = _DEFAULT_HEARTBEAT
        self.coordinator_timeout = _DEFAULT_COORDINATOR_TIMEOUT
