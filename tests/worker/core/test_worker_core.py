"""The worker's core in every phase: events go in, actions come out, and time is an argument."""

from __future__ import annotations

import logging
import math
from typing import Any, TypeVar, get_args

import pytest

from enqueuer.protocol.messages import (
    NO_ID,
    Bye,
    Drain,
    Epoch,
    ErrorRecord,
    ExitCode,
    Failure,
    FromCoordinator,
    Goodbye,
    Grant,
    Heartbeat,
    HeartbeatReply,
    Hello,
    LoadFailure,
    Log,
    NoBlocks,
    Ready,
    Reject,
    Revoke,
    Snapshot,
    Stop,
    Welcome,
    WhoAreYou,
)
from enqueuer_worker.core.events import (
    Action,
    Cancel,
    CloseLink,
    Compute,
    Computed,
    DrainRequested,
    EndpointGiven,
    Event,
    Exit,
    Failed,
    Identity,
    LeaveSharedMemory,
    LinkBroken,
    Loaded,
    LoadFailed,
    Logged,
    Note,
    OpenControl,
    OpenData,
    Prepare,
    Received,
    Send,
    SendResults,
    Tick,
)
from enqueuer_worker.core.phase import TRANSITIONS, Phase
from enqueuer_worker.core.policy import Policy
from enqueuer_worker.core.worker_core import _IN_SESSION, WorkerCore

SESSION, OTHER_SESSION = b"s" * 16, b"o" * 16
IDENTITY = Identity("host-0", b"i" * 16, b"p" * 16, 0, "host", 1, "2.0", "0.1", b"secret")
ERROR = ErrorRecord("builtins", "ValueError", "no", "Traceback …")
DATA = "tcp://*:5556"

ActionType = TypeVar("ActionType")


def welcome(received_seq: int = 0, **options: Any) -> Welcome:
    return Welcome(DATA, 1.0, 30.0, received_seq, ["m:f", {}], options)


class Rig:
    """A core, a clock, and the actions of the last step."""

    def __init__(self, **policy: Any) -> None:
        self.now = 100.0
        self.core = WorkerCore(IDENTITY, Policy(**policy), self.now)
        self.actions: list[Action] = []

    def step(self, *events: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        self.actions = self.core.handle(events, self.now)
        return self.actions

    def get(self, *messages: Any, session: bytes = SESSION, after: float = 0.0) -> list[Action]:
        return self.step(*(Received(session, message) for message in messages), after=after)

    def pass_time(self, seconds: float) -> list[Action]:
        """Let deadline after deadline come, as a shell does; all the actions together."""
        end, seen = self.now + seconds, []
        while (due := self.core.next_deadline()) <= end:
            assert due >= self.now - 1e-9, "a deadline in the past would make the shell spin"
            self.now = max(due, self.now)
            seen += self.step()
        self.now = end
        self.actions = seen + self.step()
        return self.actions

    def serve(self, *, epoch: bool = True, **options: Any) -> None:
        """Up to a welcome, and the first epoch."""
        self.step()
        self.get(welcome(**options))
        if epoch:
            self.get(Epoch(0, 0, 7, None))

    def of(self, kind: type[ActionType]) -> list[ActionType]:
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(self, kind: type[ActionType]) -> list[ActionType]:
        return [action.message for action in self.of(Send) if isinstance(action.message, kind)]

    @property
    def seqs(self) -> list[int]:
        return [action.seq for action in self.of(SendResults)]


def computed(*leases: int, session: bytes = SESSION) -> Computed:
    return Computed(session, 0, 0, leases, tuple(f"batch {lease}" for lease in leases), 0.1)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("phase", Phase)
def test_a_transition_that_is_not_in_the_table_is_an_error_and_leaves_the_phase_as_it_was(phase: Phase) -> None:
    for target in set(Phase) - TRANSITIONS[phase]:
        core = WorkerCore(IDENTITY, Policy(), 0.0)
        core.phase = phase
        with pytest.raises(ValueError, match=f"cannot go from {phase} to {target}"):
            core._move_to(target)
        assert core.phase is phase


def test_every_kind_of_message_to_a_worker_has_a_handler() -> None:
    handled = {Welcome, Reject, WhoAreYou, *(kind for kind in _IN_SESSION if kind in get_args(FromCoordinator))}
    assert handled == set(get_args(FromCoordinator)) - {Snapshot}, "a Snapshot is for observers"


# ---------------------------------------------------------------- getting in


def test_the_first_step_connects_and_says_hello_without_a_session(rig: Rig) -> None:
    opened, hello = rig.step()
    assert isinstance(opened, OpenControl)
    assert isinstance(hello, Send) and hello.session == NO_ID
    assert isinstance(hello.message, Hello)
    assert (hello.message.worker_id, hello.message.incarnation, hello.message.secret) == (
        "host-0",
        b"i" * 16,
        b"secret",
    )


def test_hello_is_repeated_until_it_is_answered(rig: Rig) -> None:
    rig.step()
    rig.pass_time(3.5)
    assert len(rig.sent(Hello)) == 3


def test_a_welcome_opens_the_data_channel_it_names(rig: Rig) -> None:
    rig.step()
    rig.get(welcome())
    assert rig.of(OpenData) == [OpenData(DATA)]
    assert rig.core.phase is Phase.SERVING


def test_a_rejection_is_logged_and_ends_the_process_as_refused(rig: Rig) -> None:
    rig.step()
    rig.get(Reject("another NumPy"), session=NO_ID)
    assert "another NumPy" in rig.of(Note)[0].text
    assert rig.of(Exit) == [Exit(ExitCode.REFUSED, "another NumPy")]
    assert rig.core.next_deadline() == math.inf
    assert rig.get(welcome()) == [], "nothing happens after the end"


def test_a_coordinator_that_never_answers_is_tried_again_on_a_fresh_link(rig: Rig) -> None:
    rig.step()
    rig.pass_time(31)
    assert len(rig.of(CloseLink)) == 1
    assert len(rig.of(OpenControl)) == 1


def test_who_are_you_is_answered_with_the_leases_held(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11)))
    rig.step(computed(1))
    rig.get(WhoAreYou(), session=NO_ID)
    (hello,) = rig.sent(Hello)
    assert hello.held == (1, 2) and hello.sent_seq == 1
    rig.step(LinkBroken())
    assert rig.get(WhoAreYou(), session=NO_ID) == [], "without a link there is nobody to answer"


