"""When a supervisor looks for the reason of its failures, what it logs, and when it gives up. The looks are real."""

from __future__ import annotations

import logging
import socket
import threading

import pytest
import zmq

from enqueuer_worker.connection import Refusal
from enqueuer_worker.repeats import RepeatedNotes
from enqueuer_worker.supervisor.diagnosis import Diagnosis
from tests.support.remote import free_address
from tests.support.waiting import wait_until


class Rig:
    """A diagnosis with a clock of the test's own."""

    def __init__(self, address: str, *, has_token: bool = False) -> None:
        self.now = 100.0
        self.diagnosis = Diagnosis(
            RepeatedNotes(logging.getLogger("enqueuer.worker.test")), address, has_token=has_token
        )

    def turn(self, seconds: float = 0.0, *, is_connected: bool = False) -> None:
        self.now += seconds
        self.diagnosis.handle(self.now, is_connected=is_connected)

    def wait_for_look(self, *, is_connected: bool = False) -> None:
        """Until no look is going on."""

        def is_done() -> bool:
            self.turn(is_connected=is_connected)
            return self.diagnosis.next_deadline(self.now) > self.now + 1

        wait_until(is_done, 20.0, "the end of a look")


def test_a_failed_attempt_is_explained_at_once_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(free_address())
    for _ in range(100):
        rig.diagnosis.failed(None, rig.now)
        rig.turn(2.0)
        rig.wait_for_look()
    first, *more = [record.getMessage() for record in caplog.records]
    assert "the connection is refused; the trainer does not run yet" in first
    counts = [int(line.partition(" times in ")[0].rpartition("(")[2]) for line in more]
    assert 2 <= len(more) <= 4 and all(line.startswith("still: no trainer listens") for line in more), more
    assert counts == sorted(set(counts))


def test_silence_is_a_reason_to_look(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(free_address())
    rig.diagnosis.opened(rig.now)
    rig.turn(2.9)
    assert rig.diagnosis.next_deadline(rig.now) > rig.now, "nothing is looked at yet"
    rig.turn(0.2)
    rig.wait_for_look()
    assert "no trainer listens" in caplog.text


def test_a_zeromq_program_without_an_answer_is_told_only_once_it_is_connected_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = zmq.Context()
    reply = context.socket(zmq.REP)
    reply.bind("tcp://127.0.0.1:*")
    rig = Rig(reply.getsockopt_string(zmq.LAST_ENDPOINT))
    rig.diagnosis.failed(None, rig.now)
    rig.turn()
    rig.wait_for_look()
    assert not caplog.records, "a trainer that has just started looks the same"
    rig.turn(is_connected=True)
    rig.turn(4.0, is_connected=True)
    rig.wait_for_look(is_connected=True)
    assert "does not answer as a trainer" in caplog.text
    reply.close(0)
    context.term()


def test_an_answer_of_the_trainer_ends_the_search(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig = Rig(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        rig.diagnosis.failed(None, rig.now)
        rig.turn()
        looking = [thread for thread in threading.enumerate() if thread.name == "enqueuer-look"]
        rig.diagnosis.answered()
        for thread in looking:
            thread.join(20.0)
        rig.turn(100.0)
    assert looking and not caplog.records


def test_an_unknown_key_is_final_and_other_keys_are_once_confirmed(caplog: pytest.LogCaptureFixture) -> None:
    unknown = Rig("tcp://trainer:5555", has_token=True)
    unknown.diagnosis.failed(Refusal.KEY, unknown.now)
    assert unknown.diagnosis.is_final and "does not know this worker's key" in caplog.text

    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind("tcp://127.0.0.1:*")
    other = Rig(router.getsockopt_string(zmq.LAST_ENDPOINT), has_token=True)
    looks_count = 0
    while not other.diagnosis.is_final:
        other.diagnosis.failed(Refusal.UNCLEAR, other.now)
        other.turn(60.0)
        other.wait_for_look()
        looks_count += 1
    assert looks_count == 3, "a trainer that ends in the middle of a handshake looks the same"
    assert caplog.text.count("has no keys, so it is not the one that this token is for; it was started") == 1
    router.close(0)
    context.term()
