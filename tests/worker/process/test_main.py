"""One real worker process against a scripted coordinator on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer.memory.segment import SharedSegment
from enqueuer.protocol.batch import Trust
from enqueuer.protocol.live_object import live_state, pack_bundle
from enqueuer.protocol.messages import (
    Bye,
    Drain,
    Epoch,
    ExitCode,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    LoadFailure,
    Log,
    Ready,
    Reject,
    Revoke,
    Stop,
    WhoAreYou,
)
from enqueuer_worker.settings import Settings
from enqueuer_worker.supervisor.children import Child
from tests.support.waiting import wait_until
from tests.worker.scripted_coordinator import ScriptedCoordinator

NUMBERS = ["tests.worker.sequences:Numbers", {}]
SUPERVISOR = "ab" * 16

Start = Callable[..., Child]


def moody(note: Path | None = None, **moods: str) -> list[Any]:
    """``i3="raise"``: item 3 raises."""
    by_index = {name.removeprefix("i"): mood for name, mood in moods.items()}
    return ["tests.worker.sequences:Moody", {"moods": by_index, "note": str(note or "")}]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a worker process as a supervisor does; it is killed after the test."""
    children: list[Child] = []

    def start_one(coordinator: ScriptedCoordinator, **options: Any) -> Child:
        options = {"packages": ("tests",), "log_level": "WARNING", "sys_path": tuple(sys.path), **options}
        settings = Settings(connect=coordinator.address, supervisor=SUPERVISOR, name="test", **options)
        children.append(Child(settings, 3, 0.0))
        return children[-1]

    yield start_one
    for child in children:
        child.kill()
        child.wait(5.0)
        child.close()


def exit_code(child: Child) -> int:
    child.wait(10.0)
    code = child.exit_code()
    assert code is not None, "the process goes on"
    return code


def test_a_worker_introduces_itself_in_its_hello(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        child = start(coordinator, secret="beef")
        _, hello = coordinator.expect(Hello)
    assert (hello.worker_id, hello.child_number, hello.pid) == ("test-3", 3, child.pid)
    assert (hello.incarnation, hello.supervisor.hex()) == (child.incarnation, SUPERVISOR)
    assert hello.secret == b"\xbe\xef"
    assert hello.numpy_version == np.__version__


def test_a_worker_builds_the_sequence_and_computes_its_leases(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        start(coordinator)
        (route,) = coordinator.let_in()
        coordinator.send(route, Epoch(0, 0, 7, None))
        _, ready = coordinator.expect(Ready)
        assert ready.length == 1000 and ready.digest
        coordinator.grant(route, 1, [5, 3, 9])
        batches = coordinator.batches(3)
    assert [batches[lease][0] for lease in (1, 2, 3)] == [5, 3, 9]
    np.testing.assert_array_equal(batches[3][1], [81] * 4)


def test_many_small_batches_share_few_messages(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, range(1000))
        batches = coordinator.batches(1000)
        messages = coordinator.received
    assert [batches[lease][0] for lease in range(1, 1001)] == list(range(1000))
    assert len(messages) < 200
    assert [header.seq for header, _ in messages] == list(range(1, len(messages) + 1))


def test_a_fast_batch_does_not_wait_for_a_slow_one_behind_it(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ScriptedCoordinator(sequence=moody(i1=f"wait for {gate}")) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0, 1])
        assert list(coordinator.batches(1)) == [1]
        gate.touch()
        assert list(coordinator.batches(1)) == [2]


def test_a_large_batch_arrives_whole(start: Start) -> None:
    size = 1_000_000
    with ScriptedCoordinator(sequence=["tests.worker.sequences:Numbers", {"size": size}]) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [3, 4])
        batches = coordinator.batches(2)
    np.testing.assert_array_equal(batches[2][1], np.full(size, 16))


def test_an_items_error_is_its_answer_and_the_worker_goes_on(start: Start) -> None:
    sequence = moody(i0="raise", i1="exit", i2="interrupt", i3="unsendable")
    with ScriptedCoordinator(sequence=sequence) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0, 1, 2, 3, 4])
        assert coordinator.batches(1)[5][0] == 4
        coordinator.expect(Failure, lambda failure: failure.lease == 4)
        failures = coordinator.all_of(Failure)
    assert [failure.error.qualname for failure in failures] == [
        "ValueError",
        "SystemExit",
        "KeyboardInterrupt",
        "SequenceError",
    ]
    assert failures[0].error.text == "no item 0"
    assert "sequences.py" in failures[0].error.traceback