def test_a_welcome_on_the_same_link_does_not_open_the_data_channel_again(rig: Rig) -> None:
    rig.serve()
    rig.get(welcome())
    assert rig.of(OpenData) == []


def test_another_session_on_the_same_link_drops_the_old_one_and_opens_its_own_data_channel(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.step(computed(1))
    rig.get(welcome(), session=OTHER_SESSION)
    assert rig.of(Cancel) == [Cancel(None)]
    assert rig.of(OpenData) == [OpenData(DATA)]
    assert rig.seqs == [], "the old session's results mean nothing to the new one"


# ---------------------------------------------------------------- epochs and grants


def test_an_epoch_is_prepared_once_and_reported_ready(rig: Rig) -> None:
    rig.serve(epoch=False)
    epoch = Epoch(0, 0, 7, None)
    rig.get(epoch)
    assert [action.epoch for action in rig.of(Prepare)] == [epoch]
    rig.step(Loaded(SESSION, 0, 0, 12, b"digest"))
    assert rig.sent(Ready) == [Ready(0, 0, 12, b"digest")]
    assert rig.of(Note) == [], "the coordinator may reject it still"
    rig.get(Grant(0, 0, 0, 1, (10,)))
    assert "12 batches" in rig.of(Note)[0].text


def test_an_epoch_that_comes_again_is_answered_from_memory(rig: Rig) -> None:
    rig.serve()
    assert rig.get(Epoch(0, 0, 7, None)) == [], "it is still being built"
    rig.step(LinkBroken())
    rig.step(Loaded(SESSION, 0, 0, 12, b"digest"))
    assert rig.sent(Ready) == [], "there is no link to say it on"
    rig.pass_time(0.2)
    rig.get(welcome())
    rig.get(Epoch(0, 0, 7, None))
    assert rig.of(Prepare) == []
    assert rig.sent(Ready) == [Ready(0, 0, 12, b"digest")]


def test_a_grant_becomes_work_in_its_order(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 5, (30, 10, 20)))
    (compute,) = rig.of(Compute)
    assert (compute.first_lease, compute.indices, compute.epoch.seed) == (5, (30, 10, 20), 7)


def test_a_grant_that_comes_twice_is_computed_once(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)), Grant(0, 0, 0, 1, (10,)))
    assert len(rig.of(Compute)) == 1


def test_a_grant_of_an_unknown_epoch_is_neither_computed_nor_counted_as_seen(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(3, 0, 0, 9, (10,)))
    assert rig.of(Compute) == []
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].highest_grant == 0


