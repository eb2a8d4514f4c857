"""The network between coordinator and workers: two channels a link, either of which can fail alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.simulation.clock import Clock
from tests.support.simulation.story import Story


@dataclass(frozen=True, slots=True)
class Weather:
    """How messages fare: times in seconds, the rest are probabilities for one message."""

    delay: float = 0.0005
    jitter: float = 0.0005
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0


FAIR = Weather()


class Pipe:
    """One direction of one channel of one link."""

    def __init__(self, network: Network, name: str, deliver: Callable[[Any], None]) -> None:
        self.name = name
        self.open = True
        # Nothing sent before this time arrives (a partition), or it arrives only then (a stall).
        self.cut_until = 0.0
        self.stalled_until = 0.0
        self._network = network
        self._deliver = deliver
        self._last_arrival = 0.0

    def send(self, message: Any) -> None:
        network, weather, rng = self._network, self._network.weather, self._network.rng
        now = network.clock.now
        if not self.open or now < self.cut_until or (weather.loss and rng.random() < weather.loss):
            network.story.tell(self.name, "LOSES", message)
            return
        copies = 2 if weather.duplication and rng.random() < weather.duplication else 1
        for _ in range(copies):
            arrival = now + weather.delay + weather.jitter * rng.random()
            if weather.reordering and rng.random() < weather.reordering:
                arrival += 20 * weather.jitter * rng.random()
            else:
                arrival = max(arrival, self._last_arrival, self.stalled_until)
                self._last_arrival = arrival
            network.clock.at(arrival, lambda: self._arrive(message))

    def _arrive(self, message: Any) -> None:
        if self.open:
            self._network.story.tell(self.name, "brings", message)
            self._deliver(message)


class Link:
    """A worker's connections: control in both directions, data in one. A supervisor's has no data."""

    def __init__(
        self,
        network: Network,
        address: bytes,
        name: str,
        to_peer: Callable[[Any], None],
        to_trainer: Callable[[Link, Any], None],
        results_to_trainer: Callable[[Any], None],
        on_break: Callable[[Link], None],
    ) -> None:
        self.address = address
        self.name = name
        # Whether the coordinator would be told that its peer is gone, if it sent something.
        self.gone_for_coordinator = False
        self.control_up = Pipe(network, f"{name}>control", lambda message: to_trainer(self, message))
        self.control_down = Pipe(network, f"{name}<control", to_peer)
        self.data_up = Pipe(network, f"{name}>data", results_to_trainer)
        self._network = network
        self._on_break = on_break

    @property
    def pipes(self) -> tuple[Pipe, Pipe, Pipe]:
        return self.control_up, self.control_down, self.data_up

    @property
    def is_up(self) -> bool:
        return self.control_up.open

    def close(self) -> None:
        """The peer closed it or died; what was sent already may still arrive."""
        self.gone_for_coordinator = True
        self.control_down.open = False

    def break_off(self, *, seen_by_peer: bool, seen_by_coordinator: bool) -> None:
        """The connection is no more; the middleboxes decide which end is told of it."""
        for pipe in self.pipes:
            pipe.open = False
        self.gone_for_coordinator = seen_by_coordinator
        if seen_by_peer:
            self._network.clock.after(0.001, lambda: self._on_break(self))


class Network:
    """All links of a schedule, dead ones included."""

    def __init__(self, clock: Clock, rng: random.Random, story: Story, weather: Weather) -> None:
        self.clock = clock
        self.rng = rng
        self.story = story
        self.weather = weather
        self.links: dict[bytes, Link] = {}

    def connect(
        self,
        name: str,
        to_peer: Callable[[Any], None],
        to_trainer: Callable[[Link, Any], None],
        results_to_trainer: Callable[[Any], None],
        on_break: Callable[[Link], None],
    ) -> Link:
        address = len(self.links).to_bytes(4, "big")
        link = Link(self, address, f"{name}#{len(self.links)}", to_peer, to_trainer, results_to_trainer, on_break)
        self.links[address] = link
        return link

    def heal(self) -> None:
        """The faults are over; a connection that is dead stays dead."""
        self.weather = FAIR
        for link in self.links.values():
            for pipe in link.pipes:
                pipe.cut_until = pipe.stalled_until = 0.0