def test_user_code_cannot_read_its_supervisors_commands(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="stdin")) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        assert coordinator.batches(1) == {1: ""}


def test_a_target_that_is_not_allowed_is_refused_with_the_option_that_would_allow_it(start: Start) -> None:
    with ScriptedCoordinator(sequence=["os:getcwd", {}]) as coordinator:
        child = start(coordinator)
        (route,) = coordinator.let_in()
        coordinator.send(route, Epoch(0, 0, 7, None))
        _, failure = coordinator.expect(LoadFailure)
        assert "--sequence os:getcwd" in failure.error.text
        coordinator.send(route, Reject("it cannot build the Sequence"))
        assert exit_code(child) == ExitCode.REFUSED


@pytest.mark.proves("a remote worker cannot import or build it")
def test_a_sequence_that_cannot_be_built_is_reported_and_ends_the_process(start: Start) -> None:
    with ScriptedCoordinator(sequence=["tests.worker.sequences:broken", {}]) as coordinator:
        child = start(coordinator)
        (route,) = coordinator.let_in()
        coordinator.send(route, Epoch(0, 0, 7, None))
        _, failure = coordinator.expect(LoadFailure)
        assert failure.error.text == "the dataset is not here"
        coordinator.send(route, Reject("it cannot build the Sequence"))
        assert exit_code(child) == ExitCode.REFUSED
    assert child.rejection().startswith("it cannot build the Sequence: OSError: the dataset is not here\nTraceback")


def test_a_rejection_ends_the_process_and_leaves_the_reason_to_its_supervisor(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        child = start(coordinator)
        route, _ = coordinator.expect(Hello)
        coordinator.send(route, Reject("wrong NumPy"), session=b"")
        assert exit_code(child) == ExitCode.REFUSED
    assert child.rejection() == "wrong NumPy"


def test_heartbeats_go_on_during_a_long_item_and_name_it(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {gate}")) as coordinator:
        child = start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 7, [0, 1])
        _, beat = coordinator.expect(Heartbeat, lambda beat: beat.running == 7)
        assert beat.held == (7, 8)
        assert child.running().lease == 7
        coordinator.send(route, Revoke((8,)))
        coordinator.expect(Heartbeat, lambda beat: beat.held == (7,))
        gate.touch()
        assert list(coordinator.batches(1)) == [7]
        coordinator.expect(Heartbeat, lambda beat: beat.held == () and beat.running == 0)
        assert len(coordinator.received) == 1, "the revoked lease was not computed"


def test_the_running_lease_of_a_dead_worker_can_be_read(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i1="die")) as coordinator:
        child = start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0, 1, 2])
        assert exit_code(child) == -signal.SIGKILL
        assert child.running().lease == 2


def test_a_drain_answers_all_leases_says_goodbye_and_closes_the_sequence(start: Start, tmp_path: Path) -> None:
    gate, note = tmp_path / "gate", tmp_path / "note"
    with ScriptedCoordinator(sequence=moody(note, i0=f"wait for {gate}")) as coordinator:
        child = start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0, 1])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        child.send({"drain": True})
        coordinator.expect(Drain)
        gate.touch()
        assert len(coordinator.batches(2)) == 2
        _, goodbye = coordinator.expect(Goodbye)
        assert goodbye.sent_seq == len(coordinator.received)
        assert child.exit_code() is None, "it waits until everything has arrived"
        coordinator.send(route, Bye())
        assert exit_code(child) == ExitCode.DONE
    assert note.read_text() == "closed"