def test_only_the_last_epochs_are_kept(rig: Rig) -> None:
    rig.serve()
    rig.step(Loaded(SESSION, 0, 0, 12, b""))
    rig.get(*(Epoch(number, 0, 7, None) for number in (1, 2, 3)))
    rig.get(Grant(0, 0, 0, 1, (10,)))
    assert rig.of(Compute) == []
    rig.get(Grant(1, 0, 0, 2, (10,)))
    assert len(rig.of(Compute)) == 1
    rig.step(Loaded(SESSION, 0, 0, 12, b""))
    rig.get(Epoch(0, 0, 7, None))
    assert len(rig.of(Prepare)) == 1, "what was forgotten is built again"


def test_a_message_of_another_session_is_ignored(rig: Rig) -> None:
    rig.serve()
    assert rig.get(Grant(0, 0, 0, 1, (10,)), session=OTHER_SESSION) == []
    assert rig.get(Drain()) == [], "so is one that a coordinator has no business to send"


def test_a_revoked_lease_is_cancelled_unless_it_is_running(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11, 12)))
    rig.step(Tick(running=1))
    rig.get(Revoke((1, 2, 99)))
    assert rig.of(Cancel) == [Cancel(frozenset({2}))]
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].held == (1, 3)
    assert rig.get(Revoke((99,))) == []


# ---------------------------------------------------------------- answers


def test_results_are_numbered_and_kept_until_acknowledged(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11, 12)))
    rig.step(computed(1), computed(2))
    assert rig.seqs == [1, 2]
    rig.get(HeartbeatReply(1, 0, rig.now))
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].held == (2, 3)
    assert rig.sent(Heartbeat)[0].sent_seq == 2


def test_a_grant_acknowledges_results(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.step(computed(1))
    rig.get(Grant(0, 0, 1, 2, (11,)))
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].held == (2,)


def test_a_gap_in_the_numbers_is_sent_again(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11, 12)))
    rig.step(computed(1), computed(2), computed(3))
    rig.get(HeartbeatReply(0, 3, rig.now))
    assert rig.seqs == [1, 2], "3 has arrived"


def test_an_unacknowledged_result_is_sent_again_after_three_heartbeats_then_ever_more_rarely(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11)))
    rig.step(computed(1), computed(2))
    times = []
    start = rig.now
    for _ in range(25):
        rig.get(HeartbeatReply(0, 0, rig.now))
        rig.pass_time(1)
        times += [rig.now - start] * rig.seqs.count(1)
        assert 2 not in rig.seqs, "the oldest will do"
    assert times == [3, 9, 21]


def test_progress_makes_the_resend_interval_short_again(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11)))
    rig.step(computed(1), computed(2))
    rig.pass_time(4)
    rig.get(HeartbeatReply(1, 0, rig.now))
    rig.pass_time(3.5)
    assert rig.seqs == [2]


def test_a_failure_answers_its_lease(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11)))
    rig.step(Failed(SESSION, 0, 0, 1, ERROR))
    assert rig.sent(Failure) == [Failure(0, 0, 1, ERROR)]
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].held == (2,)


def test_answers_of_an_earlier_session_are_dropped(rig: Rig) -> None:
    rig.serve()
    late = (
        computed(1, session=OTHER_SESSION),
        Failed(OTHER_SESSION, 0, 0, 1, ERROR),
        Loaded(OTHER_SESSION, 0, 0, 12, b""),
        LoadFailed(OTHER_SESSION, 0, 0, ERROR),
    )
    assert rig.step(*late) == []


def test_a_sequence_that_cannot_be_built_is_logged_and_reported_and_the_coordinator_decides(rig: Rig) -> None:
    rig.serve()
    rig.step(LoadFailed(SESSION, 0, 0, ERROR))
    assert rig.sent(LoadFailure) == [LoadFailure(0, 0, ERROR)]
    assert rig.of(Note)[0].text.endswith("ValueError: no")
    assert rig.of(Exit) == []
    rig.get(Reject("it cannot build the Sequence"))
    reason = f"it cannot build the Sequence: {ERROR.summary}\n{ERROR.traceback}"
    assert rig.of(Exit) == [Exit(ExitCode.REFUSED, reason)]


def test_log_lines_go_to_the_session_that_is_served(rig: Rig) -> None:
    assert rig.step(Logged(20, "stdout", "early"))[0] == OpenControl(), "there is nobody to hear it"
    assert rig.sent(Log) == []
    rig.get(welcome())
    rig.step(Logged(20, "stdout", "hello"))
    assert rig.sent(Log) == [Log(20, "stdout", "hello")]


