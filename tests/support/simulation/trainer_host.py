"""The simulated trainer's process: the real coordinator core, a consumer, and the opening of epochs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enqueuer.core import events as ev
from enqueuer.core.actions import (
    Action,
    BatchFailed,
    BatchSkipped,
    Deliver,
    EpochEnded,
    EpochExhausted,
    FleetFailed,
    RemoteLine,
    Report,
    Send,
)
from enqueuer.core.settings import ChannelFacts
from enqueuer.protocol.messages import Grant, Message
from enqueuer_worker.core.events import SendResults
from tests.support.core_options import make_coordinator
from tests.support.epoch_order import epoch_order
from tests.support.simulation.clock import Alarm
from tests.support.simulation.invariants import CoordinatorInvariants
from tests.support.simulation.network import Link
from tests.support.simulation.scenario import NEVER
from tests.support.simulation.world import Payload, World

CHANNEL = "remote"
_MAX_DEATHS = 3
_POLL_SECONDS = 0.0001


@dataclass(slots=True)
class OpenEpoch:
    """What the trainer has said of one epoch, and what came of it."""

    generation: int
    order: Sequence[int]
    confirmed: bool
    delivered: set[int]
    taken_count: int = 0
    # Of its first batch: all others are of the same.
    data: int | None = None


class TrainerHost:
    """Polls, drives the core, takes outcomes at its own speed, and checks every one of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.paused = False
        self._take_alarm = Alarm(world.clock, self._take_some)
        self._wake_alarm = Alarm(world.clock, self._poll)
        self.start_session()

    # ------------------------------------------------------------ sessions

    def start_session(self) -> None:
        """The first one, or the one after the trainer was killed: nothing of the old one is known any more."""
        scenario = self.world.scenario
        self.done = False
        self.session = self.world.new_id()
        self.core = make_coordinator(
            self.session,
            (ChannelFacts(CHANNEL, "tcp://*:5556", local=False),),
            self.world.clock.now,
            ordered=scenario.ordered,
            max_queue_size=scenario.max_queue_size,
            max_bytes=scenario.max_bytes,
            retries=scenario.retries,
            on_error="skip" if scenario.skip_errors else "raise",
            max_skipped=2,
            max_worker_deaths=_MAX_DEATHS,
            hedge=scenario.hedge_factor,
            batch_timeout=scenario.batch_timeout,
            heartbeat_interval=scenario.heartbeat_interval,
            worker_timeout=scenario.worker_timeout,
            coordinator_timeout=scenario.coordinator_timeout,
            digest_of=lambda payload: {"batch": (repr((payload.index, payload.data)).encode(), b"")},
        )
        self._invariants = CoordinatorInvariants(self.core, misbehaved=scenario.liars_count > 0)
        self._handled_count = 0
        self._inbox: list[ev.Event] = []
        self._poll_is_planned = False
        self._ready: deque[tuple[int, Any]] = deque()
        self.unchecked = False
        self._taken_total = 0
        self._reported_total = 0
        self._generation = 0
        self._highest_lease = 0
        self._current = 0
        # An epoch of which the trainer wants no more, until the core has said that it has ended.
        self._ending: int | None = None
        self.early_ends_count = 0
        self.epochs: dict[int, OpenEpoch] = {}
        self._open_epoch(0, gated=False)
        self._take_alarm.set(self.world.clock.now)

    def sequence_length(self, session: bytes, epoch: int) -> int:
        """What a worker's own instance has in this epoch; a worker that still computes for an old session sees any."""
        return self.world.scenario.lengths[epoch] if session == self.session else 0

    # ------------------------------------------------------------ epochs

    def _open_epoch(self, epoch: int, *, gated: bool) -> None:
        scenario = self.world.scenario
        self._generation += 1
        length = scenario.lengths[epoch]
        order = epoch_order(scenario.seed + self._generation, epoch, length, shuffle=scenario.shuffle)
        self.epochs[epoch] = OpenEpoch(self._generation, order, not gated, set())
        self._post(
            ev.EpochOpened(
                epoch, self._generation, scenario.seed, order, length, b"", None, ["m:f", {}], self._options, gated
            )
        )

    @property
    def _options(self) -> dict[str, Any]:
        return {"max_batches": self.world.scenario.max_batches}

    def _on_exhausted(self, action: EpochExhausted) -> None:
        following = action.epoch + 1
        if (
            self.world.scenario.prefetch
            and action.epoch == self._current
            and following < len(self.world.scenario.lengths)
            and following not in self.epochs
        ):
            self._open_epoch(following, gated=True)

    def _end_epoch(self) -> None:
        ended = self.epochs[self._current]
        assert len(ended.delivered) == len(ended.order)
        self.world.story.tell("trainer", "has taken epoch", self._current)
        self._go_on()

    def _end_early(self) -> None:
        """Drop the rest of the epoch, also what is ready."""
        self.world.story.tell("trainer", "wants no more of epoch", self._current)
        self._ending = self._current
        self.early_ends_count += 1
        self._taken_total += len(self._ready)
        self._ready.clear()
        self._post(ev.EpochEndRequested(self._current))

    def _on_ended(self, action: EpochEnded) -> None:
        assert action.epoch == self._ending, f"epoch {action.epoch} has ended, and nobody wanted that"
        self._ending = None
        self._go_on()

    def _go_on(self) -> None:
        """Go on to the next epoch."""
        scenario = self.world.scenario
        del self.epochs[self._current]
        self._current += 1
        if self._current == len(scenario.lengths):
            self.done = True
        elif self._current not in self.epochs or self.world.rng.random() < scenario.replacement:
            self._open_epoch(self._current, gated=False)
        else:
            self.epochs[self._current].confirmed = True
            self._post(ev.EpochConfirmed(self._current))

    # ------------------------------------------------------------ the I/O loop

    def receive_control(self, link: Link, message: tuple[bytes, Message]) -> None:
        self._post(ev.ControlReceived(ev.Route(CHANNEL, link.address), *message))

    def receive_results(self, message: tuple[bytes, SendResults]) -> None:
        incarnation, sent = message
        if sent.session != self.session:
            return  # the shell compares sessions on the data channel
        computed = sent.computed
        size = self.world.scenario.batch_bytes
        self._post(
            ev.ResultsReceived(
                incarnation,
                computed.epoch,
                computed.generation,
                sent.seq,
                computed.busy,
                computed.leases,
                computed.batches,
                size * len(computed.batches),
            )
        )

    def _post(self, event: ev.Event) -> None:
        """All that has come is handled in one poll, soon."""
        self._inbox.append(event)
        self._plan_poll()

    def _plan_poll(self) -> None:
        if not self._poll_is_planned:
            self._poll_is_planned = True
            self.world.clock.after(_POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        if self.paused:
            return
        self._poll_is_planned = False
        now = self.world.clock.now
        events, self._inbox = self._inbox, []
        self._reported_total = self._taken_total
        core = self.core
        for action in core.handle([*events, ev.Taken(self._taken_total)], now):
            self._perform(action)
        self._handled_count += 1
        thorough = self.world.story.told or self._handled_count % 4 == 0
        self._invariants.check(now, thorough=thorough)
        self._wake_alarm.set(core.next_deadline())

    def _perform(self, action: Action) -> None:
        story = self.world.story
        if isinstance(action, Send):
            self._send(action)
        elif isinstance(action, Deliver):
            self._take_delivery(action)
        elif isinstance(action, EpochExhausted):
            self._on_exhausted(action)
        elif isinstance(action, EpochEnded):
            self._on_ended(action)
        elif isinstance(action, FleetFailed):
            raise AssertionError(f"the fleet failed: {action.reason}")
        elif isinstance(action, Report):
            is_refusal = self.world.scenario.astray and "is not the same as that of worker" in action.text
            assert action.level < logging.ERROR or is_refusal or "cut off worker liar" in action.text, action.text
            self.unchecked = self.unchecked or "serves without a sample" in action.text
            story.tell("coordinator", "reports", action.text)
        else:
            assert isinstance(action, RemoteLine)

    def _send(self, action: Send) -> None:
        if isinstance(action.message, Grant):
            first = action.message.first_lease
            assert first > self._highest_lease, f"lease {first} is used twice"
            assert action.message.indices
            self._highest_lease = first + len(action.message.indices) - 1
        link = self.world.network.links[action.route.address]
        if link.gone_for_coordinator:
            self._post(ev.RouteLost(action.route))
        else:
            link.control_down.send((self.session, action.message))

    # ------------------------------------------------------------ the consumer

    def _take_delivery(self, action: Deliver) -> None:
        epoch = self.epochs.get(action.epoch)
        assert epoch is not None, f"delivery for epoch {action.epoch}, which is not open"
        assert action.epoch != self._ending, f"delivery for epoch {action.epoch}, of which the trainer wants no more"
        assert epoch.confirmed, f"epoch {action.epoch} was delivered before it was confirmed"
        assert action.epoch == self._current or len(self.epochs[self._current].delivered) == len(
            self.epochs[self._current].order
        ), "an epoch was delivered before the one before it was complete"
        for position, outcome in zip(action.positions, action.outcomes, strict=True):
            assert position not in epoch.delivered, f"position {position} of epoch {action.epoch} came twice"
            if self.world.scenario.ordered:
                assert position == len(epoch.delivered), f"position {position} came out of order"
            epoch.delivered.add(position)
            self._check_outcome(action.epoch, epoch, epoch.order[position], outcome)
            self._ready.append((action.epoch, outcome))
        if self._ready:
            self._plan_to_take()

    def _check_outcome(self, epoch: int, opened: OpenEpoch, index: int, outcome: object) -> None:
        scenario = self.world.scenario
        if isinstance(outcome, Payload):
            data = opened.data = outcome.data if opened.data is None or self.unchecked else opened.data
            expected = Payload(self.session, epoch, opened.generation, index, data)
            assert outcome == expected, f"{outcome} for index {index}"
            assert NEVER not in (what.get(index) for what in (scenario.failing, scenario.poison, scenario.hanging))
            return
        assert isinstance(outcome, BatchFailed | BatchSkipped)
        assert (outcome.index, outcome.epoch) == (index, epoch)
        assert scenario.skip_errors or isinstance(outcome, BatchFailed)
        killed = self.world.deaths[epoch, index] >= _MAX_DEATHS
        stuck = self.world.timeouts[epoch, index] > max(1, scenario.retries)
        if isinstance(outcome, BatchFailed) and outcome.timeouts:
            assert stuck and outcome.timeouts == max(1, scenario.retries) + 1
            assert outcome.stack == "stack"
        elif isinstance(outcome, BatchFailed) and outcome.error is None:
            assert killed and len(outcome.deaths) == _MAX_DEATHS
        else:
            assert killed or stuck or scenario.failing.get(index, 0) > scenario.retries

    def _plan_to_take(self) -> None:
        if not self._take_alarm.is_set:
            delay = self.world.scenario.trainer_seconds * self.world.rng.uniform(0.2, 1.8)
            self._take_alarm.set(self.world.clock.now + delay)

    def _take_some(self) -> None:
        if self.paused:
            return
        for _ in range(self.world.rng.randint(1, self.world.scenario.trainer_burst)):
            if not self._ready:
                break
            epoch, _ = self._ready.popleft()
            assert epoch == self._current
            self._taken_total += 1
            self.epochs[epoch].taken_count += 1
            if self.epochs[epoch].taken_count == len(self.epochs[epoch].order):
                self._end_epoch()
            elif self.world.scenario.early_end and self.world.rng.random() < self.world.scenario.early_end:
                self._end_early()
        wake_after = self.core.takes_until_wake
        if wake_after is not None and self._taken_total - self._reported_total >= wake_after:
            self._plan_poll()
        if self._ready:
            self._plan_to_take()

    # ------------------------------------------------------------ what can happen to it

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._poll()
        if self._ready:
            self._plan_to_take()