def test_a_lost_coordinator_is_found_again_and_gets_unacknowledged_results(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as first:
        start(first)
        first.acknowledge = False
        route = first.serve()
        first.grant(route, 1, [3])
        first.batches(1)
        address, session = first.address, first.session
    with ScriptedCoordinator(address, sequence=NUMBERS) as second:
        second.session = session
        _, hello = second.expect(Hello)
        assert hello.held == (1,)
        second.let_in()
        assert second.batches(1)[1][0] == 3


def test_a_new_coordinator_on_the_same_address_gets_no_results_of_the_old_one(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as first:
        start(first)
        route = first.serve()
        first.acknowledge = False
        first.grant(route, 1, [3])
        first.batches(1)
        address = first.address
    with ScriptedCoordinator(address, sequence=NUMBERS) as second:
        route = second.serve()
        second.grant(route, 1, [8])
        assert second.batches(1)[1][0] == 8


def test_a_worker_waits_for_a_coordinator_that_starts_later(start: Start) -> None:
    with ScriptedCoordinator() as first:
        address = first.address
        start(first)
    with ScriptedCoordinator(address) as second:
        second.expect(Hello)
        second.poll(300)
        assert len(second.all_of(Hello)) == 1, "no heap of old ones"


def test_who_are_you_is_answered(start: Start) -> None:
    with ScriptedCoordinator() as coordinator:
        start(coordinator)
        (route,) = coordinator.let_in()
        coordinator.send(route, WhoAreYou(), session=b"")
        assert coordinator.expect(Hello)[0] == route


def test_a_local_worker_takes_a_live_object_then_its_next_session(start: Start, tmp_path: Path) -> None:
    class Here:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return {index, "a set needs a pickle"}

    segment = SharedSegment.create(pack_bundle(Here()), directory=tmp_path)
    address = f"ipc://{tmp_path}/control"
    with ScriptedCoordinator(address, Trust.LOCAL) as first:
        child = start(first, trust="local", reconnects=False, forward_logs=False, packages=())
        route = first.serve(state=live_state(segment.path))
        first.grant(route, 1, [2])
        assert first.batches(1) == {1: {2, "a set needs a pickle"}}
        first.send(route, Stop())
        first.poll(100)
    (tmp_path / "next").mkdir()
    with ScriptedCoordinator(f"ipc://{tmp_path}/next/control", Trust.LOCAL) as second:
        child.send({"connect": second.address, "secret": "0102"})
        _, hello = second.expect(Hello)
        assert hello.secret == b"\1\2" and hello.incarnation == child.incarnation
    segment.close()


def test_printed_and_logged_lines_reach_the_trainer_and_stderr(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedCoordinator(sequence=moody(i0="talk")) as coordinator:
        start(coordinator, log_level="INFO")
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Log, lambda line: "warned" in line.text)
        lines = {(line.logger, line.text.splitlines()[0].rpartition(" ")[2]) for line in coordinator.all_of(Log)}
    assert lines >= {("stdout", "printed"), ("stderr", "complained"), ("user.code", "logged")}
    output = capfd.readouterr()
    assert "printed" in output.out
    assert "complained" in output.err and "logged" in output.err and "warned" in output.err


def test_signals_from_a_terminal_do_not_end_a_worker(start: Start) -> None:
    with ScriptedCoordinator(sequence=NUMBERS) as coordinator:
        child = start(coordinator)
        route = coordinator.serve()
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGTERM)
        coordinator.grant(route, 1, [3])
        assert coordinator.batches(1)[1][0] == 3


def test_processes_of_user_code_can_still_be_terminated(start: Start) -> None:
    with ScriptedCoordinator(sequence=moody(i0="terminate")) as coordinator:
        start(coordinator)
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        assert coordinator.batches(1) == {1: [signal.SIGTERM, signal.SIGTERM]}


def test_a_worker_ends_with_its_supervisor_even_in_the_middle_of_an_item(start: Start, tmp_path: Path) -> None:
    program = f"""
import sys, time
from enqueuer_worker.supervisor.children import Child
from enqueuer_worker.settings import Settings
names = {{"connect": sys.argv[1], "supervisor": "{SUPERVISOR}", "name": "test"}}
child = Child(Settings(**names, packages=("tests",), sys_path=tuple(sys.path)), 0, 0.0)
print(child.pid, flush=True)
time.sleep(60)
"""
    with ScriptedCoordinator(sequence=moody(i0=f"wait for {tmp_path}/never")) as coordinator:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", program, coordinator.address], stdout=subprocess.PIPE, env=with_paths()
        )
        assert supervisor.stdout is not None
        with supervisor.stdout:
            pid = int(supervisor.stdout.readline())
        route = coordinator.serve()
        coordinator.grant(route, 1, [0])
        coordinator.expect(Heartbeat, lambda beat: beat.running == 1)
        supervisor.kill()
        supervisor.wait()
        wait_until(lambda: not is_running(pid), what="the worker's end")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def with_paths() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