# ---------------------------------------------------------------- losing the link


def test_a_broken_link_is_closed_and_opened_anew_with_leases_and_results_kept(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11, 12)))
    rig.step(computed(1), computed(2))
    rig.step(LinkBroken())
    assert rig.of(CloseLink) == [CloseLink()]
    assert rig.of(Cancel) == [], "computing goes on"
    rig.step(computed(3), Failed(SESSION, 0, 0, 9, ERROR))
    assert rig.of(SendResults) == [] and rig.sent(Failure) == []
    rig.pass_time(0.2)
    (hello,) = rig.sent(Hello)
    assert hello.held == (1, 2, 3) and hello.sent_seq == 3
    rig.get(welcome(received_seq=1))
    assert rig.seqs == [2, 3]


def test_a_link_that_breaks_again_and_again_is_opened_ever_more_rarely() -> None:
    rig = Rig(first_reconnect_interval=0.5, max_reconnect_interval=2.0)
    rig.step()
    pauses = []
    for _ in range(4):
        rig.step(LinkBroken(), LinkBroken())
        pauses.append(rig.core.next_deadline() - rig.now)
        rig.pass_time(pauses[-1])
    assert pauses == [0.5, 1.0, 2.0, 2.0]
    rig.get(welcome())
    rig.step(LinkBroken())
    assert rig.core.next_deadline() - rig.now == 0.5, "a welcome makes it prompt again"


def test_the_session_of_a_coordinator_that_stays_away_is_dropped_with_its_memory(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (5, 6)))
    rig.step(computed(1))
    rig.step(LinkBroken())
    rig.pass_time(29.0)
    assert not rig.of(Cancel)
    rig.pass_time(1.5)
    assert rig.of(Cancel) == [Cancel(None)]
    rig.pass_time(60.0)
    assert not rig.of(Cancel)
    assert {(action.session, action.message.held) for action in rig.of(Send)} == {(NO_ID, ())}  # type: ignore[union-attr]


def test_results_are_numbered_on_for_a_coordinator_that_comes_back_too_late(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (5, 6)))
    rig.step(computed(1))
    rig.step(computed(2))
    rig.step(LinkBroken())
    rig.pass_time(60.0)
    rig.get(welcome(received_seq=1))
    assert not rig.seqs, "it has leased to others what it did not get"
    rig.get(Epoch(0, 0, 7, None), Grant(0, 0, 0, 3, (6,)))
    rig.step(computed(3))
    assert rig.seqs == [2]


def test_a_worker_waits_the_full_time_again_after_each_return_of_its_coordinator(rig: Rig) -> None:
    rig.serve()
    for _ in range(3):
        rig.step(LinkBroken())
        rig.pass_time(20.0)
        assert not rig.of(Cancel)
        rig.get(welcome())


def test_a_local_worker_logs_a_broken_link_at_debug_level_only() -> None:
    rig = Rig(reconnects=False)
    rig.serve()
    rig.step(LinkBroken())
    assert [note.level for note in rig.of(Note)] == [logging.DEBUG]


def test_a_trainer_that_stays_away_is_told_once_and_not_at_each_attempt(rig: Rig) -> None:
    rig.serve()
    rig.step(LinkBroken())
    assert [note.level for note in rig.of(Note)] == [logging.WARNING]
    for _ in range(3):
        rig.pass_time(2.0)
        rig.step(LinkBroken())
        assert [note.level for note in rig.of(Note)] == [logging.DEBUG], "the supervisor says why, once for all"


def test_only_the_first_build_of_a_session_is_logged(rig: Rig) -> None:
    rig.serve()
    rig.step(Loaded(SESSION, 0, 0, 12, b""))
    rig.get(Epoch(1, 0, 7, None))
    rig.step(Loaded(SESSION, 1, 0, 12, b""))
    assert rig.of(Note) == [] and len(rig.sent(Ready)) == 1


def test_a_reply_with_a_clock_ahead_of_the_workers_measures_no_round_trip(rig: Rig) -> None:
    rig.serve()
    rig.get(HeartbeatReply(0, 0, rig.now + 5))
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].round_trip == 0.0


def test_an_error_that_the_trainer_raises_is_no_error_in_a_local_workers_log() -> None:
    rig = Rig(reconnects=False)
    rig.serve()
    rig.step(LoadFailed(SESSION, 0, 0, ERROR))
    notes = rig.of(Note)
    rig.get(Reject("it cannot build the Sequence"))
    assert max(note.level for note in [*notes, *rig.of(Note)]) < logging.WARNING


def test_a_trainer_that_has_just_ended_is_no_warning_of_each_process() -> None:
    """It accepts a last connection while it closes."""
    rig = Rig(reconnects=True)
    rig.step()
    rig.step(LinkBroken())
    assert max(note.level for note in rig.of(Note)) < logging.WARNING
    rig.pass_time(1)
    rig.get(welcome())
    rig.step(LinkBroken())
    assert max(note.level for note in rig.of(Note)) == logging.WARNING


def test_a_trainer_that_does_not_run_yet_is_no_warning_of_each_process() -> None:
    """The supervisor says it, once for all its processes."""
    rig = Rig(reconnects=True)
    rig.step()
    rig.pass_time(100)
    assert any("silent" in note.text for note in rig.of(Note))
    assert max(note.level for note in rig.of(Note)) < logging.WARNING


def test_a_silent_coordinator_is_left_for_a_fresh_link(rig: Rig) -> None:
    rig.serve()
    rig.pass_time(31)
    assert any("silent" in note.text for note in rig.of(Note))
    assert len(rig.of(OpenControl)) == 1


def test_a_process_that_was_stopped_does_not_take_its_own_pause_for_silence(rig: Rig) -> None:
    rig.serve()
    rig.step(after=3600)
    assert rig.of(CloseLink) == []
    assert len(rig.sent(Heartbeat)) == 1


def test_heartbeats_come_every_interval_and_measure_the_round_trip(rig: Rig) -> None:
    rig.serve()
    rig.step(Tick(running=4))
    rig.pass_time(1)
    (beat,) = rig.sent(Heartbeat)
    assert (beat.running, beat.sent_at, beat.round_trip) == (4, rig.now, 0.0)
    rig.get(HeartbeatReply(0, 0, beat.sent_at), after=0.25)
    rig.pass_time(1)
    assert rig.sent(Heartbeat)[0].round_trip == 0.25


# ---------------------------------------------------------------- sessions end


def test_after_the_end_of_a_session_a_remote_worker_looks_for_the_next(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.get(Stop())
    assert rig.of(Cancel) == [Cancel(None)] and rig.of(CloseLink) == [CloseLink()]
    rig.pass_time(0.2)
    (hello,) = rig.sent(Hello)
    assert hello.held == () and rig.of(Send)[0].session == NO_ID


def test_a_message_behind_a_stop_is_ignored_because_its_link_is_closed(rig: Rig) -> None:
    rig.serve()
    rig.step(Received(SESSION, Stop()), Received(OTHER_SESSION, welcome()))
    assert rig.core.phase is Phase.OFFLINE and rig.of(OpenData) == []
    rig.pass_time(0.2)
    assert rig.sent(Hello) and rig.core.phase is Phase.HELLO


def test_a_worker_for_one_session_exits_with_it() -> None:
    rig = Rig(once=True)
    rig.serve()
    rig.get(Stop())
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]


def test_a_local_worker_waits_for_its_trainer_to_name_the_next_session() -> None:
    rig = Rig(reconnects=False)
    rig.serve()
    rig.get(Stop())
    assert rig.of(Exit) == [] and rig.core.next_deadline() == math.inf
    rig.step(EndpointGiven(b"new"))
    assert isinstance(rig.actions[0], OpenControl)
    assert rig.sent(Hello)[0].secret == b"new"


def test_a_stop_and_the_address_of_the_next_session_may_come_together() -> None:
    rig = Rig(reconnects=False)
    rig.step()
    rig.step(Received(SESSION, welcome()), Received(SESSION, Stop()), EndpointGiven(b"new"))
    assert rig.core.phase is Phase.HELLO
    assert rig.sent(Hello)[-1].secret == b"new"


def test_the_address_of_another_session_ends_the_current_one() -> None:
    rig = Rig(reconnects=False)
    rig.serve()
    rig.step(EndpointGiven(b"new"))
    assert [type(action) for action in rig.actions] == [CloseLink, Cancel, OpenControl, Send]
    assert rig.of(Send)[0].session == NO_ID


# ---------------------------------------------------------------- leaving


def test_a_drain_answers_all_leases_then_says_how_many_results_there_were(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10, 11)))
    rig.step(DrainRequested())
    assert rig.sent(Drain) == [Drain()] and rig.sent(Goodbye) == []
    rig.step(computed(1))
    rig.step(Failed(SESSION, 0, 0, 2, ERROR))
    assert rig.sent(Goodbye) == [Goodbye(1)]
    rig.get(Grant(0, 0, 0, 3, (12,)))
    assert rig.of(Compute) == [], "it takes no more"
    rig.pass_time(1)
    assert rig.sent(Goodbye) == [Goodbye(1)], "repeated until it is answered"
    rig.get(Bye())
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]


def test_a_bye_is_ignored_by_a_worker_that_does_not_drain(rig: Rig) -> None:
    rig.serve()
    assert rig.get(Bye()) == []


def test_an_idle_worker_says_goodbye_at_once_and_a_second_request_changes_nothing(rig: Rig) -> None:
    rig.serve()
    rig.step(DrainRequested(), DrainRequested())
    assert [type(message) for message in (action.message for action in rig.of(Send))] == [Drain, Goodbye]


def test_a_drain_without_a_session_is_the_end(rig: Rig) -> None:
    rig.step()
    rig.step(DrainRequested())
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]


def test_a_drain_during_a_broken_link_goes_on_over_the_next(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.step(LinkBroken())
    rig.step(DrainRequested())
    rig.step(computed(1))
    rig.pass_time(0.2)
    rig.get(welcome())
    assert rig.seqs == [1]
    assert rig.sent(Drain) == [Drain()] and rig.sent(Goodbye) == [Goodbye(1)]


@pytest.mark.parametrize("indices", [(), (10,)], ids=["leaving", "draining"])
def test_a_drain_goes_on_in_another_session_on_the_same_link(rig: Rig, indices: tuple[int, ...]) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, indices))
    rig.step(DrainRequested())
    assert rig.core.phase is (Phase.DRAINING if indices else Phase.LEAVING)
    rig.get(welcome(), session=OTHER_SESSION)
    assert rig.core.phase is Phase.LEAVING, "the other session has granted nothing"
    assert [(action.session, type(action.message)) for action in rig.of(Send)] == [
        (OTHER_SESSION, Drain),
        (OTHER_SESSION, Goodbye),
    ]


def test_a_drain_ends_at_its_deadline_whatever_is_open() -> None:
    rig = Rig(drain_timeout=5.0)
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.step(DrainRequested())
    rig.pass_time(4.9)
    assert rig.of(Exit) == []
    rig.pass_time(0.2)
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]
    assert any("deadline" in note.text for note in rig.of(Note))


def test_the_drain_deadline_holds_without_a_link_too() -> None:
    rig = Rig(drain_timeout=5.0, first_reconnect_interval=60, max_reconnect_interval=60)
    rig.serve()
    rig.step(LinkBroken())
    rig.step(DrainRequested())
    rig.pass_time(5)
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]


def test_the_end_of_the_session_ends_a_drain() -> None:
    rig = Rig(reconnects=False)
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (10,)))
    rig.step(DrainRequested())
    rig.get(Stop())
    assert rig.of(Exit) == [Exit(ExitCode.DONE)]


def test_a_worker_that_has_computed_its_share_drains_and_is_recycled(rig: Rig) -> None:
    rig.serve(max_batches=2)
    rig.get(Grant(0, 0, 0, 1, (10, 11, 12)))
    rig.step(computed(1))
    assert rig.sent(Drain) == []
    rig.step(computed(2))
    assert rig.sent(Drain) == [Drain()]
    rig.step(computed(3))
    assert rig.sent(Goodbye) == [Goodbye(3)]
    rig.get(Bye())
    assert rig.of(Exit) == [Exit(ExitCode.RECYCLE)]


# ---------------------------------------------------------------- shared memory


def test_no_blocks_makes_a_worker_send_kept_and_later_results_as_frames(rig: Rig) -> None:
    rig.serve()
    rig.get(Grant(0, 0, 0, 1, (0, 1, 2)))
    rig.step(computed(1))
    rig.step(computed(2))
    assert [action.blocks for action in rig.of(SendResults)] == [True]
    rig.get(NoBlocks())
    assert rig.of(LeaveSharedMemory)
    assert [(action.seq, action.blocks) for action in rig.of(SendResults)] == [(1, False), (2, False)]
    rig.get(NoBlocks())
    assert rig.actions == [], "each message that was on the way had it said"
    rig.step(computed(3))
    assert [(action.seq, action.blocks) for action in rig.of(SendResults)] == [(3, False)]
